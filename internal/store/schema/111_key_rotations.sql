-- seal, continued: sealing all of an account's rows anew, with a new data key.
-- One row per account, the last time it was done. Where it stands is written
-- with each batch, so whoever continues after a crash and whoever only watches
-- see the same; which rows are left is told by the rows themselves.

CREATE TABLE key_rotations (
	account  TEXT PRIMARY KEY,
	begun    BIGINT NOT NULL,
	total    BIGINT NOT NULL, -- rows that were sealed with an older key when the work began or was taken up
	done     BIGINT NOT NULL, -- of these
	failed   BIGINT NOT NULL, -- rows that do not open and were left as they are
	worked   BIGINT NOT NULL, -- when the last batch was done
	finished BIGINT NOT NULL  -- 0 while there is work
);
