package auth

import "github.com/onbehalf/onbehalf/internal/seal"

// Sealed are the room's sealed columns, as sealContext binds them.
var Sealed = []seal.Table{
	{Name: "access_keys", Purpose: seal.Secrets, Row: "id", Version: "1", Columns: []seal.Column{{Name: "secret", Kind: "access-key-secret"}}},
}
