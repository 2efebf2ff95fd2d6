package seal_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const account = "111122223333"

var grant = seal.Context{Account: account, Kind: "grant-access-token", Row: "grant-1", Version: 3}

func mustSeal(t testing.TB, k *seal.Keeper, c seal.Context, plaintext string) []byte {
	t.Helper()
	sealed, err := k.Seal(t.Context(), c, []byte(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestWhatIsSealedOpens(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		k := storetest.Keeper(t, db, account)
		for _, plaintext := range []string{"", "x", "ya29.a0AfH6SM", string(bytes.Repeat([]byte("long "), 40_000))} {
			sealed := mustSeal(t, k, grant, plaintext)
			opened, err := k.Open(t.Context(), grant, sealed)
			if err != nil || string(opened) != plaintext {
				t.Fatalf("opened %d bytes, %v; want %d", len(opened), err, len(plaintext))
			}
			if again := mustSeal(t, k, grant, plaintext); bytes.Equal(again, sealed) {
				t.Error("the same value sealed twice is the same ciphertext")
			}
			text, err := k.SealText(t.Context(), grant, secret.New(plaintext))
			if err != nil {
				t.Fatal(err)
			}
			back, err := k.OpenText(t.Context(), grant, text)
			if err != nil || back.Reveal() != plaintext {
				t.Fatalf("as text: %d bytes, %v", back.Len(), err)
			}
		}
	})
}

func TestAnyChangedBitIsNoticed(t *testing.T) {
	t.Parallel()
	k := storetest.Keeper(t, storetest.Open(t), account)
	sealed := mustSeal(t, k, grant, "refresh-token")
	for at := range sealed {
		for bit := range 8 {
			altered := bytes.Clone(sealed)
			altered[at] ^= 1 << bit
			if opened, err := k.Open(t.Context(), grant, altered); !fault.Is(err, fault.Undecryptable) || opened != nil {
				t.Fatalf("byte %d bit %d: %q, %v", at, bit, opened, err)
			}
		}
	}
	for length := range sealed {
		if _, err := k.Open(t.Context(), grant, sealed[:length]); !fault.Is(err, fault.Undecryptable) {
			t.Fatalf("cut to %d bytes: %v", length, err)
		}
	}
	if _, err := k.Open(t.Context(), grant, append(bytes.Clone(sealed), 0)); !fault.Is(err, fault.Undecryptable) {
		t.Fatalf("with a byte more: %v", err)
	}
}

func TestAMovedValueDoesNotOpen(t *testing.T) {
	t.Parallel()
	const other = "444455556666"
	k := storetest.Keeper(t, storetest.Open(t), account, other)
	sealed := mustSeal(t, k, grant, "refresh-token")
	for name, move := range map[string]func(*seal.Context){
		"account": func(c *seal.Context) { c.Account = other },
		"purpose": func(c *seal.Context) { c.Purpose = seal.Tokens },
		"kind":    func(c *seal.Context) { c.Kind = "grant-refresh-token" },
		"row":     func(c *seal.Context) { c.Row = "grant-2" },
		"version": func(c *seal.Context) { c.Version++ },
		"border":  func(c *seal.Context) { c.Kind, c.Row = c.Kind+"g", c.Row[1:] },
	} {
		moved := grant
		move(&moved)
		if opened, err := k.Open(t.Context(), moved, sealed); !fault.Is(err, fault.Undecryptable) {
			t.Errorf("another %s: %q, %v", name, opened, err)
		}
	}
	vault := grant
	vault.Purpose = seal.Vault
	if _, err := k.Open(t.Context(), vault, sealed); err != nil {
		t.Errorf("the zero purpose is not Vault: %v", err)
	}
}

func TestAnUnknownAccountSealsNothing(t *testing.T) {
	t.Parallel()
	k := storetest.Keeper(t, storetest.Open(t))
	stranger := seal.Context{Account: "999999999999", Kind: "k", Row: "r"}
	if _, err := k.Seal(t.Context(), stranger, []byte("x")); !fault.Is(err, fault.Internal) {
		t.Errorf("Seal: %v", err)
	}
	if _, err := k.Open(t.Context(), stranger, make([]byte, 64)); !fault.Is(err, fault.Undecryptable) {
		t.Errorf("Open: %v", err)
	}
	if _, err := k.Derive(t.Context(), stranger.Account, seal.AuditMAC, "x"); !fault.Is(err, fault.Internal) {
		t.Errorf("Derive: %v", err)
	}
	if err := k.Rotate(t.Context(), stranger.Account, seal.Vault); !fault.Is(err, fault.Internal) {
		t.Errorf("Rotate: %v", err)
	}
	if err := k.EnsureAccount(t.Context(), stranger.Account); err != nil {
		t.Fatal(err)
	}
	mustSeal(t, k, stranger, "x")
}

func TestDerivedKeysDiffer(t *testing.T) {
	t.Parallel()
	const other = "444455556666"
	k := storetest.Keeper(t, storetest.Open(t), account, other)
	derive := func(account string, p seal.Purpose, info string) string {
		t.Helper()
		key, err := k.Derive(t.Context(), account, p, info)
		if err != nil || len(key) != 32 {
			t.Fatalf("%d bytes, %v", len(key), err)
		}
		return string(key)
	}
	first := derive(account, seal.AuditMAC, "writer-1")
	seen := map[string]bool{first: true}
	for _, key := range []string{
		derive(account, seal.AuditMAC, "writer-2"), derive(account, seal.Vault, "writer-1"),
		derive(other, seal.AuditMAC, "writer-1"), derive(seal.Platform, seal.AuditMAC, "writer-1"),
	} {
		if seen[key] {
			t.Error("two derivations gave one key")
		}
		seen[key] = true
	}
	if err := k.Rotate(t.Context(), account, seal.AuditMAC); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, derive(account, seal.AuditMAC, "writer-1")); diff != "" {
		t.Error("Rotate changed a derived key")
	}
}
