package sigv4

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// appendCanonicalRequest appends what both sides hash:
//
//	METHOD \n escaped path \n sorted query \n name:value \n … \n \n signed;names \n payload hash
//
// It reports false where there is no canonical form: a signed header is absent,
// or the query holds a broken escape.
func appendCanonicalRequest(b []byte, r *http.Request, signedHeaders []string, payload []byte) ([]byte, bool) {
	path, query := target(r)
	return appendCanonical(b, r, path, query, signedHeaders, payload)
}

func appendCanonical(b []byte, r *http.Request, path, query string, signedHeaders []string, payload []byte) ([]byte, bool) {
	b = append(append(b, method(r)...), '\n')
	b = append(appendEscaped(b, path, true), '\n')
	b, ok := appendQuery(b, query)
	if !ok {
		return b, false
	}
	b = append(b, '\n')
	for _, name := range signedHeaders {
		if b, ok = appendHeader(b, r, name); !ok {
			return b, false
		}
	}
	b = append(b, '\n')
	for i, name := range signedHeaders {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, name...)
	}
	b = append(b, '\n')
	return append(b, payload...), true
}

func method(r *http.Request) string { return cmp.Or(r.Method, http.MethodGet) }

// target is the raw path and query: of the request line where there is one
// (net/url would re-encode what it finds odd), else of the URL to be sent.
func target(r *http.Request) (path, query string) {
	if !strings.HasPrefix(r.RequestURI, "/") { // outgoing, or the absolute form of a proxy's client
		return cmp.Or(r.URL.EscapedPath(), "/"), r.URL.RawQuery
	}
	path, query, _ = strings.Cut(r.RequestURI, "?")
	return path, query
}

// appendHeader appends "name:value,value\n", values trimmed and runs of spaces folded.
func appendHeader(b []byte, r *http.Request, name string) ([]byte, bool) {
	b = append(append(b, name...), ':')
	switch name {
	case "host":
		host := r.Host
		if host == "" && r.URL != nil {
			host = r.URL.Host
		}
		return append(appendFolded(b, host), '\n'), true
	case "content-length":
		// net/http's clients keep it in the field alone, its server in both.
		if r.ContentLength >= 0 {
			return append(strconv.AppendInt(b, r.ContentLength, 10), '\n'), true
		}
	}
	values := headerValues(r.Header, name)
	if len(values) == 0 {
		return b, false
	}
	for i, value := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendFolded(b, value)
	}
	return append(b, '\n'), true
}

// headerValues looks a lower-case name up. It is http.Header.Values without the
// string that textproto makes of each name it does not know.
func headerValues(header http.Header, name string) []string {
	var room [64]byte
	if len(name) > len(room) {
		return header.Values(name)
	}
	upper := true
	for i := range len(name) {
		c := name[i]
		if upper && c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		room[i] = c
		upper = c == '-'
	}
	return header[string(room[:len(name)])]
}

func appendFolded(b []byte, value string) []byte {
	value = strings.Trim(value, " \t\r\n")
	for {
		i := strings.Index(value, "  ")
		if i < 0 {
			return append(b, value...)
		}
		b = append(b, value[:i+1]...)
		value = strings.TrimLeft(value[i:], " ")
	}
}

type parameter struct{ name, value string } // both escaped

// appendQuery appends the parameters, escaped and then sorted. The escapes are
// normalised: what was sent as %7e or %41 is signed as ~ or A.
func appendQuery(b []byte, query string) ([]byte, bool) {
	if query == "" {
		return b, true
	}
	var room [16]parameter
	parameters := room[:0]
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, ok := escapedParameter(name)
		if !ok {
			return b, false
		}
		value, ok = escapedParameter(value)
		if !ok {
			return b, false
		}
		parameters = append(parameters, parameter{name, value})
	}
	slices.SortFunc(parameters, func(x, y parameter) int {
		return cmp.Or(strings.Compare(x.name, y.name), strings.Compare(x.value, y.value))
	})
	for i, p := range parameters {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(append(append(b, p.name...), '='), p.value...)
	}
	return b, true
}

// escapedParameter is a name or value in its one canonical spelling, whatever
// spelling it came in. '+' is a space here because handlers read it as one.
func escapedParameter(s string) (string, bool) {
	if i := strings.IndexFunc(s, func(c rune) bool { return c >= 0x80 || !unreserved(byte(c)) }); i < 0 {
		return s, true
	}
	clear := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '+':
			clear = append(clear, ' ')
		case '%':
			if i+2 >= len(s) {
				return "", false
			}
			high, low := unhex(s[i+1]), unhex(s[i+2])
			if high > 15 || low > 15 {
				return "", false
			}
			clear = append(clear, high<<4|low)
			i += 2
		default:
			clear = append(clear, c)
		}
	}
	return string(appendEscaped(make([]byte, 0, len(s)+8), string(clear), false)), true
}

// appendEscaped percent-encodes all but RFC 3986's unreserved characters, and
// the slash where it separates.
func appendEscaped(b []byte, s string, keepSlash bool) []byte {
	const hexadecimal = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if unreserved(c) || c == '/' && keepSlash {
			b = append(b, c)
			continue
		}
		b = append(b, '%', hexadecimal[c>>4], hexadecimal[c&15])
	}
	return b
}

func unreserved(c byte) bool {
	return letter(c) || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~'
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case letter(c) && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 0xff
}
