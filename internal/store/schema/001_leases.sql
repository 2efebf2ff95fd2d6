-- leases: work that one replica at a time may do (a sweep, a refresh of one
-- grant). They belong to the platform and not to an account; where the work is
-- an account's, the name says which.
CREATE TABLE leases (
	name    TEXT PRIMARY KEY,
	holder  TEXT NOT NULL,   -- the replica, or the task within it
	fence   BIGINT NOT NULL, -- grows with each taking; see store.Tx.Lease
	expires BIGINT NOT NULL  -- microseconds; a release sets it to its own time
);

CREATE INDEX leases_by_expiry ON leases (expires);
