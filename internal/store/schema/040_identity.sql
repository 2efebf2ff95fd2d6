-- identity: who an agent is, and what has been said about its tokens.
--
-- Workload access tokens themselves are nowhere in here: they are sealed and
-- carry their own content. These tables hold what a token cannot carry: that
-- its workload still exists, an inbound JWT too large for it, and the moment
-- before which a user's tokens count as revoked.

CREATE TABLE workload_identities (
	id          TEXT PRIMARY KEY,           -- random and never used again: a re-created name is another workload
	account     TEXT NOT NULL,
	name        TEXT NOT NULL,
	owner       TEXT NOT NULL,              -- ARN of the gateway or runtime that owns it, '' for a caller's own
	return_urls TEXT NOT NULL,              -- JSON array, compared byte for byte
	tags        TEXT NOT NULL,              -- JSON object
	created     BIGINT NOT NULL,
	updated     BIGINT NOT NULL,
	UNIQUE (account, name)
);

-- Inbound JWTs that do not fit into a token, sealed, until they or the token end.
CREATE TABLE workload_inbound_tokens (
	id          TEXT PRIMARY KEY,
	account     TEXT NOT NULL,
	workload_id TEXT NOT NULL REFERENCES workload_identities (id) ON DELETE CASCADE,
	sealed      BYTES NOT NULL,
	expires     BIGINT NOT NULL
);
CREATE INDEX workload_inbound_tokens_by_workload ON workload_inbound_tokens (workload_id);
CREATE INDEX workload_inbound_tokens_by_expiry ON workload_inbound_tokens (expires);

-- Tokens of this workload and user that were issued at or before the time do
-- not open any more. A row is of no use once the longest-lived token has ended.
CREATE TABLE workload_token_cutoffs (
	account     TEXT NOT NULL,
	workload_id TEXT NOT NULL REFERENCES workload_identities (id) ON DELETE CASCADE,
	user_key    TEXT NOT NULL,              -- principal.User in one line, '' for tokens without a user
	not_before  BIGINT NOT NULL,
	PRIMARY KEY (workload_id, user_key)
);
