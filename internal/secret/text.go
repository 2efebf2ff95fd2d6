// Package secret holds the one type for values that must not be seen: tokens,
// passwords, authorization codes, keys.
//
// Invariant: a Text that reaches a formatter, a logger, encoding/json or a test
// failure shows as "[redacted]". Its content leaves through Reveal alone, so
// that a search for Reveal lists every place that opens one.
package secret

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Text is a secret string. The zero Text is empty, and prints as "".
type Text struct {
	value string
}

// New makes a Text of a value that just arrived from a request, a provider or the vault.
func New(value string) Text { return Text{value} }

// Pointer is New for optional members of api structs.
func Pointer(value string) *Text { return &Text{value} }

// Reveal opens the secret. Call it only where the value goes into a response, an
// outbound request or a cipher.
func (t Text) Reveal() string { return t.value }

// Empty reports whether there is no secret at all.
func (t Text) Empty() bool { return t.value == "" }

// Len is the length in bytes, which constraints need and which gives nothing away that the caller does not know.
func (t Text) Len() int { return len(t.value) }

// Equal compares in constant time (for equal lengths).
func (t Text) Equal(other Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.value), []byte(other.value)) == 1
}

// String hides the content.
func (t Text) String() string {
	if t.value == "" {
		return ""
	}
	return redacted
}

// Format hides the content from every verb, %#v and %x included.
func (t Text) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue hides the content from slog.
func (t Text) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalJSON hides the content; responses are encoded by api's own encoders, which reveal.
func (t Text) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

// MarshalText hides the content from text encoders and map keys.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalJSON takes a JSON string in.
func (t *Text) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, &t.value) }

// UnmarshalText takes a value in from flags, the environment and YAML.
func (t *Text) UnmarshalText(data []byte) error {
	t.value = string(data)
	return nil
}
