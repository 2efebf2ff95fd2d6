-- auth: who may call.
--
-- Accounts are tenants; the rows of every other room name one. Access keys sign
-- requests: the secret is sealed (context: account, "access-key-secret", id,
-- version 1) and never changes, so a new secret is a new key. Authorizers say
-- which JWTs prove a user to a gateway or runtime; VerifyUser reads them when a
-- session that began there is completed through the API.

CREATE TABLE accounts (
	account TEXT PRIMARY KEY, -- 12 digits
	created BIGINT NOT NULL
);

CREATE TABLE access_keys (
	id      TEXT PRIMARY KEY, -- 20 characters, AKIA…; unique over all accounts, so it names its account
	account TEXT NOT NULL REFERENCES accounts (account) ON DELETE CASCADE,
	arn     TEXT NOT NULL,     -- the principal: arn:aws:iam::ACCOUNT:root
	root    SMALLINT NOT NULL, -- 1: may do everything in its account
	state   TEXT NOT NULL,     -- 'active'; anything else is refused within a second
	secret  BYTES NOT NULL,    -- sealed
	created BIGINT NOT NULL
);

CREATE INDEX access_keys_by_account ON access_keys (account);

CREATE TABLE authorizers (
	owner      TEXT PRIMARY KEY, -- ARN of the gateway or runtime
	account    TEXT NOT NULL,
	definition TEXT NOT NULL,    -- JSON of auth.Authorizer
	updated    BIGINT NOT NULL
);
