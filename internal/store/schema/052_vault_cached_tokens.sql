-- vault, second part: tokens that a provider gives again for the asking, because
-- nobody has to consent: a client's own (M2M), and those traded for a user's
-- sign-in token (on behalf of). Losing a row costs one request.

CREATE TABLE cached_tokens (
	id             TEXT PRIMARY KEY,        -- random: a row made again is another one, whatever its fence says
	account        TEXT NOT NULL,
	lookup         TEXT NOT NULL,           -- keyed MAC over all that the token was asked with, secrets among it
	workload_id    TEXT NOT NULL REFERENCES workload_identities (id) ON DELETE CASCADE,
	provider_id    TEXT NOT NULL REFERENCES oauth2_providers (id) ON DELETE CASCADE,
	access_token   BYTES,                   -- sealed, bound to id and version; none while the first is being fetched
	expires        BIGINT NOT NULL,         -- 0 while there is no token
	version        BIGINT NOT NULL,         -- of the token; 0 while there is none
	lease_holder   TEXT NOT NULL,           -- the process that is fetching, '' for none
	lease_until    BIGINT NOT NULL,
	fence          BIGINT NOT NULL,         -- grows with each lease; a holder that lost it cannot store
	created        BIGINT NOT NULL,
	refreshed      BIGINT NOT NULL,         -- when the token came
	UNIQUE (account, lookup)
);
CREATE INDEX cached_tokens_by_workload ON cached_tokens (workload_id);
CREATE INDEX cached_tokens_by_provider ON cached_tokens (provider_id);
CREATE INDEX cached_tokens_by_expiry ON cached_tokens (expires);
