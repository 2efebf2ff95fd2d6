package vault

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// Key is whose grant it is: all of it, or nothing. Scopes are not part of it,
// since a grant may cover more than it is asked for; resources and audiences
// are, since a token for one is not a token for another.
type Key struct {
	Account    string
	WorkloadID string
	User       principal.User
	ProviderID string
	Label      string   // of several accounts of one person at one provider; "" is the only one
	Resources  []string // a Set
	Audiences  []string // a Set
}

// Set sorts values and drops repetitions, so that order has no meaning. nil when there are none.
func Set(values []string) []string {
	if len(values) == 0 {
		return nil
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

// Lookup is the key as one indexed column, and as one comparable value. Each
// part is preceded by its length, so that no two keys read the same.
func (k Key) Lookup() string {
	buffer := make([]byte, 0, 512)
	add := func(text string) {
		buffer = binary.AppendUvarint(buffer, uint64(len(text)))
		buffer = append(buffer, text...)
	}
	for _, text := range [...]string{k.WorkloadID, k.User.Issuer, k.User.Subject, k.User.ID, k.ProviderID, k.Label} {
		add(text)
	}
	for _, set := range [...][]string{Set(k.Resources), Set(k.Audiences)} {
		buffer = binary.AppendUvarint(buffer, uint64(len(set)))
		for _, text := range set {
			add(text)
		}
	}
	sum := sha256.Sum256(buffer)
	return base64.RawURLEncoding.EncodeToString(sum[:])[:lookupLength]
}

// lookupLength is 132 bits of the hash: nobody finds a second key with the same.
const lookupLength = 22

func encodeSet(values []string) (string, error) {
	set := Set(values)
	if set == nil {
		return "", nil
	}
	encoded, err := json.Marshal(set)
	return string(encoded), fault.Wrap(err, "encoding a set")
}

func decodeSet(text string) ([]string, error) {
	var set []string
	if text == "" {
		return nil, nil
	}
	return set, fault.Wrap(json.Unmarshal([]byte(text), &set), "decoding a set")
}
