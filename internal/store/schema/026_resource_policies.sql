-- policy, continued: who may do what with one resource, said by the resource.
--
-- At most one IAM document each, as it was written; its statements name
-- principals. It goes with the resource, in the same transaction.

CREATE TABLE resource_policies (
	resource TEXT PRIMARY KEY, -- ARN of a gateway
	account  TEXT NOT NULL,    -- the resource's
	document TEXT NOT NULL,    -- JSON
	created  BIGINT NOT NULL,
	updated  BIGINT NOT NULL
);
