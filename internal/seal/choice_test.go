package seal_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const neighbour = "999988887777"

// vaults is a database whose account may choose between two keys of a KMS, and a
// neighbour who may choose a third.
type vaults struct {
	db       *store.DB
	kms      *kms
	platform seal.KeyWrapper
	declared []seal.Declared
	*seal.Keeper
}

const neighboursARN = "arn:aws:kms:eu-central-1:" + neighbour + ":key/11111111-2222-3333-4444-555555555555"

func newVaults(t *testing.T, o store.Options) *vaults {
	t.Helper()
	v := &vaults{db: storetest.OpenWith(t, o), kms: newKMS(t, kmsARN, otherARN, neighboursARN)}
	_, v.platform = newFileKey(t)
	for _, arn := range []string{kmsARN, otherARN} {
		v.declared = append(v.declared, seal.Declared{ARN: arn, Account: account, Wrapper: openSpec(t, v.kms.spec(t, arn))})
	}
	v.declared = append(v.declared, seal.Declared{ARN: neighboursARN, Account: neighbour, Wrapper: openSpec(t, v.kms.spec(t, neighboursARN))})
	v.Keeper = v.start(t, v.db)
	for _, a := range []string{account, neighbour} {
		if err := v.EnsureAccount(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

func (v *vaults) start(t *testing.T, db *store.DB) *seal.Keeper {
	t.Helper()
	k, err := seal.NewKeeper(t.Context(), db, v.platform, v.declared...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func wantOpen(t *testing.T, k *seal.Keeper, sealed []byte, plaintext string) {
	t.Helper()
	if opened, err := k.Open(t.Context(), grant, sealed); err != nil || string(opened) != plaintext {
		t.Errorf("opened %q, %v; want %q", opened, err, plaintext)
	}
}

func wantChoice(t *testing.T, k *seal.Keeper, arn string) seal.Choice {
	t.Helper()
	c, err := k.Chosen(t.Context(), account)
	if err != nil || c.ARN != arn || c.Changed.IsZero() {
		t.Fatalf("the vault is under %+v, %v; want %q", c, err, arn)
	}
	return c
}

func TestAVaultMovesToAnotherKey(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		v := newVaults(t, o)
		replica := v.start(t, storetest.OpenWith(t, o))
		first := mustSeal(t, v.Keeper, grant, "before any move")
		if err := v.Rotate(t.Context(), account, seal.Vault); err != nil {
			t.Fatal(err)
		}
		second := mustSeal(t, v.Keeper, grant, "after a rotation")
		before := wantChoice(t, v.Keeper, "")
		for _, arn := range []string{kmsARN, otherARN, "", kmsARN} {
			c, err := v.Move(t.Context(), account, arn)
			if err != nil || c.ARN != arn || c.Changed.Before(before.Changed) {
				t.Fatalf("moving to %q: %+v, %v", arn, c, err)
			}
			for _, k := range []*seal.Keeper{v.Keeper, replica, v.start(t, v.db)} {
				wantOpen(t, k, first, "before any move")
				wantOpen(t, k, second, "after a rotation")
				wantChoice(t, k, arn)
				wantOpen(t, v.Keeper, mustSeal(t, k, grant, "meanwhile"), "meanwhile")
			}
			if err := replica.Rotate(t.Context(), account, seal.Vault); err != nil { // under the key that the other replica chose
				t.Fatal(err)
			}
			wantChoice(t, v.Keeper, arn)
			second = mustSeal(t, replica, grant, "after a rotation")
		}
		if calls := v.kms.calls.Load(); calls == 0 {
			t.Error("the KMS was never asked")
		}
	})
}

func TestKeysThatAnAccountMayNotChoose(t *testing.T) {
	t.Parallel()
	v := newVaults(t, store.Options{Path: storetest.SQLite(t)})
	calls := v.kms.calls.Load()
	for _, arn := range []string{neighboursARN, strings.Replace(kmsARN, "1111", "2222", 1), "file:/etc/passwd"} {
		_, err := v.Move(t.Context(), account, arn)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "none of those that the operator declared") {
			t.Errorf("%s: %v", arn, err)
		}
	}
	wantChoice(t, v.Keeper, "")
	if v.kms.calls.Load() != calls {
		t.Error("the KMS was asked")
	}
}

// turncoat wraps with one key and unwraps with another, or is interrupted.
type turncoat struct {
	seal.KeyWrapper
	unwrap func(ctx context.Context) ([]byte, error)
}

func (c turncoat) Unwrap(ctx context.Context, _ []byte, _ string) ([]byte, error) {
	return c.unwrap(ctx)
}

func TestAMoveThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	v := newVaults(t, store.Options{Path: storetest.SQLite(t)})
	sealed := mustSeal(t, v.Keeper, grant, "x")
	good := v.declared[0].Wrapper
	for name, unwrap := range map[string]func(context.Context) ([]byte, error){
		"only wraps":    func(context.Context) ([]byte, error) { return nil, errors.New("no") },
		"gives another": func(context.Context) ([]byte, error) { return make([]byte, 32), nil },
		"gives nothing": func(context.Context) ([]byte, error) { return nil, nil },
	} {
		v.declared[0].Wrapper = turncoat{good, unwrap}
		k := v.start(t, v.db)
		if _, err := k.Move(t.Context(), account, kmsARN); err == nil {
			t.Errorf("%s: moved", name)
		}
		wantChoice(t, v.Keeper, "")
		wantOpen(t, v.start(t, v.db), sealed, "x")
	}
	// Somebody else changes the vault's keys between our reading and our writing.
	v.declared[0].Wrapper = overtaken{good, func() {
		if err := v.Rotate(t.Context(), account, seal.Vault); err != nil {
			t.Error(err)
		}
	}}
	if _, err := v.start(t, v.db).Move(t.Context(), account, kmsARN); !fault.Is(err, fault.Concurrent) {
		t.Errorf("overtaken by a rotation: %v", err)
	}
	wantChoice(t, v.Keeper, "")
	wantOpen(t, v.start(t, v.db), sealed, "x")
}

// overtaken lets somebody else do something once while a key is being wrapped.
type overtaken struct {
	seal.KeyWrapper
	meanwhile func()
}

func (o overtaken) Wrap(ctx context.Context, dataKey []byte, bound string) ([]byte, error) {
	o.meanwhile()
	return o.KeyWrapper.Wrap(ctx, dataKey, bound)
}

func TestMovesAtOnce(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		v := newVaults(t, o)
		sealed := mustSeal(t, v.Keeper, grant, "x")
		keepers := []*seal.Keeper{v.Keeper, v.start(t, storetest.OpenWith(t, o))}
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				_, err := keepers[i%2].Move(t.Context(), account, []string{kmsARN, otherARN, ""}[i%3])
				if err != nil && !fault.Is(err, fault.Concurrent) {
					t.Error(err)
				}
			})
		}
		group.Wait()
		wantOpen(t, v.start(t, v.db), sealed, "x")
	})
}

func TestAKMSThatIsDown(t *testing.T) {
	t.Parallel()
	v := newVaults(t, store.Options{Path: storetest.SQLite(t)})
	sealed := mustSeal(t, v.Keeper, grant, "x")
	if _, err := v.Move(t.Context(), account, kmsARN); err != nil {
		t.Fatal(err)
	}
	late := v.start(t, v.db)
	v.kms.CloseClientConnections()
	v.kms.Close()
	for _, k := range []*seal.Keeper{v.Keeper, late} {
		wantOpen(t, k, sealed, "x")
		wantOpen(t, k, mustSeal(t, k, grant, "y"), "y")
	}
	if _, err := v.Move(t.Context(), account, otherARN); !fault.Is(err, fault.Unavailable) {
		t.Errorf("moved to a key that does not answer: %v", err)
	}
	wantChoice(t, v.Keeper, kmsARN)
	// One account's key does not keep the platform from starting; its own values stay shut.
	restarted := v.start(t, v.db)
	if _, err := restarted.Open(t.Context(), grant, sealed); !fault.Is(err, fault.Unavailable) {
		t.Errorf("opened without its key: %v", err)
	}
	other := grant
	other.Account = neighbour
	if _, err := restarted.Seal(t.Context(), other, []byte("x")); err != nil {
		t.Errorf("the neighbour: %v", err)
	}
	secrets := grant
	secrets.Purpose = seal.Secrets
	if _, err := restarted.Seal(t.Context(), secrets, []byte("x")); err != nil {
		t.Errorf("what is under the platform's key: %v", err)
	}
	lost, err := restarted.Lost(t.Context(), account)
	if lost || !fault.Is(err, fault.Unavailable) {
		t.Errorf("a key that does not answer counts as lost: %v", err)
	}
}

func TestStartsWithoutAnAccountsKey(t *testing.T) {
	t.Parallel()
	v := newVaults(t, store.Options{Path: storetest.SQLite(t)})
	sealed := mustSeal(t, v.Keeper, grant, "x")
	if _, err := v.Move(t.Context(), account, kmsARN); err != nil {
		t.Fatal(err)
	}
	start := func(declared ...seal.Declared) (*seal.Keeper, error) {
		return seal.NewKeeper(t.Context(), v.db, v.platform, declared...)
	}
	if _, err := start(); !fault.Is(err, fault.Undecryptable) || !strings.Contains(err.Error(), "--kms-key "+kmsARN+"=WRAPPER") {
		t.Errorf("not declared: %v", err)
	}
	if _, err := start(seal.Declared{ARN: kmsARN, Account: neighbour, Wrapper: v.declared[0].Wrapper}); !fault.Is(err, fault.Undecryptable) {
		t.Errorf("declared for somebody else: %v", err)
	}
	if _, err := start(seal.Declared{ARN: kmsARN, Account: account, Wrapper: v.declared[1].Wrapper}); !fault.Is(err, fault.Undecryptable) || !strings.Contains(err.Error(), "Declare it as it was") {
		t.Errorf("declared as another key: %v", err)
	}
	gone, err := start(seal.Declared{ARN: kmsARN, Account: account, Wrapper: seal.Gone})
	if err != nil {
		t.Fatalf("declared as gone: %v", err)
	}
	if _, err := gone.Open(t.Context(), grant, sealed); !fault.Is(err, fault.Undecryptable) || !strings.Contains(err.Error(), "does not exist any more") {
		t.Errorf("opened without a key: %v", err)
	}
	if _, err := gone.Move(t.Context(), account, kmsARN); !fault.Is(err, fault.Invalid) {
		t.Errorf("a key that is gone can be chosen: %v", err)
	}
	if _, err := gone.Move(t.Context(), account, ""); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "ResetTokenVaultKeyMaterial") {
		t.Errorf("moved away from a key that is gone: %v", err)
	}
	if lost, err := gone.Lost(t.Context(), account); err != nil || !lost {
		t.Errorf("declared as gone: lost %v, %v", lost, err)
	}
	delete(v.kms.keys, kmsARN) // its owner deleted it
	if lost, err := v.Lost(t.Context(), account); err != nil || !lost {
		t.Errorf("deleted: lost %v, %v", lost, err)
	}
	wantOpen(t, v.Keeper, sealed, "x") // from memory, still
}

func TestSecretsFromBeforeTheyHadAKeyOfTheirOwn(t *testing.T) {
	t.Parallel()
	k := storetest.Keeper(t, storetest.Open(t), account)
	old := mustSeal(t, k, grant, "sealed for the vault")
	now := grant
	now.Purpose = seal.Secrets
	if opened, err := k.Open(t.Context(), now, old); err != nil || string(opened) != "sealed for the vault" {
		t.Errorf("%q, %v", opened, err)
	}
	if _, err := k.Open(t.Context(), grant, mustSeal(t, k, now, "x")); !fault.Is(err, fault.Undecryptable) {
		t.Errorf("a secret opens as a token: %v", err)
	}
}
