package sigv4

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// Bounds of what Parse reads. The published SDKs sign about ten headers.
const (
	maxAuthorization = 8 << 10
	maxSignedHeaders = 64
)

// Parse takes the Authorization header apart. It reads no body and believes
// nothing. Errors: fault.MissingSignature where the request carries none,
// fault.BadSignature where it carries something else, a presigned query included.
func Parse(r *http.Request) (*Header, error) {
	if presigned(r.URL.RawQuery) {
		return nil, bad("Presigned requests are not accepted here. Send the signature in the Authorization header.")
	}
	values := r.Header[headerAuthorization]
	switch {
	case len(values) == 0:
		return nil, fault.New(fault.MissingSignature, "Missing Authentication Token")
	case len(values) > 1:
		return nil, bad("The request has more than one Authorization header.")
	case len(values[0]) > maxAuthorization:
		return nil, bad("The Authorization header is too long.")
	}
	h, err := parseAuthorization(values[0])
	if err != nil {
		return nil, err
	}
	if h.Time, err = signingTime(r.Header); err != nil {
		return nil, err
	}
	if day := h.Time.Format(dateLayout); day != h.Date {
		return nil, bad("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.",
			h.Date, day, h.Time.Format(timeLayout))
	}
	switch tokens := r.Header[headerToken]; len(tokens) {
	case 0:
	case 1:
		h.SessionToken = secret.New(tokens[0])
	default:
		return nil, bad("The request has more than one X-Amz-Security-Token header.")
	}
	return h, nil
}

// presigned reports whether a query carries a signature of its own. Such a
// request is refused even beside a good header: it is not clear which is meant.
func presigned(query string) bool {
	if len(query) < len("X-Amz-Algorithm") {
		return false
	}
	for part := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(part, "=")
		if strings.IndexByte(name, '%') >= 0 {
			if plain, err := url.QueryUnescape(name); err == nil {
				name = plain
			}
		}
		if strings.EqualFold(name, "X-Amz-Algorithm") || strings.EqualFold(name, "X-Amz-Signature") || strings.EqualFold(name, "X-Amz-Credential") {
			return true
		}
	}
	return false
}

// parseAuthorization reads "AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…,
// Signature=…". SDKs differ in the space after the comma and in the order.
// Messages never repeat the header: it may hold a credential of another kind.
func parseAuthorization(value string) (*Header, error) {
	scheme, rest, found := strings.Cut(value, " ")
	if scheme != algorithm || !found {
		return nil, bad("Unsupported Authorization header: this server takes %s signatures.", algorithm)
	}
	var h Header
	var credential, signedHeaders string
	for part := range strings.SplitSeq(rest, ",") {
		name, content, found := strings.Cut(strings.Trim(part, " \t"), "=")
		if !found {
			return nil, bad("Invalid key=value pair (missing equal-sign) in Authorization header.")
		}
		var into *string
		switch name {
		case "Credential":
			into = &credential
		case "SignedHeaders":
			into = &signedHeaders
		case "Signature":
			into = &h.Signature
		default:
			return nil, bad("Authorization header has a parameter other than 'Credential', 'SignedHeaders' and 'Signature'.")
		}
		if *into != "" {
			return nil, bad("Authorization header has parameter '%s' twice.", name)
		}
		*into = content
	}
	switch {
	case credential == "":
		return nil, bad("Authorization header requires 'Credential' parameter.")
	case signedHeaders == "":
		return nil, bad("Authorization header requires 'SignedHeaders' parameter.")
	case h.Signature == "":
		return nil, bad("Authorization header requires 'Signature' parameter.")
	case !isSignature(h.Signature):
		return nil, mismatch()
	}
	var err error
	if h.Credential, err = parseCredential(credential); err != nil {
		return nil, err
	}
	h.SignedHeaders, err = parseSignedHeaders(signedHeaders)
	if err != nil {
		return nil, err
	}
	return &h, nil
}

// parseCredential reads "keyid/date/region/service/aws4_request".
func parseCredential(value string) (Credential, error) {
	var parts [5]string
	rest, count := value, 0
	for ; count < len(parts); count++ {
		part, after, found := strings.Cut(rest, "/")
		parts[count], rest = part, after
		if !found {
			count++
			break
		}
	}
	if count != len(parts) || rest != "" || strings.HasSuffix(value, "/") {
		return Credential{}, bad("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
	}
	if parts[4] != terminator {
		return Credential{}, bad("Credential should be scoped with a valid terminator: '%s'.", terminator)
	}
	c := Credential{AccessKeyID: parts[0], Date: parts[1], Region: parts[2], Service: parts[3]}
	// What may go into a message, a log or a cache key is plain: letters,
	// digits, hyphens, underscores.
	if !plain(c.AccessKeyID, 128) || !plain(c.Region, 64) || !plain(c.Service, 64) {
		return Credential{}, bad("Credential has an element that is empty, too long or not made of letters, digits, '-' and '_'.")
	}
	if len(c.Date) != len(dateLayout) || !digits(c.Date) {
		return Credential{}, bad("Credential has a date that is not YYYYMMDD.")
	}
	return c, nil
}

// parseSignedHeaders reads "host;x-amz-date". The names must be lower case,
// sorted and different, as the canonical request has them.
func parseSignedHeaders(value string) ([]string, error) {
	count := strings.Count(value, ";") + 1
	if count > maxSignedHeaders {
		return nil, bad("The request signs more than %d headers.", maxSignedHeaders)
	}
	names := make([]string, 0, count)
	for name := range strings.SplitSeq(value, ";") {
		if !lowerToken(name) {
			return nil, bad("'SignedHeaders' must be lower-case header names separated by semicolons.")
		}
		if n := len(names); n > 0 && names[n-1] >= name {
			return nil, bad("'SignedHeaders' must be sorted and name each header once.")
		}
		names = append(names, name)
	}
	return names, nil
}

// signingTime is the moment of X-Amz-Date or, failing that, of Date.
func signingTime(header http.Header) (time.Time, error) {
	values, name := header[headerDate], headerDate
	if len(values) == 0 {
		values, name = header["Date"], "Date"
	}
	switch len(values) {
	case 0:
		return time.Time{}, bad("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
	case 1:
	default:
		return time.Time{}, bad("The request has more than one %s header.", name)
	}
	if t, err := time.Parse(timeLayout, values[0]); err == nil {
		return t.UTC(), nil
	}
	if name == "Date" {
		if t, err := http.ParseTime(values[0]); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, bad("Date must be in ISO-8601 'basic format'. Got something else. See http://en.wikipedia.org/wiki/ISO_8601")
}

func bad(format string, args ...any) *fault.Error {
	return fault.New(fault.BadSignature, format, args...)
}

func isSignature(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func plain(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !letter(c) && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// lowerToken reports whether s is a header name (RFC 9110 token) without capitals.
func lowerToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
