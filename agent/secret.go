package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
)

// Secret is an access token, an API key or a link that must not be seen. It
// prints, marshals and logs as "[redacted]"; [Secret.Reveal] alone opens it, so
// that a search for Reveal lists every place that does.
//
// The zero Secret is empty, and prints as "". Compare what is revealed: == compares addresses.
type Secret struct {
	value *string // a pointer, so that fmt finds an address where it may not call methods
}

const redacted = "[redacted]"

// NewSecret makes a Secret of a value that came from elsewhere.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{&value}
}

// Reveal is the value itself, for the request that carries it.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsZero reports whether there is nothing in it.
func (s Secret) IsZero() bool { return s.value == nil }

// SetAuthHeader makes r carry the secret as "Authorization: Bearer …".
func (s Secret) SetAuthHeader(r *http.Request) { r.Header.Set("Authorization", "Bearer "+s.Reveal()) }

// String hides the value.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// Format hides the value from every verb, %#v and %x included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue hides the value from log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON hides the value. There is no way back: a Secret is not read from
// JSON, so an input that came from a model cannot bring one.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// MarshalText hides the value from text encoders and map keys.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
