-- broker: what is set of a provider beyond AWS's configuration, which an update
-- of that keeps; JSON, '' where nothing is set.

ALTER TABLE oauth2_providers ADD COLUMN settings TEXT NOT NULL DEFAULT '';
