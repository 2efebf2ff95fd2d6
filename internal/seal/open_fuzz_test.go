package seal_test

import (
	"bytes"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// FuzzOpen: workload tokens and page tokens come from outside, so Open is given
// whatever a caller makes up. It opens what was sealed, and nothing else.
func FuzzOpen(f *testing.F) {
	k := storetest.Keeper(f, storetest.Open(f), account)
	sealed := mustSeal(f, k, grant, "the plaintext")
	f.Add(sealed)
	f.Add(sealed[:33])
	f.Add(append(bytes.Clone(sealed), 0))
	f.Add([]byte{1, 0, 0, 0, 2})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, foreign []byte) {
		opened, err := k.Open(t.Context(), grant, foreign)
		if bytes.Equal(foreign, sealed) {
			if err != nil || string(opened) != "the plaintext" {
				t.Errorf("%q, %v", opened, err)
			}
		} else if !fault.Is(err, fault.Undecryptable) || opened != nil {
			t.Errorf("%x: %q, %v", foreign, opened, err)
		}
	})
}
