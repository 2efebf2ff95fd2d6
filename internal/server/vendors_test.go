package server

import (
	"strings"
	"testing"
)

// Each of the API's vendors has a short name of its own, and what it needs is known.
func TestVendors(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, v := range Vendors() {
		if v.Short == "" || v.Short != strings.ToLower(v.Short) || seen[v.Short] || v.Title == "" || v.Documentation == "" {
			t.Errorf("%+v", v)
		}
		seen[v.Short] = true
		if preset := v.AuthorizationEndpoint != "" && v.TokenEndpoint != "" && v.Issuer != ""; preset == (v.Tenanted || v.Short == "custom") {
			t.Errorf("%s: preset %v, tenanted %v", v.Short, preset, v.Tenanted)
		}
	}
	if len(seen) != 25 {
		t.Errorf("%d vendors", len(seen))
	}
}
