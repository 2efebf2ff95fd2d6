-- broker, hosted completion: a browser that came back to the platform's own page
-- is sent to sign in, so that the platform knows who it is. One row per try, gone
-- when its answer has been taken, or with its attempt.

CREATE TABLE sign_ins (
	id             TEXT PRIMARY KEY,        -- SHA-256 of the state
	account        TEXT NOT NULL,
	attempt_id     TEXT NOT NULL REFERENCES authorization_attempts (id) ON DELETE CASCADE,
	issuer         TEXT NOT NULL,           -- where the person was sent
	verifier       BYTES NOT NULL,          -- sealed PKCE verifier
	nonce          TEXT NOT NULL,           -- SHA-256 of what the ID token has to repeat
	created        BIGINT NOT NULL
);
CREATE INDEX sign_ins_by_attempt ON sign_ins (attempt_id, created);

ALTER TABLE authorization_sessions ADD COLUMN turned_away SMALLINT NOT NULL DEFAULT 0; -- somebody else came back: the next sign-in asks who it is, whoever is signed in there
