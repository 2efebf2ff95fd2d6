-- vault: what people have granted. One row per workload, user, provider,
-- account label, resources and audiences; the tokens are sealed and bound to
-- the row's id and version.

CREATE TABLE grants (
	id             TEXT PRIMARY KEY,
	account        TEXT NOT NULL,
	lookup         TEXT NOT NULL,           -- SHA-256 over the columns from workload_id to audiences
	workload_id    TEXT NOT NULL REFERENCES workload_identities (id) ON DELETE CASCADE,
	user_issuer    TEXT NOT NULL,
	user_subject   TEXT NOT NULL,
	user_id        TEXT NOT NULL,
	provider_id    TEXT NOT NULL REFERENCES oauth2_providers (id) ON DELETE CASCADE,
	label          TEXT NOT NULL,
	resources      TEXT NOT NULL,           -- JSON array, sorted
	audiences      TEXT NOT NULL,           -- JSON array, sorted
	asked          TEXT NOT NULL,           -- the scopes consent was asked for, sorted, one space between
	granted        TEXT NOT NULL,           -- the scopes the provider said it gave; '' where it said nothing
	state          TEXT NOT NULL,           -- active | needs-consent
	issuer         TEXT NOT NULL,           -- made with these three, and refreshed nowhere else
	token_endpoint TEXT NOT NULL,
	client_id      TEXT NOT NULL,
	access_token   BYTES NOT NULL,
	refresh_token  BYTES,
	id_token       BYTES,
	expires        BIGINT NOT NULL,         -- of the access token; 0 where the provider did not say
	version        BIGINT NOT NULL,         -- of the tokens: grows with consent and refresh
	lease_holder   TEXT NOT NULL,           -- the process that is refreshing, '' for none
	lease_until    BIGINT NOT NULL,
	fence          BIGINT NOT NULL,         -- grows with each lease; a holder that lost it cannot store
	created        BIGINT NOT NULL,
	refreshed      BIGINT NOT NULL,         -- when these tokens came
	last_used      BIGINT NOT NULL,         -- to within a minute
	UNIQUE (account, lookup)
);
CREATE INDEX grants_by_workload ON grants (workload_id);
CREATE INDEX grants_by_provider ON grants (provider_id);
CREATE INDEX grants_by_user ON grants (account, user_issuer, user_subject, user_id);
