package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// CheckScope wants the signature made for this service and region. The texts
// are AWS's; the region's also names the right one, because a wrong AWS_REGION
// is the first thing a newcomer meets.
func (h *Header) CheckScope(region, service string) error {
	switch {
	case h.Service != service:
		return bad("Credential should be scoped to correct service: '%s'.", service)
	case h.Region != region:
		return bad("Credential should be scoped to a valid region, not '%s'. This server's region is '%s'.", h.Region, region)
	}
	return nil
}

// CheckTime refuses a signature made more than MaxSkew before or after now,
// with fault.StaleSignature and AWS's exact text: SDKs recognise it and, from
// the response's Date header, mend their clock and try again.
//
// A presigned URL has its own life, and no client to mend a clock.
func (h *Header) CheckTime(now time.Time) error {
	if h.presigned {
		return h.checkLife(now)
	}
	now = now.UTC().Truncate(time.Second) // the texts, and the signer, know whole seconds
	signed := h.Time.Format(timeLayout)
	if earliest := now.Add(-MaxSkew); h.Time.Before(earliest) {
		return fault.New(fault.StaleSignature, "Signature expired: %s is now earlier than %s (%s - 5 min.)",
			signed, earliest.Format(timeLayout), now.Format(timeLayout))
	}
	if latest := now.Add(MaxSkew); h.Time.After(latest) {
		return fault.New(fault.StaleSignature, "Signature not yet current: %s is still later than %s (%s + 5 min.)",
			signed, latest.Format(timeLayout), now.Format(timeLayout))
	}
	return nil
}

// droppable are headers that a published SDK adds after signing. Unsigned,
// anybody on the way could have put them there, so they are taken out of the
// request and it goes on without them.
var droppable = []string{"X-Amz-Bedrock-Agentcore-Identity-Wat", "Workloadaccesstoken"}

// CheckHeaders wants host, the date and every header that means something to
// this server to be among the signed ones, and every signed header present. It
// removes an unsigned workload-token header from r. Names in excused, in
// net/http's spelling, may be unsigned.
func (h *Header) CheckHeaders(r *http.Request, excused ...string) error {
	if !h.signs("host") {
		return bad("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if !h.presigned && len(r.Header[headerDate]) == 0 && !h.signs("date") {
		return bad("'Date' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for _, name := range droppable {
		if _, present := r.Header[name]; present && !h.signs(name) {
			delete(r.Header, name)
		}
	}
	for name := range r.Header {
		if meaningful(name) && !h.signs(name) && !slices.Contains(excused, name) {
			return bad("'%s' must be a 'SignedHeader' in the AWS Authorization.", name)
		}
	}
	h.headersChecked = true
	return nil
}

// meaningful says which headers must not come unsigned. X-Amzn-Trace-Id is not
// of them; X-Amz-Cf-Id is what CloudFront puts on whatever it forwards.
func meaningful(name string) bool {
	const amz, agentcore = "X-Amz-", "X-Amzn-Bedrock-Agentcore-"
	if len(name) < len(amz) {
		return false
	}
	if strings.EqualFold(name[:len(amz)], amz) {
		return !strings.EqualFold(name, "X-Amz-Cf-Id")
	}
	return len(name) >= len(agentcore) && strings.EqualFold(name[:len(agentcore)], agentcore)
}

// signs compares without case: header names arrive capitalised, signed names do not.
func (h *Header) signs(name string) bool {
	for _, signed := range h.SignedHeaders {
		if len(signed) == len(name) && strings.EqualFold(signed, name) {
			return true
		}
	}
	return false
}

// PayloadHash is what a request says that the SHA-256 of its body is, where it
// says something (X-Amz-Content-Sha256). Signed, it lets the signature be checked
// before the body has come; the body has to be held against it then. What is no
// hash, such as UNSIGNED-PAYLOAD, is all zeros, and no signature is good for it.
func PayloadHash(r *http.Request) (sum [sha256.Size]byte, said bool) {
	sent := r.Header[headerContentHash]
	if len(sent) == 1 && len(sent[0]) == 2*sha256.Size {
		if _, err := hex.Decode(sum[:], []byte(sent[0])); err != nil {
			clear(sum[:])
		}
	}
	return sum, len(sent) > 0
}

// Verify recomputes the signature over r and the SHA-256 of its body and
// compares in constant time. It includes CheckHeaders where the caller has not
// made it. Error: fault.BadSignature with AWS's text, which does not say what
// differed.
func (h *Header) Verify(r *http.Request, secretKey secret.Text, bodySHA256 [sha256.Size]byte) error {
	return h.VerifyWith(r, DeriveKey(secretKey, h.Credential), bodySHA256)
}

// VerifyWith is Verify for callers that keep derived keys: it saves four HMACs,
// and the secret need not be opened.
func (h *Header) VerifyWith(r *http.Request, key SigningKey, bodySHA256 [sha256.Size]byte) error {
	if !h.headersChecked {
		if err := h.CheckHeaders(r); err != nil {
			return err
		}
	}
	var payload [2 * sha256.Size]byte
	hex.Encode(payload[:], bodySHA256[:])
	if sent := r.Header[headerContentHash]; len(sent) > 0 && (len(sent) > 1 || sent[0] != string(payload[:])) {
		return bad("The value of the x-amz-content-sha256 header is not the SHA-256 of the body. UNSIGNED-PAYLOAD and STREAMING values are not accepted.")
	}
	if h.matches(r, key, payload[:]) {
		return nil
	}
	// The Python SDK signs its presigned URLs for the host without the port that
	// they have. The name is what matters of a host: another port of it is no other service's.
	if bare := withoutPort(r.Host); h.presigned && bare != r.Host {
		other := *r
		other.Host = bare
		if h.matches(&other, key, payload[:]) {
			return nil
		}
	}
	return mismatch()
}

// matches recomputes the signature and compares in constant time.
func (h *Header) matches(r *http.Request, key SigningKey, payload []byte) bool {
	path, query := target(r)
	if h.presigned {
		query = withoutSignature(query)
	}
	var room [2048]byte
	canonical, ok := appendCanonical(room[:0], r, path, query, h.SignedHeaders, payload)
	if !ok {
		return false
	}
	var expected [2 * sha256.Size]byte
	sign(&expected, key, h.Credential, h.Time, sha256.Sum256(canonical))
	return hmac.Equal(expected[:], []byte(h.Signature))
}

func mismatch() *fault.Error {
	return bad("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
}

// SigningKey is the day's key, derived from a secret for one day, region and
// service. It is key material: whoever has it can sign in that scope until the
// day has passed. It prints as redacted.
type SigningKey struct{ key [sha256.Size]byte }

// String hides the key from %v and %s.
func (SigningKey) String() string { return "[redacted]" }

// GoString hides the key from %#v.
func (SigningKey) GoString() string { return "[redacted]" }

// DeriveKey makes the signing key of a secret for the scope of c.
func DeriveKey(secretKey secret.Text, c Credential) SigningKey {
	start := append([]byte("AWS4"), secretKey.Reveal()...)
	defer clear(start)
	key := digest(start, c.Date)
	key = digest(key[:], c.Region)
	key = digest(key[:], c.Service)
	return SigningKey{digest(key[:], terminator)}
}

func digest(key []byte, message string) (sum [sha256.Size]byte) {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(message))
	mac.Sum(sum[:0])
	return sum
}

// sign writes the hexadecimal signature of a canonical request's hash.
func sign(into *[2 * sha256.Size]byte, key SigningKey, c Credential, at time.Time, canonicalSHA256 [sha256.Size]byte) {
	var room [256]byte
	message := append(room[:0], algorithm...)
	message = append(message, '\n')
	message = at.AppendFormat(message, timeLayout)
	message = append(message, '\n')
	message = appendScope(message, c)
	message = append(message, '\n')
	message = hex.AppendEncode(message, canonicalSHA256[:])
	mac := hmac.New(sha256.New, key.key[:])
	mac.Write(message)
	var sum [sha256.Size]byte
	hex.Encode(into[:], mac.Sum(sum[:0]))
}

func appendScope(b []byte, c Credential) []byte {
	b = append(slices.Grow(b, len(c.Date)+len(c.Region)+len(c.Service)+len(terminator)+3), c.Date...)
	b = append(append(b, '/'), c.Region...)
	b = append(append(b, '/'), c.Service...)
	return append(append(b, '/'), terminator...)
}
