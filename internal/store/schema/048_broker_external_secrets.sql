-- broker: secrets that lie elsewhere, and settings that AWS has for networks of
-- its own. Of a provider whose client signs (private_key_jwt), client_secret
-- holds the sealed JSON of the API's privateKeyJwtConfig, whose claims are sensitive.

ALTER TABLE oauth2_providers ADD COLUMN external_secret TEXT NOT NULL DEFAULT '';   -- JSON of the API's SecretReference, '' where the secret is sealed here
ALTER TABLE oauth2_providers ADD COLUMN private_endpoints TEXT NOT NULL DEFAULT ''; -- JSON, stored and echoed alone; '' where there are none
ALTER TABLE api_key_providers ADD COLUMN external_secret TEXT NOT NULL DEFAULT '';
