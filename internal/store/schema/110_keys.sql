-- seal, continued: whose key wraps a data key, and when one is over.
--
-- An account may choose the key that wraps the data keys of its vault, by ARN;
-- all of them name the same. A data key of generation 0 seals nothing: it is
-- what is left of the first one, for the keys that were derived from it.

ALTER TABLE data_keys ADD COLUMN arn TEXT NOT NULL DEFAULT '';      -- of the key that the account chose; '' is the platform's own
ALTER TABLE data_keys ADD COLUMN moved BIGINT NOT NULL DEFAULT 0;   -- when it was last wrapped anew; 0: never
ALTER TABLE data_keys ADD COLUMN retired BIGINT NOT NULL DEFAULT 0; -- when nothing was sealed with it any more; 0: in use
