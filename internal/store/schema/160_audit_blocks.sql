-- audit: the records of an act, in blocks. A block is what one commit of one
-- writer added: one record when one caller was waiting, up to 256 when many were.
-- Within a block a record says only what differs from the one before it, so that
-- a record costs some 50 bytes under load. Blocks are added, never changed, and
-- removed by a prune alone.
--
-- Each process that writes is a writer with a chain of its own. Its records
-- count 1, 2, 3 … without a gap, and each has a MAC, under a key that is not in
-- this database, over the MAC before it and the record as it is stored.
CREATE TABLE audit_chains (
	number   BIGKEY,                 -- id of its first block
	writer   TEXT NOT NULL UNIQUE,   -- begins with the time of the writer's start
	noted    BIGINT NOT NULL,        -- id of its last block as of a minute before that was written, or later: where to look for its end
	sequence BIGINT NOT NULL,        -- of the last record that was pruned, 0 for none
	mac      BYTES,                  -- that record's
	proof    BYTES                   -- MAC over number, writer, sequence and mac: a prune that nobody made cannot be claimed
);

CREATE TABLE audit_blocks (
	id       BIGKEY,            -- microseconds of the commit, times 1024, plus a random number of the writer: sorts by time, and within a chain by sequence
	chain    BIGINT NOT NULL,   -- number
	sequence BIGINT NOT NULL,   -- of its first record
	records  BIGINT NOT NULL,   -- how many
	mac      BYTES NOT NULL,    -- the last record's
	body     BYTES,             -- the records, as audit/block.go writes them
	record   TEXT               -- instead of body, what an earlier version wrote: one record, JSON
);

-- What an earlier version kept one row per record for. Times of one writer need
-- not grow with its sequence, ids must: hence the running maximum.
INSERT INTO audit_chains (number, writer, noted, sequence)
SELECT MIN(id), writer, MAX(id), 0 FROM (
	SELECT late * 1024 + ROW_NUMBER() OVER (PARTITION BY late ORDER BY writer, sequence) - 1 AS id, writer FROM (
		SELECT MAX(time) OVER (PARTITION BY writer ORDER BY sequence) AS late, writer, sequence FROM audit_records
	) AS timed
) AS numbered GROUP BY writer;

INSERT INTO audit_blocks (id, chain, sequence, records, mac, record)
SELECT id, MIN(id) OVER (PARTITION BY writer), sequence, 1, mac, record FROM (
	SELECT late * 1024 + ROW_NUMBER() OVER (PARTITION BY late ORDER BY writer, sequence) - 1 AS id, writer, sequence, mac, record FROM (
		SELECT MAX(time) OVER (PARTITION BY writer ORDER BY sequence) AS late, writer, sequence, mac, record FROM audit_records
	) AS timed
) AS numbered;

DROP TABLE audit_records;
