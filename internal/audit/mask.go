package audit

import (
	"strings"
)

// masked is what stands in a log where a secret would have been; secret.Text prints the same.
const masked = "[redacted]"

// Mask replaces what looks like a secret: JWTs, bearer and basic credentials,
// values named like secrets in URLs, JSON and Go's own formats, authorization
// session URIs, AWS secret keys, private keys, passwords in URLs. It is the net
// under secret.Text and not a permission to log foreign text: what it does not
// know, it lets through. A text without a secret is returned as it is.
func Mask(s string) string {
	start, end := find(s, 0)
	if start < 0 {
		return s
	}
	var out strings.Builder
	out.Grow(len(s))
	copied := 0
	for start >= 0 {
		out.WriteString(s[copied:start])
		out.WriteString(masked)
		copied = end
		start, end = find(s, end)
	}
	out.WriteString(s[copied:])
	return out.String()
}

// Classes of bytes that find looks at; all others it passes over.
const (
	inRun     = 1 << iota // may be part of an AWS secret key: A-Z a-z 0-9 / +
	separates             // may follow the name of a value: = : and % of an encoded one
	begins                // may begin something known: eyJ, Bearer, Basic, -----BEGIN
)

var classes = func() (table [256]uint8) {
	for c := range 256 {
		if letter(byte(c)) || digit(byte(c)) || c == '/' || c == '+' {
			table[c] |= inRun
		}
	}
	for _, c := range []byte("=:%") {
		table[c] |= separates
	}
	for _, c := range []byte("eBb-") {
		table[c] |= begins
	}
	return table
}()

// awsSecret is the length of an AWS secret access key.
const awsSecret = 40

// find returns the next secret at or after from; start is -1 when there is none.
// One pass, one table look-up per byte: ordinary lines cost about a nanosecond a byte.
func find(s string, from int) (start, end int) {
	run := from // where the current run of inRun bytes began
	for i := from; i < len(s); i++ {
		class := classes[s[i]]
		if class == inRun {
			continue
		}
		if class&inRun == 0 {
			if i-run == awsSecret && looksRandom(s[run:i]) {
				return run, i
			}
			run = i + 1
		}
		if class&separates != 0 {
			if start, end = named(s, from, i); start >= 0 {
				return start, end
			}
		}
		if class&begins != 0 {
			if start, end = shaped(s, i); start >= 0 {
				return start, end
			}
		}
	}
	if len(s)-run == awsSecret && looksRandom(s[run:]) {
		return run, len(s)
	}
	return -1, -1
}

// looksRandom tells an AWS secret key from a hash in hex and from a path. One
// key in two thousand has neither digit nor plus and passes for a path: this is
// the second net, and secret.Text the first.
func looksRandom(s string) bool {
	var upper, lower, other, slashes int
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z':
			upper++
		case c >= 'a' && c <= 'z':
			lower++
		case c == '/':
			slashes++
		default:
			other++
		}
	}
	return upper > 0 && lower > 0 && other > 0 && slashes <= 5
}

// shaped finds what is known by how it begins.
func shaped(s string, i int) (start, end int) {
	rest := s[i:]
	switch s[i] {
	case 'e': // base64url of {" begins a JWT's header
		if strings.HasPrefix(rest, "eyJ") {
			if end = i + span(rest, jwtByte); end-i >= 16 {
				return i, end
			}
		}
	case 'B', 'b':
		for _, scheme := range []string{"bearer", "basic"} {
			if len(rest) > len(scheme) && strings.EqualFold(rest[:len(scheme)], scheme) {
				return credentials(s, i+len(scheme))
			}
		}
	case '-':
		if strings.HasPrefix(rest, "-----BEGIN ") {
			head, _, _ := strings.Cut(rest[len("-----BEGIN "):], "-----")
			if strings.HasSuffix(head, "PRIVATE KEY") {
				if at := strings.Index(rest, "-----END "); at >= 0 {
					return i, i + at
				}
				return i, len(s)
			}
		}
	}
	return -1, -1
}

// prose is what follows "Bearer" and "Basic" in sentences and in challenges.
var prose = []string{"token", "tokens", "auth", "authentication", "authorization", "credentials", "scheme", "realm", "error", "resource_metadata", "jwt", "or", "and", "is", "was", "with", "header"}

// credentials masks what follows an authorization scheme.
func credentials(s string, i int) (start, end int) {
	start = i
	for start < len(s) && (s[start] == ' ' || s[start] == '\t' || s[start] == '+' || s[start] == ':') {
		start++
	}
	for strings.HasPrefix(s[start:], "%20") {
		start += len("%20")
	}
	if start == i {
		return -1, -1 // the scheme was part of a longer word
	}
	end = start + span(s[start:], credentialByte)
	word := strings.TrimRight(s[start:end], ".=")
	for _, known := range prose {
		if strings.EqualFold(word, known) || strings.HasPrefix(s[start:], known+"=\"") {
			return -1, -1
		}
	}
	if end-start < 4 {
		return -1, -1
	}
	return start, end
}

func span(s string, in func(byte) bool) int {
	for i := range len(s) {
		if !in(s[i]) {
			return i
		}
	}
	return len(s)
}

func letter(c byte) bool  { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func digit(c byte) bool   { return c >= '0' && c <= '9' }
func hexByte(c byte) bool { return digit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
func jwtByte(c byte) bool { return letter(c) || digit(c) || c == '-' || c == '_' || c == '.' }
func credentialByte(c byte) bool {
	return jwtByte(c) || c == '~' || c == '+' || c == '/' || c == '=' || c == ':' || c == '%'
}
