-- identity: whose tokens name users for one workload identity, in place of the
-- issuers that the operator trusts for all. No row: the operator's.

CREATE TABLE workload_trusted_issuers (
	workload_id TEXT PRIMARY KEY REFERENCES workload_identities (id) ON DELETE CASCADE,
	account     TEXT NOT NULL,
	issuers     TEXT NOT NULL,              -- JSON array of {issuer, audiences}
	updated     BIGINT NOT NULL
);
