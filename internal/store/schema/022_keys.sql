-- auth, continued: keys of users, and roles.
--
-- last_used is written at most once a minute and key, so it may be a minute old.
-- A role is a principal without keys of its own: whoever runs under it gets
-- temporary credentials, which are sealed tokens and no rows. They name the
-- role's id, so that those of a deleted role do not work for one that is made
-- later under its name. Every account starts with the role onbehalf-default.

ALTER TABLE access_keys ADD COLUMN last_used BIGINT NOT NULL DEFAULT 0; -- 0: never

CREATE TABLE roles (
	account TEXT NOT NULL REFERENCES accounts (account) ON DELETE CASCADE,
	name    TEXT NOT NULL,
	id      TEXT NOT NULL, -- immutable, never used again
	created BIGINT NOT NULL,
	PRIMARY KEY (account, name)
);

INSERT INTO roles (account, name, id, created) SELECT account, 'onbehalf-default', 'onbehalf-default', created FROM accounts;
