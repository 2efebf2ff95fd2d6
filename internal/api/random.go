package api

import "crypto/rand"

// The alphabets of AWS's ids.
const (
	lowerAlphanumeric = "0123456789abcdefghijklmnopqrstuvwxyz"
	upperAlphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	alphanumeric      = upperAlphanumeric + "abcdefghijklmnopqrstuvwxyz"
)

// NewLowerID, NewUpperID and NewMixedID are ten random letters and digits, with
// which the ids of gateways, of targets, and of agent runtimes and endpoints end.
func NewLowerID() string { return randomText(lowerAlphanumeric) }
func NewUpperID() string { return randomText(upperAlphanumeric) }
func NewMixedID() string { return randomText(alphanumeric) }

// randomText draws without bias: of bytes, only those below the largest multiple
// of the alphabet's length count.
func randomText(alphabet string) string {
	const length = 10
	out := make([]byte, 0, length)
	for len(out) < length {
		var raw [2 * length]byte
		_, _ = rand.Read(raw[:]) // never fails
		for _, b := range raw {
			if len(out) < length && int(b) < 256/len(alphabet)*len(alphabet) {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(out)
}
