-- vault, third part: the table of grants made anew, for a million of them.
--
-- Where a grant was made is written once per provider and not in each grant; the
-- lookup is the first 22 characters (132 bits) of the hash, and unique by itself,
-- since the workload's id is part of it; each index ends with what lists are
-- sorted by; ID tokens, which nothing read, are not kept any more.

CREATE TABLE grant_origins (
	number         BIGINT PRIMARY KEY,
	account        TEXT NOT NULL,
	provider_id    TEXT NOT NULL REFERENCES oauth2_providers (id) ON DELETE CASCADE,
	issuer         TEXT NOT NULL,
	token_endpoint TEXT NOT NULL,
	client_id      TEXT NOT NULL,
	UNIQUE (provider_id, issuer, token_endpoint, client_id)
);
INSERT INTO grant_origins (number, account, provider_id, issuer, token_endpoint, client_id)
SELECT ROW_NUMBER() OVER (ORDER BY account, provider_id, issuer, token_endpoint, client_id), account, provider_id, issuer, token_endpoint, client_id
FROM (SELECT DISTINCT account, provider_id, issuer, token_endpoint, client_id FROM grants) AS made;

CREATE TABLE slim_grants (
	id               TEXT PRIMARY KEY,
	account          TEXT NOT NULL,
	lookup           TEXT NOT NULL UNIQUE,    -- of SHA-256 over the columns from workload_id to audiences
	workload_id      TEXT NOT NULL REFERENCES workload_identities (id) ON DELETE CASCADE,
	user_issuer      TEXT NOT NULL,
	user_subject     TEXT NOT NULL,
	user_id          TEXT NOT NULL,
	provider_id      TEXT NOT NULL REFERENCES oauth2_providers (id) ON DELETE CASCADE,
	label            TEXT NOT NULL,           -- of several accounts of the user there; '' for the unnamed one
	resources        TEXT NOT NULL,           -- JSON array, sorted; '' for none
	audiences        TEXT NOT NULL,           -- JSON array, sorted; '' for none
	asked            TEXT NOT NULL,           -- the scopes consent was asked for, sorted, one space between
	granted          TEXT NOT NULL,           -- the scopes the provider said it gave; '' where it said nothing
	state            TEXT NOT NULL,           -- active | needs-consent
	origin           BIGINT NOT NULL,         -- grant_origins.number: made there, and refreshed nowhere else
	access_token     BYTES NOT NULL,          -- sealed, as is the next
	refresh_token    BYTES,
	expires          BIGINT NOT NULL,         -- of the access token; 0 where the provider did not say
	version          BIGINT NOT NULL,         -- of the tokens: grows with consent and refresh
	lease_holder     TEXT NOT NULL,           -- the process that is refreshing, '' for none
	lease_until      BIGINT NOT NULL,
	fence            BIGINT NOT NULL,         -- grows with each lease; a holder that lost it cannot store
	refresh_failures SMALLINT NOT NULL,       -- in a row, for passing reasons
	refresh_failed   BIGINT NOT NULL,         -- when it last did; 0: the last time was good
	next_refresh     BIGINT NOT NULL,         -- the provider is not asked again before
	created          BIGINT NOT NULL,
	refreshed        BIGINT NOT NULL,         -- when these tokens came
	last_used        BIGINT NOT NULL          -- to within a minute
);
INSERT INTO slim_grants
SELECT g.id, g.account, SUBSTR(g.lookup, 1, 22), g.workload_id, g.user_issuer, g.user_subject, g.user_id, g.provider_id, g.label,
	CASE g.resources WHEN '[]' THEN '' ELSE g.resources END, CASE g.audiences WHEN '[]' THEN '' ELSE g.audiences END,
	g.asked, g.granted, g.state, o.number, g.access_token, g.refresh_token, g.expires, g.version, g.lease_holder, g.lease_until, g.fence,
	0, 0, 0, g.created, g.refreshed, g.last_used
FROM grants g JOIN grant_origins o ON o.provider_id = g.provider_id AND o.issuer = g.issuer AND o.token_endpoint = g.token_endpoint AND o.client_id = g.client_id;
DROP TABLE grants;
ALTER TABLE slim_grants RENAME TO grants;
CREATE INDEX grants_of_workload ON grants (workload_id, created);
CREATE INDEX grants_of_provider ON grants (provider_id, created);
CREATE INDEX grants_of_user ON grants (user_subject, user_id, created); -- account and issuer rarely narrow it any more

-- Cached tokens of a user go when the user's grants do. (Those of before expire by themselves.)
ALTER TABLE cached_tokens ADD COLUMN user_issuer TEXT NOT NULL DEFAULT '';
ALTER TABLE cached_tokens ADD COLUMN user_subject TEXT NOT NULL DEFAULT '';
CREATE INDEX cached_tokens_of_user ON cached_tokens (user_subject, account);
