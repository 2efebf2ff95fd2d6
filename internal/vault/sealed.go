package vault

import "github.com/onbehalf/onbehalf/internal/seal"

// Sealed are the room's sealed columns, as bound and cachedContext bind them.
var Sealed = []seal.Table{
	{Name: "grants", Row: "id", Version: "version", Columns: []seal.Column{
		{Name: accessToken, Kind: "grant." + accessToken}, {Name: refreshToken, Kind: "grant." + refreshToken},
	}},
	{Name: "cached_tokens", Row: "id", Version: "version", Columns: []seal.Column{{Name: "access_token", Kind: "cached_token.access_token"}}},
}
