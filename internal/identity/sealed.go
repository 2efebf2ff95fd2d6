package identity

import "github.com/onbehalf/onbehalf/internal/seal"

// Sealed are the room's sealed columns, as inboundContext binds them.
var Sealed = []seal.Table{
	{Name: "workload_inbound_tokens", Row: "id", Version: "0", Columns: []seal.Column{{Name: "sealed", Kind: "inbound-jwt"}}},
}
