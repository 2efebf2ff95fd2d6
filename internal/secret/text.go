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
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Text is a secret string. The zero Text is empty, and prints as "".
//
// The value is behind a pointer, because fmt cannot call methods on what lies in
// an unexported field or behind a wrong verb: it then prints the address, not the
// secret. Compare with Equal: == compares addresses.
type Text struct {
	value *string
}

// New makes a Text of a value that just arrived from a request, a provider or the vault.
func New(value string) Text {
	if value == "" {
		return Text{}
	}
	return Text{&value}
}

// Pointer is New for optional members of api structs.
func Pointer(value string) *Text {
	text := New(value)
	return &text
}

// Reveal opens the secret. Call it only where the value goes into a response, an
// outbound request or a cipher.
func (t Text) Reveal() string {
	if t.value == nil {
		return ""
	}
	return *t.value
}

// Empty reports whether there is no secret at all.
func (t Text) Empty() bool { return t.value == nil }

// Len is the length in bytes, which constraints need and which gives nothing away that the caller does not know.
func (t Text) Len() int { return len(t.Reveal()) }

// Equal compares in constant time (for equal lengths).
func (t Text) Equal(other Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.Reveal()), []byte(other.Reveal())) == 1
}

// String hides the content.
func (t Text) String() string {
	if t.Empty() {
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
func (t *Text) UnmarshalJSON(data []byte) error {
	var value string
	if err := json.Unmarshal(data, &value); err != nil {
		return errors.New("a secret is a JSON string") // json's own error may quote the value
	}
	*t = New(value)
	return nil
}

// UnmarshalText takes a value in from flags, the environment and YAML.
func (t *Text) UnmarshalText(data []byte) error {
	*t = New(string(data))
	return nil
}
