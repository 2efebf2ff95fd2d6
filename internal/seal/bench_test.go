package seal_test

import (
	"crypto/aes"
	"crypto/cipher"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

var value = strings.Repeat("v", 1200) // an access token with a few claims

func BenchmarkSealText(b *testing.B) {
	k := storetest.Keeper(b, storetest.Open(b), account)
	text := secret.New(value)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.SealText(b.Context(), grant, text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenText(b *testing.B) {
	k := storetest.Keeper(b, storetest.Open(b), account)
	sealed := mustSeal(b, k, grant, value)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.OpenText(b.Context(), grant, sealed); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenTextParallel(b *testing.B) {
	k := storetest.Keeper(b, storetest.Open(b), account)
	sealed := mustSeal(b, k, grant, value)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := k.OpenText(b.Context(), grant, sealed); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkFloor is the cipher alone.
func BenchmarkFloor(b *testing.B) {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		b.Fatal(err)
	}
	sealed := aead.Seal(nil, nil, []byte(value), nil)
	into := make([]byte, 0, len(value))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := aead.Open(into, nil, sealed, nil); err != nil {
			b.Fatal(err)
		}
	}
}
