-- broker: each attempt parks its own code, and which of them is redeemed is
-- decided by the proof that comes with the completion. So "parked" is no state
-- of a session any more: it is open until a code of it is being redeemed.
-- attempt_id of a session that is done is the attempt that finished it; of that
-- attempt the cookie's hash is kept, and neither code nor verifier.

UPDATE authorization_sessions SET state = 'open', attempt_id = '' WHERE state = 'parked';
ALTER TABLE authorization_attempts ADD COLUMN parked BIGINT NOT NULL DEFAULT 0; -- when its code came; 0: it has none
