package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/secret"
)

// Key is what a signer needs to own.
type Key struct {
	AccessKeyID  string
	Secret       secret.Text
	SessionToken secret.Text // of temporary credentials; empty otherwise
}

// neverSigned are headers that proxies add or change, or that cannot be signed.
var neverSigned = []string{"authorization", "connection", "expect", "transfer-encoding", "user-agent", "x-amzn-trace-id"}

// Sign signs an outgoing request as of now: it sets X-Amz-Date, the session
// token where there is one, and Authorization, and signs all headers that
// travel unchanged. bodySHA256 is the hash of the body that will be sent; of
// no bytes where there is none. Only services other than S3 understand it.
func Sign(r *http.Request, key Key, region, service string, bodySHA256 [sha256.Size]byte, now time.Time) error {
	now = now.UTC().Truncate(time.Second)
	r.Header.Del(headerAuthorization)
	r.Header.Set(headerDate, now.Format(timeLayout))
	if key.SessionToken.Empty() {
		r.Header.Del(headerToken)
	} else {
		r.Header.Set(headerToken, key.SessionToken.Reveal())
	}
	credential := Credential{AccessKeyID: key.AccessKeyID, Date: now.Format(dateLayout), Region: region, Service: service}
	names := []string{"host"}
	if r.ContentLength > 0 {
		names = append(names, "content-length")
	}
	for name := range r.Header {
		if name = strings.ToLower(name); name != "content-length" && !slices.Contains(neverSigned, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)

	var payload, signature [2 * sha256.Size]byte
	hex.Encode(payload[:], bodySHA256[:])
	canonical, ok := appendCanonicalRequest(nil, r, names, payload[:])
	if !ok {
		return bad("The request to be signed has a query that is not well escaped.")
	}
	sign(&signature, DeriveKey(key.Secret, credential), credential, now, sha256.Sum256(canonical))
	r.Header.Set(headerAuthorization, algorithm+" Credential="+key.AccessKeyID+"/"+string(appendScope(nil, credential))+
		", SignedHeaders="+strings.Join(names, ";")+", Signature="+string(signature[:]))
	return nil
}
