package broker

import "github.com/onbehalf/onbehalf/internal/seal"

// Sealed are the room's sealed columns, as clientSecretContext, apiKeyContext,
// sessionContext, attemptContext and signInContext bind them.
var Sealed = []seal.Table{
	{Name: "oauth2_providers", Purpose: seal.Secrets, Row: "id", Version: "version", Columns: []seal.Column{{Name: "client_secret", Kind: "oauth2-client-secret"}}},
	{Name: "api_key_providers", Purpose: seal.Secrets, Row: "id", Version: "version", Columns: []seal.Column{{Name: "api_key", Kind: "api-key"}}},
	{Name: "authorization_sessions", Purpose: seal.Sessions, Row: "id", Version: "0", Columns: []seal.Column{
		{Name: "uri", Kind: "authorization.uri"}, {Name: "parameters", Kind: "authorization.parameters"}, {Name: "custom_state", Kind: "authorization.custom_state"},
	}},
	{Name: "authorization_attempts", Purpose: seal.Sessions, Row: "id", Version: "0", Columns: []seal.Column{
		{Name: "verifier", Kind: "authorization.attempt.verifier"}, {Name: "code", Kind: "authorization.attempt.code"},
	}},
	{Name: "sign_ins", Purpose: seal.Sessions, Row: "id", Version: "0", Columns: []seal.Column{{Name: "verifier", Kind: "authorization.sign_in.verifier"}}},
}
