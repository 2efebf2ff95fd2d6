-- audit: who did what for whom, one row per act. Rows are added and never
-- changed or removed.
--
-- Each process that writes is a writer with a chain of its own: sequence counts
-- 1, 2, 3 … without a gap, and mac is HMAC-SHA256, under a key that is not in
-- this database, over the mac before it, the sequence and the text of record.
-- The other columns repeat what stands in record, for searching; the proof
-- compares them.
CREATE TABLE audit_records (
	writer   TEXT NOT NULL,   -- begins with the time of the writer's start, so that writers sort by it
	sequence BIGINT NOT NULL,
	mac      BYTES NOT NULL,
	account  TEXT NOT NULL,   -- 'platform' for what concerns no account
	time     BIGINT NOT NULL, -- microseconds; when the act had ended
	person   TEXT NOT NULL,   -- the user acted for, '' for none
	workload TEXT NOT NULL,   -- ARN, '' for none
	action   TEXT NOT NULL,
	record   TEXT NOT NULL,   -- JSON, exactly as it was authenticated
	PRIMARY KEY (writer, sequence)
);

-- The way every list is read: an account's records, newest first.
CREATE INDEX audit_records_by_time ON audit_records (account, time, writer, sequence);
