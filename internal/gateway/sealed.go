package gateway

import "github.com/onbehalf/onbehalf/internal/seal"

// Sealed are the room's sealed columns, as sealContext binds them.
var Sealed = []seal.Table{
	{Name: "gateway_targets", Purpose: seal.Secrets, Row: "gateway_id || '/' || id", Version: "version",
		Columns: []seal.Column{{Name: "settings", Kind: "gateway-target"}}, Clear: map[string]string{"compiled": "what the kind made of an API's description"}},
	{Name: "gateway_client_tokens", Clear: map[string]string{"request": "SHA-256 of a request"}},
}
