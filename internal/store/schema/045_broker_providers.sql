-- broker, first part: the OAuth2 credential providers. It comes before vault's
-- tables because grants refer to their provider and go with it.

CREATE TABLE oauth2_providers (
	id             TEXT PRIMARY KEY,        -- random: what hung on a deleted provider never hangs on its successor
	account        TEXT NOT NULL,
	name           TEXT NOT NULL,
	vendor         TEXT NOT NULL,
	callback_id    TEXT NOT NULL UNIQUE,    -- derived from account and name, so that it survives re-creation
	secret_suffix  TEXT NOT NULL,           -- the six letters at the end of clientSecretArn
	issuer         TEXT NOT NULL,           -- these three are what a grant remembers; they also stand in metadata
	token_endpoint TEXT NOT NULL,
	client_id      TEXT NOT NULL,
	client_secret  BYTES NOT NULL,          -- sealed, bound to id and version
	auth_method    TEXT NOT NULL,           -- client_secret_basic | client_secret_post
	metadata       TEXT NOT NULL,           -- JSON, RFC 8414 names: found by discovery, or as given
	discovery_url  TEXT NOT NULL,           -- '' where metadata was given explicitly
	tags           TEXT NOT NULL,           -- JSON object
	version        BIGINT NOT NULL,         -- grows with each update
	created        BIGINT NOT NULL,
	updated        BIGINT NOT NULL,
	UNIQUE (account, name)
);
