-- broker: the API-key credential providers. One row is one key; an update
-- replaces it whole, so that a reader gets the old key or the new one.

CREATE TABLE api_key_providers (
	id             TEXT PRIMARY KEY,        -- random: a re-created name is another provider
	account        TEXT NOT NULL,
	name           TEXT NOT NULL,
	secret_suffix  TEXT NOT NULL,           -- the six letters at the end of apiKeySecretArn
	api_key        BYTES NOT NULL,          -- sealed, bound to id and version
	tags           TEXT NOT NULL,           -- JSON object
	version        BIGINT NOT NULL,         -- grows with each update
	created        BIGINT NOT NULL,
	updated        BIGINT NOT NULL,
	UNIQUE (account, name)
);
