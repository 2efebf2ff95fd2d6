package audit

import (
	"strings"
)

// Names are compared in lower case without - and _, so that client_secret,
// clientSecret and Client-Secret are one.

// secretNames end the name of a secret wherever it stands: in a URL, in JSON, in a
// header, in what %+v prints, or as the key of an attribute.
var secretNames = []string{
	"clientsecret", "accesstoken", "refreshtoken", "idtoken", "subjecttoken", "actortoken", "securitytoken", "sessiontoken",
	"identitytoken", "identitywat", "secretaccesskey", "secretkey", "privatekey", "apikey", "password",
	"requesturi", "sessionuri", "codeverifier", "devicecode", "authorizationcode", "assertion", "customstate", "usertokenidentifier",
}

// urlNames are secrets only as parameters of a URL or a form: elsewhere these
// words mean something else (code: 404, "state":"active").
var urlNames = []string{"code", "state", "sessionid", "token"}

// lineNames take the rest of their line.
var lineNames = []string{"cookie", "setcookie"}

// longestName bounds how far named looks back.
const longestName = 64

// named looks at a separator (= : or an encoded one) at i: is what stands before
// it the name of a secret, and what follows it a value?
func named(s string, from, i int) (start, end int) {
	after, equals, ok := readSeparator(s, i)
	if !ok {
		return -1, -1
	}
	if s[i] == ':' && strings.HasPrefix(s[after:], "//") {
		return password(s, after+2)
	}
	name := nameBefore(s, i)
	if name == "" {
		return -1, -1
	}
	var buffer [longestName]byte
	plain := normal(buffer[:0], name)
	switch {
	case hasSuffix(plain, secretNames):
		start, end = value(s, after)
	case equals && contains(plain, urlNames):
		start, end = value(s, after)
		if end-start <= 3 && end > start && span(s[start:end], digit) == end-start {
			return -1, -1 // code=404
		}
	case contains(plain, lineNames):
		start = after + span(s[after:], blank)
		end = start + span(s[start:], func(c byte) bool { return c != '\n' && c != '\r' && c != ']' && c != '"' && c != '\\' })
	default:
		return -1, -1
	}
	if start < from {
		start = from
	}
	if end <= start || strings.HasPrefix(s[start:], masked) {
		return -1, -1
	}
	return start, end
}

// readSeparator reads a separator that may be percent-encoded, once or several
// times: = %3D %253D. It says where it ends and whether it is an equals sign.
func readSeparator(s string, i int) (after int, equals, ok bool) {
	if s[i] != '%' {
		return i + 1, s[i] == '=', true
	}
	at := i + 1
	for strings.HasPrefix(s[at:], "25") {
		at += 2
	}
	if len(s) < at+2 || s[at] != '3' {
		return 0, false, false
	}
	switch s[at+1] | 0x20 {
	case 'd':
		return at + 2, true, true
	case 'a':
		return at + 2, false, true
	}
	return 0, false, false
}

// nameBefore is the name that ends before i: past closing quotes, escapes and
// spaces, and without the encoded character that may precede it (%26code,
// \u0026code, \ncode).
func nameBefore(s string, i int) string {
	end := i
	for end > 0 && i-end < 16 {
		c := s[end-1]
		if c == '"' || c == '\'' || c == '`' || c == '\\' || c == ' ' {
			end--
			continue
		}
		if end >= 3 && (s[end-3:end] == "%22" || s[end-3:end] == "%27" || s[end-3:end] == "%20") {
			end -= 3
			continue
		}
		break
	}
	start := end
	for start > 0 && end-start < longestName && nameByte(s[start-1]) {
		start--
	}
	if start == 0 {
		return s[start:end]
	}
	name := s[start:end]
	switch s[start-1] {
	case '%':
		for strings.HasPrefix(name, "25") && len(name) > 4 {
			name = name[2:]
		}
		if len(name) > 2 && hexByte(name[0]) && hexByte(name[1]) {
			name = name[2:]
		}
	case '\\':
		switch {
		case len(name) > 5 && name[0] == 'u' && span(name[1:5], hexByte) == 4:
			name = name[5:]
		case len(name) > 1 && strings.IndexByte("nrt", name[0]) >= 0:
			name = name[1:]
		}
	}
	return name
}

// value finds where a value lies: quoted (however deep the quotes are escaped),
// in Go's brackets, or bare up to the next delimiter.
func value(s string, i int) (start, end int) {
	start = i
	for start < len(s) && (blank(s[start]) || s[start] == '[' && !strings.HasPrefix(s[start:], masked)) {
		start++
	}
	escapes := span(s[start:], func(c byte) bool { return c == '\\' })
	if quoteAt := start + escapes; quoteAt < len(s) && (s[quoteAt] == '"' || s[quoteAt] == '\'' || s[quoteAt] == '`') {
		return quoted(s, quoteAt+1, s[quoteAt], escapes)
	}
	for strings.HasPrefix(s[start:], "%22") || strings.HasPrefix(s[start:], "%27") || strings.HasPrefix(s[start:], "%20") {
		start += 3
	}
	return start, start + span(s[start:], bareByte)
}

// quoted ends a value at the first quote that is escaped no deeper than the
// opening one. A deeper one belongs to the value; in doubt more is masked.
func quoted(s string, start int, quote byte, escapes int) (from, end int) {
	depth := 0
	for i := start; i < len(s); i++ {
		switch s[i] {
		case '\\':
			depth++
		case quote:
			if depth <= escapes {
				return start, i - depth
			}
			depth = 0
		default:
			depth = 0
		}
	}
	return start, len(s)
}

// password masks what stands between the colon and the at sign of a URL's authority.
func password(s string, i int) (start, end int) {
	authority := s[i : i+span(s[i:], func(c byte) bool {
		return c != '/' && c != '?' && c != '#' && c != '"' && c != '\'' && c != '\\' && c > ' '
	})]
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		return -1, -1
	}
	colon := strings.IndexByte(authority[:at], ':')
	if colon < 0 || colon+1 == at || authority[colon+1:at] == masked {
		return -1, -1
	}
	return i + colon + 1, i + at
}

func normal(buffer []byte, name string) []byte {
	for i := range len(name) {
		if c := name[i]; c >= 'A' && c <= 'Z' {
			buffer = append(buffer, c|0x20)
		} else if c != '_' && c != '-' {
			buffer = append(buffer, c)
		}
	}
	return buffer
}

func hasSuffix(name []byte, endings []string) bool {
	for _, ending := range endings {
		if len(name) >= len(ending) && string(name[len(name)-len(ending):]) == ending {
			return true
		}
	}
	return false
}

func contains(name []byte, names []string) bool {
	for _, known := range names {
		if string(name) == known {
			return true
		}
	}
	return false
}

func nameByte(c byte) bool { return letter(c) || digit(c) || c == '_' || c == '-' }
func blank(c byte) bool    { return c == ' ' || c == '\t' }
func bareByte(c byte) bool {
	return c > ' ' && c != 0x7f && strings.IndexByte("&\"'`<>\\;,)]}#|", c) < 0
}
