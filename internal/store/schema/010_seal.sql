-- seal: the data keys. Every secret in every other table is sealed with the
-- data key of its account and purpose; the data keys are here, each wrapped by
-- the key-encryption key, which is not in the database (a file, a KMS). Without
-- it nothing in the database opens.
CREATE TABLE data_keys (
	account    TEXT NOT NULL,
	purpose    TEXT NOT NULL,   -- vault, workload-token, page-token, session, audit
	generation BIGINT NOT NULL, -- 1, and one more with each rotation; a ciphertext names it
	wrapper    TEXT NOT NULL,   -- the key-encryption key that wrapped it
	wrapped    BYTES NOT NULL,
	created    BIGINT NOT NULL,
	PRIMARY KEY (account, purpose, generation)
);
