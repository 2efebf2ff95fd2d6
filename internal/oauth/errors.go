package oauth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// Error is what a token endpoint (or the one for revocation or pushed requests) complained of, found with errors.As inside the
// fault.Upstream or, where Transient, the fault.Unavailable that carries it. Only
// Code invalid_grant says that the grant itself is gone; it is never Transient.
type Error struct {
	Code        string        // of RFC 6749 or an extension: invalid_grant …; empty when there was none that can be trusted
	Description string        // the provider's words, with whatever looks like a secret masked; for the log
	Status      int           // of HTTP; 0: no answer
	Transient   bool          // trying again later may help
	RetryAfter  time.Duration // what the provider asked for, at most an hour; 0: nothing
	endpoint    string        // what it is
	cause       error
}

// Error is safe to log.
func (e *Error) Error() string {
	text := e.place()
	if e.Status != 0 {
		text += fmt.Sprintf(" answered %d", e.Status)
	} else {
		text += " gave no answer"
	}
	if e.Code != "" {
		text += " " + e.Code
	}
	if e.Description != "" {
		text += fmt.Sprintf(" (%q)", e.Description)
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

func (e *Error) place() string {
	if e.endpoint == "" {
		return tokenEndpoint
	}
	return e.endpoint
}

// Unwrap gives the failure of the network, where that was it.
func (e *Error) Unwrap() error { return e.cause }

// withoutAnswer classifies an exchange that egress ended.
func withoutAnswer(endpoint string, err error) error {
	outer := *fault.Of(err)
	outer.Cause = &Error{endpoint: endpoint, Transient: outer.Kind == fault.Unavailable, cause: err}
	return &outer
}

// refusal makes the *fault.Error around what an endpoint of host answered.
func refusal(host string, e *Error) error {
	var outer *fault.Error
	switch {
	case e.Transient:
		outer = fault.New(fault.Unavailable, "The %s of %s is not available at the moment (status %d). Try again later.", e.place(), host, e.Status)
		outer.RetryAfter = e.RetryAfter
	case e.Code != "":
		outer = fault.New(fault.Upstream, "The %s of %s refused the request: %s.", e.place(), host, e.Code)
	case e.Status >= 200 && e.Status < 300 && e.place() == tokenEndpoint:
		outer = fault.New(fault.Upstream, "The token endpoint of %s answered without an access token.", host)
	case e.Status >= 200 && e.Status < 300:
		outer = fault.New(fault.Upstream, "The %s of %s gave an answer that cannot be used.", e.place(), host)
	default:
		outer = fault.New(fault.Upstream, "The %s of %s refused the request with status %d.", e.place(), host, e.Status)
	}
	return outer.Because(e)
}

var codePattern = regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)

// standard codes are believed even if a client's secret happens to be a part of one.
var standard = map[string]bool{
	"invalid_request": true, "invalid_client": true, "invalid_grant": true, "unauthorized_client": true,
	"unsupported_grant_type": true, "invalid_scope": true, "invalid_target": true, "access_denied": true,
	"temporarily_unavailable": true, "server_error": true, "slow_down": true,
}

// errorCode keeps a code that is one: words and underscores, and nothing of what was sent.
func errorCode(text string, sent []string) string {
	if standard[text] {
		return text
	}
	if len(text) > 64 || !codePattern.MatchString(text) || mask(text, sent) != text {
		return ""
	}
	return text
}

// opaque is what tokens, codes and keys look like inside a sentence.
var opaque = regexp.MustCompile(`[A-Za-z0-9+/_.~=%-]{20,}`)

// description makes a provider's sentence fit for the log: printable, short,
// without anything that was sent and without anything that looks like a secret.
func description(text string, sent []string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, text)
	text = opaque.ReplaceAllString(mask(text, sent), "…")
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return strings.TrimSpace(text)
}

// mask hides the values that were sent in the request.
func mask(text string, sent []string) string {
	for _, value := range sent {
		text = strings.ReplaceAll(text, value, "…")
	}
	return text
}

// spellings lists the forms in which a server could echo a secret.
func spellings(values ...string) []string {
	var list []string
	for _, value := range values {
		if value != "" {
			list = append(list, value, url.QueryEscape(value), base64.StdEncoding.EncodeToString([]byte(value)))
		}
	}
	return list
}

// passing lists the codes that say "later" rather than "no".
var passing = map[string]bool{"temporarily_unavailable": true, "server_error": true, "slow_down": true}

// failure reads an answer that is not a token.
func failure(status int, header http.Header, code, words string, sent []string, now time.Time) *Error {
	e := &Error{Status: status, Code: errorCode(code, sent), Description: description(words, sent)}
	switch {
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		// A server in trouble may say anything: a grant must not be given up on its word.
		e.Transient = true
		if !passing[e.Code] {
			e.Code = ""
		}
	case passing[e.Code]:
		e.Transient = true
	}
	if e.Transient {
		e.RetryAfter = retryAfter(header.Get("Retry-After"), now)
	}
	return e
}

// retryAfter reads both forms of the header: seconds and a date.
func retryAfter(text string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64); err == nil {
		wait = time.Duration(min(max(seconds, 0), 3600)) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now).Round(time.Second)
	}
	return min(max(wait, 0), time.Hour)
}

// unshared copies the *fault.Error that several callers of one flight or of a
// cached failure get, so that each may attach a cause of its own.
func unshared(err error) error {
	var known *fault.Error
	if !errors.As(err, &known) {
		return err
	}
	own := *known
	return &own
}
