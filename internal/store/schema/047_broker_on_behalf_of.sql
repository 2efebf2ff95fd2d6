-- broker: how a provider trades a user's sign-in token for one of its own; JSON
-- of the API's onBehalfOfTokenExchangeConfig, '' where it does not.

ALTER TABLE oauth2_providers ADD COLUMN on_behalf_of TEXT NOT NULL DEFAULT '';
