-- broker, second part: consent under way. A session is one question to one
-- user, open for ten minutes; an attempt is one browser that opened its link.
-- Neither table holds a value that a link, a browser or a provider would
-- accept: sessionUri, state and cookie are kept as SHA-256, or sealed.

CREATE TABLE authorization_sessions (
	id             TEXT PRIMARY KEY,        -- SHA-256 of the sessionUri
	account        TEXT NOT NULL,
	workload_id    TEXT NOT NULL REFERENCES workload_identities (id) ON DELETE CASCADE,
	provider_id    TEXT NOT NULL REFERENCES oauth2_providers (id) ON DELETE CASCADE,
	user_issuer    TEXT NOT NULL,
	user_subject   TEXT NOT NULL,
	user_id        TEXT NOT NULL,
	authorizer     TEXT NOT NULL,           -- ARN of the owner whose authorizer vouched for the user, '' for trusted issuers
	label          TEXT NOT NULL,
	resources      TEXT NOT NULL,
	audiences      TEXT NOT NULL,
	scopes         TEXT NOT NULL,           -- what is asked of the person, sorted, one space between
	return_url     TEXT NOT NULL,
	uri            BYTES NOT NULL,          -- sealed sessionUri: an equal request gets the same link
	parameters     BYTES,                   -- sealed JSON of customParameters
	custom_state   BYTES,                   -- sealed
	fingerprint    TEXT NOT NULL,           -- keyed MAC over the request, which finds the session to use again
	state          TEXT NOT NULL,           -- open | parked | redeeming | done | failed
	failure        TEXT NOT NULL,           -- of failed: why, for people
	attempt_id     TEXT NOT NULL,           -- of parked and redeeming: whose code
	redeem_until   BIGINT NOT NULL,         -- of redeeming: beyond it the redeemer is dead, and the session failed
	grant_id       TEXT NOT NULL,           -- of done
	created        BIGINT NOT NULL,
	expires        BIGINT NOT NULL
);
CREATE INDEX authorization_sessions_by_fingerprint ON authorization_sessions (fingerprint);
CREATE INDEX authorization_sessions_by_workload ON authorization_sessions (workload_id, state);
CREATE INDEX authorization_sessions_by_provider ON authorization_sessions (provider_id);
CREATE INDEX authorization_sessions_by_expiry ON authorization_sessions (expires);

CREATE TABLE authorization_attempts (
	id             TEXT PRIMARY KEY,        -- SHA-256 of state
	account        TEXT NOT NULL,
	session_id     TEXT NOT NULL REFERENCES authorization_sessions (id) ON DELETE CASCADE,
	verifier       BYTES NOT NULL,          -- sealed PKCE verifier
	cookie         TEXT NOT NULL,           -- SHA-256 of the cookie's value
	code           BYTES,                   -- sealed, once parked: code and verifier share the row and never part
	created        BIGINT NOT NULL
);
CREATE INDEX authorization_attempts_by_session ON authorization_attempts (session_id, created);
