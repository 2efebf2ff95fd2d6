-- policy: what principals may do.
--
-- IAM policy documents, attached by name to a user or a role. The document is
-- kept as it was written; it was parsed before it was stored, and is parsed again
-- when it is read. A principal's policies outlive its keys: they are found by the
-- principal's ARN.

CREATE TABLE principal_policies (
	account   TEXT NOT NULL,
	principal TEXT NOT NULL,   -- arn:aws:iam::ACCOUNT:user/NAME or :role/NAME
	name      TEXT NOT NULL,
	document  TEXT NOT NULL,   -- JSON
	created   BIGINT NOT NULL,
	updated   BIGINT NOT NULL,
	PRIMARY KEY (principal, name)
);

CREATE INDEX principal_policies_by_account ON principal_policies (account, principal, name);
