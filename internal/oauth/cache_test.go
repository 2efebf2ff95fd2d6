package oauth

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// What a tenant's issuer publishes and signs is as large as it likes: the caches
// are bounded in memory, not in number.
func TestCachesAreBoundedInMemory(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	c := p.client()
	s := newSigner("k", jose.ES256)
	large := strings.Repeat("x", 900<<10)
	p.setDocument(func(d map[string]any) { d["scopes_supported"] = []string{large} })
	p.publish(s.public(), map[string]string{"kty": "oct", "kid": large})
	raw := s.sign(t, p.claims("large", strings.Repeat("y", 60<<10)))
	if _, err := c.VerifyJWT(t.Context(), p.discoveryURL(), raw); err != nil {
		t.Fatal(err)
	}
	document, known := c.metadata.GetIfPresent(p.discoveryURL())
	if !known || document.size < len(large) {
		t.Fatalf("a document of %d bytes weighs %d", len(large), document.size)
	}
	keys, known := c.keys.GetIfPresent(p.URL + "/keys")
	if !known || keys.size < len(large) {
		t.Fatalf("keys of %d bytes weigh %d", len(large), keys.size)
	}
	token, known := c.verified.GetIfPresent(cacheKey(p.discoveryURL(), raw))
	if !known || token.size != raw.Len() {
		t.Fatalf("a token of %d bytes weighs %d", raw.Len(), token.size)
	}
	for i := range 4000 {
		address := fmt.Sprintf("%s/%d", p.URL, i)
		c.metadata.Set(address, document)
		c.keys.Set(address, keys)
		c.verified.Set(cacheKey(address, raw), token)
	}
	for name, size := range map[string]func() (int, uint64){
		"metadata": c.metadata.Size,
		"keys":     c.keys.Size,
		"verified": c.verified.Size,
	} {
		if entries, weight := size(); weight > cacheWeight || entries > 200 {
			t.Errorf("%s has %d entries, which weigh %d", name, entries, weight)
		}
	}
}
