package sigv4

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/secret"
)

// MaxLife is how long a presigned URL may be good for. It is the bound that
// AgentCore's SDKs keep.
const MaxLife = 300 * time.Second

// maxQuery bounds the query of a presigned URL, which has a session token in it.
const maxQuery = 16 << 10

// Presigned reports whether the signature is in the request's query: a whole
// URL that its maker has given to somebody else, such as a browser.
func Presigned(r *http.Request) bool { return presigned(r.URL.RawQuery) }

// ParsePresigned takes the signature out of a query (X-Amz-Algorithm, -Credential,
// -Date, -Expires, -SignedHeaders, -Security-Token, -Signature), as botocore's
// SigV4QueryAuth and PresignHTTP of the Go SDK write it. All other parameters
// are covered by it. A request that has an Authorization header as well is
// refused: it is not clear which is meant.
func ParsePresigned(r *http.Request) (*Header, error) {
	if len(r.Header[headerAuthorization]) > 0 {
		return nil, bad("The request is signed in its query and has an Authorization header too.")
	}
	_, query := target(r)
	if len(query) > maxQuery {
		return nil, bad("The query is too long.")
	}
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return nil, bad("The query cannot be parsed.")
	}
	found := map[string]string{}
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature", headerToken} {
		values := parameters[name]
		if len(values) > 1 {
			return nil, bad("The query has '%s' more than once.", name)
		}
		if len(values) == 0 && name != headerToken {
			return nil, bad("AWS query-string parameters must include '%s'.", name)
		}
		if len(values) == 1 {
			found[name] = values[0]
		}
	}
	h := &Header{Signature: found["X-Amz-Signature"], presigned: true}
	if found["X-Amz-Algorithm"] != algorithm {
		return nil, bad("Unsupported AWS 'algorithm': this server takes %s signatures.", algorithm)
	}
	if !isSignature(h.Signature) {
		return nil, mismatch()
	}
	if h.Credential, err = parseCredential(found["X-Amz-Credential"]); err != nil {
		return nil, err
	}
	if h.SignedHeaders, err = parseSignedHeaders(found["X-Amz-SignedHeaders"]); err != nil {
		return nil, err
	}
	if h.Time, err = time.Parse(timeLayout, found["X-Amz-Date"]); err != nil {
		return nil, bad("X-Amz-Date must be in ISO-8601 'basic format'.")
	}
	if h.Time.Format(dateLayout) != h.Date {
		return nil, bad("Date in Credential scope does not match YYYYMMDD of X-Amz-Date.")
	}
	if h.life, err = parseLife(found["X-Amz-Expires"]); err != nil {
		return nil, err
	}
	h.SessionToken = secret.New(found[headerToken])
	return h, nil
}

func parseLife(text string) (time.Duration, error) {
	seconds, err := strconv.ParseUint(text, 10, 16)
	life := time.Duration(seconds) * time.Second
	if err != nil || life == 0 || life > MaxLife || !digits(text) {
		return 0, bad("X-Amz-Expires must be a whole number of seconds from 1 to %d.", int(MaxLife/time.Second))
	}
	return life, nil
}

// withoutSignature is the query that was signed: all but the signature, which
// could not be part of itself.
func withoutSignature(query string) string {
	parts := strings.Split(query, "&")
	kept := parts[:0]
	for _, part := range parts {
		name, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); err != nil || plain != "X-Amz-Signature" {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "&")
}

// checkLife is CheckTime of a presigned URL: it is good from its date for as
// long as it says, and MaxSkew before, for a signer whose clock is ahead.
func (h *Header) checkLife(now time.Time) error {
	switch {
	case h.Time.After(now.Add(MaxSkew)):
		return bad("The presigned URL is not good yet: it was signed for %s, and now is %s.", h.Time.Format(timeLayout), now.UTC().Format(timeLayout))
	case now.After(h.Time.Add(h.life)):
		return bad("The presigned URL has expired: it was signed for %s and good for %d seconds, and now is %s.",
			h.Time.Format(timeLayout), int(h.life/time.Second), now.UTC().Format(timeLayout))
	}
	return nil
}

// withoutPort is a host without its port; the same where it has none.
func withoutPort(host string) string {
	at := strings.LastIndexByte(host, ':')
	if at < 0 || at < strings.LastIndexByte(host, ']') {
		return host
	}
	return host[:at]
}
