package seal_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

func newKeeper(t *testing.T, db *store.DB, w seal.KeyWrapper) *seal.Keeper {
	t.Helper()
	k, err := seal.NewKeeper(t.Context(), db, w)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func generations(t *testing.T, db *store.DB, account string, p seal.Purpose) (n int) {
	t.Helper()
	err := db.View(t.Context(), func(tx *store.Tx) error {
		return tx.QueryRow("SELECT count(*) FROM data_keys WHERE account = $1 AND purpose = $2", account, string(p)).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestReplicasAgreeOnAnAccountsKeys(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		_, wrapper := newFileKey(t)
		dbs := []*store.DB{storetest.OpenWith(t, o), storetest.OpenWith(t, o)}
		keepers := []*seal.Keeper{newKeeper(t, dbs[0], wrapper), newKeeper(t, dbs[1], wrapper)}
		var group sync.WaitGroup
		for i := range 6 {
			group.Go(func() {
				if err := keepers[i%2].EnsureAccount(t.Context(), account); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		for _, p := range []seal.Purpose{seal.Vault, seal.Tokens, seal.Pages, seal.Sessions, seal.AuditMAC} {
			if n := generations(t, dbs[0], account, p); n != 1 {
				t.Errorf("%d keys for %s", n, p)
			}
			c := seal.Context{Account: account, Purpose: p, Kind: "k", Row: "r"}
			if opened, err := keepers[1].Open(t.Context(), c, mustSeal(t, keepers[0], c, "x")); err != nil || string(opened) != "x" {
				t.Errorf("%s: one replica cannot read the other: %v", p, err)
			}
		}
	})
}

func TestRotationKeepsOldValues(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		_, wrapper := newFileKey(t)
		db, otherDB := storetest.OpenWith(t, o), storetest.OpenWith(t, o)
		k, other := newKeeper(t, db, wrapper), newKeeper(t, otherDB, wrapper)
		if err := k.EnsureAccount(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		old := mustSeal(t, k, grant, "old")
		elsewhere := mustSeal(t, other, grant, "elsewhere") // has the first key in its memory
		if err := k.Rotate(t.Context(), account, seal.Vault); err != nil {
			t.Fatal(err)
		}
		fresh := mustSeal(t, k, grant, "new")
		if bytes.Equal(old[:5], fresh[:5]) {
			t.Error("sealed with the old key after the rotation")
		}
		restarted := newKeeper(t, db, wrapper)
		for name, keeper := range map[string]*seal.Keeper{"the one that rotated": k, "the other replica": other, "after a restart": restarted} {
			for plaintext, sealed := range map[string][]byte{"old": old, "new": fresh, "elsewhere": elsewhere} {
				if opened, err := keeper.Open(t.Context(), grant, sealed); err != nil || string(opened) != plaintext {
					t.Errorf("%s: %q, %v; want %q", name, opened, err, plaintext)
				}
			}
		}
		if n := generations(t, db, account, seal.Tokens); n != 1 {
			t.Errorf("the rotation touched another purpose: %d keys", n)
		}
		swapped := append(bytes.Clone(old[:5]), fresh[5:]...)
		if _, err := k.Open(t.Context(), grant, swapped); !fault.Is(err, fault.Undecryptable) {
			t.Errorf("a new value under the old key's number: %v", err)
		}
	})
}

// Without a value to read that names the new key, a replica learns of it by time.
func TestAReplicaNoticesARotation(t *testing.T) {
	t.Parallel()
	_, wrapper := newFileKey(t)
	path := storetest.SQLite(t)
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(t, storetest.OpenWith(t, store.Options{Path: path}), wrapper)
		other := newKeeper(t, storetest.OpenWith(t, store.Options{Path: path}), wrapper)
		if err := k.EnsureAccount(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		before := mustSeal(t, other, grant, "x")
		if err := k.Rotate(t.Context(), account, seal.Vault); err != nil {
			t.Fatal(err)
		}
		time.Sleep(61 * time.Second)
		if after := mustSeal(t, other, grant, "x"); bytes.Equal(before[:5], after[:5]) {
			t.Error("a minute after the rotation the other replica seals with the old key")
		}
	})
}

func TestSealingInsideATransaction(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		_, wrapper := newFileKey(t)
		first := newKeeper(t, storetest.OpenWith(t, o), wrapper)
		db := storetest.OpenWith(t, o)
		k := newKeeper(t, db, wrapper)
		if err := first.EnsureAccount(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		err := db.Update(t.Context(), func(tx *store.Tx) error { // k meets the account here
			sealed, err := k.SealText(tx.Context(), grant, secret.New("x"))
			if err != nil {
				return err
			}
			_, err = k.OpenText(tx.Context(), grant, sealed)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestAlteredKeyRowsAreNoticed(t *testing.T) {
	t.Parallel()
	const other = "444455556666"
	for name, alter := range map[string]string{
		"moved to another account": "UPDATE data_keys SET wrapped = (SELECT wrapped FROM data_keys WHERE account = '" + other + "' AND purpose = 'vault') WHERE account = '" + account + "' AND purpose = 'vault'",
		"moved to another purpose": "UPDATE data_keys SET wrapped = (SELECT wrapped FROM data_keys WHERE account = '" + account + "' AND purpose = 'audit') WHERE account = '" + account + "' AND purpose = 'vault'",
		"another generation":       "UPDATE data_keys SET generation = 2 WHERE account = '" + account + "' AND purpose = 'vault'",
		"cut":                      "UPDATE data_keys SET wrapped = substr(wrapped, 1, 20) WHERE account = '" + account + "' AND purpose = 'vault'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, wrapper := newFileKey(t)
			db := storetest.OpenWith(t, store.Options{Path: storetest.SQLite(t)})
			k := newKeeper(t, db, wrapper)
			for _, a := range []string{account, other} {
				if err := k.EnsureAccount(t.Context(), a); err != nil {
					t.Fatal(err)
				}
			}
			sealed := mustSeal(t, k, grant, "x")
			err := db.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(alter); return err })
			if err != nil {
				t.Fatal(err)
			}
			restarted, err := seal.NewKeeper(t.Context(), db, wrapper)
			if err == nil { // it proves one row, and it may be another
				_, err = restarted.Open(t.Context(), grant, sealed)
			}
			if !fault.Is(err, fault.Undecryptable) {
				t.Errorf("%v", err)
			}
		})
	}
}

// watched is a file key that notes every data key it is given to wrap.
type watched struct {
	seal.KeyWrapper
	seen *[][]byte
}

func (w watched) Wrap(ctx context.Context, dataKey []byte, bound string) ([]byte, error) {
	*w.seen = append(*w.seen, bytes.Clone(dataKey))
	return w.KeyWrapper.Wrap(ctx, dataKey, bound)
}

func TestNothingClearIsInTheDatabase(t *testing.T) {
	t.Parallel()
	path, file := newFileKey(t)
	var canaries [][]byte
	wrapper := watched{file, &canaries}
	options := store.Options{Path: storetest.SQLite(t)}
	db := storetest.OpenWith(t, options)
	k := newKeeper(t, db, wrapper)
	if err := k.EnsureAccount(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	if err := k.Rotate(t.Context(), account, seal.Vault); err != nil {
		t.Fatal(err)
	}
	if len(canaries) < 11 {
		t.Fatalf("only %d data keys were seen", len(canaries))
	}
	const canary = "canary-4f1c9a5be07d"
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec("CREATE TABLE secrets (id TEXT PRIMARY KEY, sealed BLOB)"); err != nil {
			return err
		}
		sealed, err := k.SealText(t.Context(), grant, secret.New(strings.Repeat(canary, 100)))
		if err != nil {
			return err
		}
		_, err = tx.Exec("INSERT INTO secrets (id, sealed) VALUES ('public-marker', $1)", sealed)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	keyFile, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	encoded := bytes.TrimSpace(keyFile[bytes.LastIndexByte(keyFile, ':')+1:])
	key, err := base64.RawURLEncoding.DecodeString(string(encoded))
	if err != nil {
		t.Fatal(err)
	}
	canaries = append(canaries, []byte(canary), key, encoded)
	look := func(when string) {
		t.Helper()
		marker := false
		for _, suffix := range []string{"", "-wal", "-shm"} {
			content, err := os.ReadFile(options.Path + suffix)
			if err != nil && suffix == "" {
				t.Fatal(err)
			}
			marker = marker || bytes.Contains(content, []byte("public-marker"))
			for _, c := range canaries {
				if bytes.Contains(content, c) || bytes.Contains(content, []byte(hex.EncodeToString(c))) ||
					bytes.Contains(content, []byte(base64.StdEncoding.EncodeToString(c))) {
					t.Errorf("%s: a secret of %d bytes is clear in the database%s", when, len(c), suffix)
				}
			}
		}
		if !marker {
			t.Errorf("%s: the search does not find what is there", when)
		}
	}
	look("in use")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	look("closed")
}
