package main

import (
	"regexp"
	"strings"
	"unicode"
)

// What must never be seen: the values of these parameters and members, bearer
// tokens, JWTs, and what Google's codes, tokens and secrets look like.
var (
	secretName      = `request_uri|code|state|session_id|id_token|access_token|refresh_token|client_secret|code_verifier`
	secretParameter = regexp.MustCompile(`\b((?:` + secretName + `)=)[^&\s"']+`)
	secretMember    = regexp.MustCompile(`("(?:` + secretName + `)"\s*:\s*")[^"]+`)
	requestURN      = regexp.MustCompile(`(urn(?::|%3A)ietf(?::|%3A)params(?::|%3A)oauth(?::|%3A)request_uri(?::|%3A))[A-Za-z0-9._~-]+`)
	bearer          = regexp.MustCompile(`(?i)(bearer\s+)[A-Za-z0-9._~+/=-]+`)
	known           = regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*|\bya29\.[A-Za-z0-9_.-]+|\bGOCSPX-[A-Za-z0-9_-]+|\b1//[A-Za-z0-9_-]{10,}|\b4/0[A-Za-z0-9_-]{10,}`)
)

// redact masks secrets in a text that goes to a log or an error message.
func redact(text string) string {
	for _, named := range []*regexp.Regexp{secretParameter, secretMember, requestURN, bearer} {
		text = named.ReplaceAllString(text, "${1}[redacted]")
	}
	return known.ReplaceAllString(text, "[redacted]")
}

// safe is an error's text: redacted, on one line, and nothing that moves the cursor.
func safe(err error) string {
	return printable(redact(strings.Join(strings.Fields(err.Error()), " ")))
}

// printable is a foreign text without what a terminal would obey.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, text)
}
