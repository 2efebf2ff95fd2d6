package api

import (
	"regexp"
	"testing"
)

// Ids are of their alphabet, all of it, and do not come again.
func TestRandomIDs(t *testing.T) {
	t.Parallel()
	for _, kind := range []struct {
		make     func() string
		alphabet string
		pattern  string
	}{
		{NewLowerID, lowerAlphanumeric, "^[a-z0-9]{10}$"},
		{NewUpperID, upperAlphanumeric, "^[A-Z0-9]{10}$"},
		{NewMixedID, alphanumeric, "^[a-zA-Z0-9]{10}$"},
	} {
		made, drawn := map[string]bool{}, map[rune]bool{}
		for range 1000 {
			id := kind.make()
			if !regexp.MustCompile(kind.pattern).MatchString(id) || made[id] {
				t.Fatalf("%s is not of %s, or came before", id, kind.pattern)
			}
			made[id] = true
			for _, c := range id {
				drawn[c] = true
			}
		}
		if len(drawn) != len(kind.alphabet) {
			t.Errorf("%d characters of %s were drawn", len(drawn), kind.alphabet)
		}
	}
}
