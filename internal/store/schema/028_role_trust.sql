-- auth, continued: what IAM's calls say of a role.

ALTER TABLE roles ADD COLUMN trust       TEXT NOT NULL DEFAULT '';      -- JSON: who may take it on; '' is the platform, as for an operator's roles
ALTER TABLE roles ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE roles ADD COLUMN max_session BIGINT NOT NULL DEFAULT 3600;  -- seconds
ALTER TABLE roles ADD COLUMN tags        TEXT NOT NULL DEFAULT '{}';    -- JSON object
