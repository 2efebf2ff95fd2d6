package oauth

import (
	"bytes"
	"encoding/json"
	"math"
	"mime"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/secret"
)

// members are the members of an answer by name.
type members map[string]json.RawMessage

// members reads an answer: JSON objects, and forms from servers that overlook
// Accept; error pages of proxies come as anything.
func (a answer) members() (members, bool) {
	var fields members
	if json.Unmarshal(a.body, &fields) == nil && fields != nil {
		return fields, true
	}
	if kind, _, _ := mime.ParseMediaType(a.header.Get("Content-Type")); kind != "application/x-www-form-urlencoded" {
		return nil, false
	}
	form, err := url.ParseQuery(string(bytes.TrimSpace(a.body)))
	if err != nil || len(form) == 0 {
		return nil, false
	}
	fields = members{}
	for name := range form {
		fields[name], _ = json.Marshal(form.Get(name))
	}
	return fields, true
}

// token makes a token of an answer, or says what is wrong with it.
func (a answer) token() (Token, *Error) {
	fields, readable := a.members()
	problem := a.problem(fields)
	if a.status < 200 || a.status > 299 {
		return Token{}, problem
	}
	if !readable {
		problem.Transient = true // a success that is a page: something between us and the provider answered
		return Token{}, problem
	}
	if ok := fields["ok"]; a.vendor.Quirks.OKMember && string(bytes.TrimSpace(ok)) == "false" {
		return Token{}, problem
	}
	if _, found := text(fields["access_token"]); !found && a.vendor.Quirks.NestedUserToken {
		var nested members
		if json.Unmarshal(fields["authed_user"], &nested) == nil {
			fields = nested
		}
	}
	access, ok := text(fields["access_token"])
	if !ok || !isTokenText(access) {
		return Token{}, problem
	}
	t := Token{
		Access: secret.New(access),
		Expiry: expiry(fields["expires_in"], a.started),
		Scopes: scopeList(fields["scope"], a.vendor.Quirks.ScopeSeparator),
	}
	if refresh, ok := text(fields["refresh_token"]); ok {
		t.Refresh = secret.New(refresh)
	}
	if id, ok := text(fields["id_token"]); ok {
		t.ID = secret.New(id)
	}
	t.Type = "Bearer"
	if kind, ok := text(fields["token_type"]); ok && kind != "" {
		t.Type = kind
	}
	t.IssuedType, _ = text(fields["issued_token_type"])
	return t, nil
}

// problem reads an answer that is no token. The standards have error and
// error_description; the rest of the names are those that vendors use instead.
func (a answer) problem(fields members) *Error {
	var nested members // a whole object as the error
	_ = json.Unmarshal(fields["error"], &nested)
	code, _ := text(fields["error"])
	status, _ := text(fields["status"])
	words := firstText(fields["error_description"], fields["message"], fields["reason"], nested["message"])
	gone := func(said string) bool { return said != "" && slices.Contains(a.vendor.Quirks.GoneCodes, said) }
	if gone(code) || gone(status) || gone(words) {
		code = "invalid_grant"
	}
	e := failure(a.status, a.header, code, words, a.sent, a.started)
	e.endpoint = a.endpoint
	later := string(nested["is_transient"]) == "true" || code != "" && slices.Contains(a.vendor.Quirks.PassingCodes, code)
	if later && e.Code != "invalid_grant" {
		e.Transient = true
		e.RetryAfter = retryAfter(a.header.Get("Retry-After"), a.started)
	}
	return e
}

// text reads a JSON string; anything else, null included, is none.
func text(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

func firstText(list ...json.RawMessage) string {
	for _, raw := range list {
		if s, ok := text(raw); ok && s != "" {
			return s
		}
	}
	return ""
}

// isTokenText reports whether an access token can be sent in a header (RFC 6749's VSCHAR).
func isTokenText(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}

// expiry reads a lifetime in seconds, which servers send as a number, a string
// or a fraction. None, zero and nonsense are unknown. Ten years is for ever.
func expiry(raw json.RawMessage, from time.Time) time.Time {
	number := string(bytes.TrimSpace(raw))
	if s, ok := text(raw); ok {
		number = strings.TrimSpace(s)
	}
	seconds, err := strconv.ParseFloat(number, 64)
	if err != nil && !math.IsInf(seconds, 1) || math.IsNaN(seconds) || seconds <= 0 {
		return time.Time{}
	}
	const forever = 10 * 365 * 24 * 3600
	return from.Add(time.Duration(math.Min(seconds, forever) * float64(time.Second)))
}

// scopeList reads scopes: a string with spaces or the vendor's separator between,
// or a list of strings.
func scopeList(raw json.RawMessage, separator string) []string {
	if s, ok := text(raw); ok {
		if separator != "" {
			s = strings.ReplaceAll(s, separator, " ")
		}
		if list := strings.Fields(s); len(list) > 0 {
			return list
		}
		return nil
	}
	var list []string
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 {
		return nil
	}
	return list
}
