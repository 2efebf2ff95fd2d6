package auth

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const ada = "arn:aws:iam::" + account + ":user/ada"

// signed sends one request signed with the key to an authenticator.
func (w *world) signed(t testing.TB, a *Authenticator, key NewKey, token secret.Text) (principal.Caller, error) {
	t.Helper()
	caller, _, err := a.Signed(httptest.NewRecorder(), w.request(t, request{key: key, token: token.Reveal()}), 1024)
	return caller, err
}

func (w *world) createKey(t testing.TB, user string) NewKey {
	t.Helper()
	key, err := w.CreateKey(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (w *world) list(t testing.TB, account string) []AccessKey {
	t.Helper()
	var list []AccessKey
	if err := w.db.View(t.Context(), func(tx *store.Tx) (err error) { list, err = w.ListKeys(tx, account); return err }); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestUserKeys(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorldOn(t, db)
		key := w.createKey(t, ada)
		caller, err := w.signed(t, w.Authenticator, key, secret.Text{})
		want := principal.Caller{Kind: principal.Key, Account: account, ARN: ada, KeyID: key.ID}
		if err != nil || caller.Root || !cmp.Equal(want, caller, cmpopts.IgnoreFields(principal.Caller{}, "Request")) {
			t.Errorf("%+v, %v", caller, err)
		}
		list := w.list(t, account)
		if len(list) != 2 || !list[0].Root || list[1].ID != key.ID || list[1].Principal != ada || list[1].State != KeyActive || !list[1].LastUsed.IsZero() || list[1].Created.IsZero() {
			t.Errorf("%+v", list)
		}

		w.writeUsed(t.Context())
		if got := w.list(t, account)[1].LastUsed; !got.Equal(w.clock.now().UTC().Truncate(time.Microsecond)) {
			t.Errorf("last used %v, now %v", got, w.clock.now())
		}
		w.writeUsed(t.Context()) // nothing new

		replica := w.replica()
		if _, err := w.signed(t, replica, key, secret.Text{}); err != nil {
			t.Fatal(err)
		}
		change := func(fn func(*store.Tx) error) {
			t.Helper()
			if err := db.Update(t.Context(), fn); err != nil {
				t.Fatal(err)
			}
			w.clock.add(keyFresh)
		}
		for _, state := range []string{KeyDisabled, KeyActive, "gone"} {
			change(func(tx *store.Tx) error {
				if state == "gone" {
					return w.DeleteKey(tx, key.ID)
				}
				return w.SetKeyState(tx, key.ID, state)
			})
			for _, a := range []*Authenticator{w.Authenticator, replica} {
				if _, err := w.signed(t, a, key, secret.Text{}); (state == KeyActive) != (err == nil) {
					t.Errorf("%s: %v", state, err)
				}
			}
		}
	})
}

func TestKeysRefuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for user, kind := range map[string]fault.Kind{
		"arn:aws:iam::111111111111:user/ada":                           fault.NotFound, // there is no such account
		"arn:aws:iam::" + account + ":root":                            fault.Invalid,
		"arn:aws:iam::" + account + ":role/agent":                      fault.Invalid,
		"arn:aws:iam::" + account + ":user/":                           fault.Invalid,
		"arn:aws:iam::" + account + ":user/a/b":                        fault.Invalid,
		"arn:aws:sts::" + account + ":user/ada":                        fault.Invalid,
		"arn:aws:iam::" + account + ":user/" + strings.Repeat("a", 65): fault.Invalid,
		"ada": fault.Invalid,
	} {
		if _, err := w.CreateKey(t.Context(), user); !fault.Is(err, kind) {
			t.Errorf("%s: %v", user, err)
		}
	}
	for name, c := range map[string]struct {
		fn   func(*store.Tx) error
		kind fault.Kind
	}{
		"the root key deleted":  {func(tx *store.Tx) error { return w.DeleteKey(tx, w.root.ID) }, fault.Conflict},
		"a key that is not":     {func(tx *store.Tx) error { return w.DeleteKey(tx, "AKIANOBODY") }, fault.NotFound},
		"disabling none":        {func(tx *store.Tx) error { return w.SetKeyState(tx, "AKIANOBODY", KeyDisabled) }, fault.NotFound},
		"a state that is none":  {func(tx *store.Tx) error { return w.SetKeyState(tx, w.root.ID, "asleep") }, fault.Invalid},
		"a role twice":          {func(tx *store.Tx) error { return w.CreateRole(tx, Role{Account: account, Name: DefaultRole}) }, fault.Conflict},
		"a role of no account":  {func(tx *store.Tx) error { return w.CreateRole(tx, Role{Account: "111111111111", Name: "agent"}) }, fault.NotFound},
		"a role of no name":     {func(tx *store.Tx) error { return w.CreateRole(tx, Role{Account: account, Name: "a/b"}) }, fault.Invalid},
		"a role that is not":    {func(tx *store.Tx) error { return w.DeleteRole(tx, account, "agent") }, fault.NotFound},
		"another account's one": {func(tx *store.Tx) error { return w.DeleteRole(tx, "111111111111", DefaultRole) }, fault.NotFound},
	} {
		if err := w.db.Update(t.Context(), c.fn); !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorldOn(t, db)
		var told []string
		w.opts.NewAccount = func(_ *store.Tx, account string) error { told = append(told, account); return nil }
		other, err := w.CreateAccount(t.Context(), "111111111111")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.CreateAccount(t.Context(), "111111111111"); !fault.Is(err, fault.Conflict) {
			t.Errorf("twice: %v", err)
		}
		if _, err := w.CreateAccount(t.Context(), "11"); !fault.Is(err, fault.Invalid) {
			t.Errorf("two digits: %v", err)
		}
		if !cmp.Equal(told, []string{"111111111111"}) {
			t.Errorf("told of %q", told)
		}
		caller, err := w.signed(t, w.Authenticator, other, secret.Text{})
		if err != nil || !caller.Root || caller.Account != "111111111111" {
			t.Errorf("%+v, %v", caller, err)
		}
		_ = db.View(t.Context(), func(tx *store.Tx) error {
			list, err := w.ListAccounts(tx)
			if err != nil || len(list) != 2 || list[1].ID != "111111111111" || list[1].Keys != 1 {
				t.Errorf("%+v, %v", list, err)
			}
			roles, err := w.ListRoles(tx, "111111111111")
			if err != nil || len(roles) != 1 || roles[0].ARN() != "arn:aws:iam::111111111111:role/onbehalf-default" {
				t.Errorf("%+v, %v", roles, err)
			}
			return nil
		})
		// A role that was taken away does not come back with a restart.
		if err := db.Update(t.Context(), func(tx *store.Tx) error { return w.DeleteRole(tx, "111111111111", DefaultRole) }); err != nil {
			t.Fatal(err)
		}
		if _, err := w.EnsureRoot(t.Context(), "111111111111", func(NewKey) error { return errors.New("no") }); err != nil || len(told) != 1 {
			t.Errorf("%v, told of %q", err, told)
		}
	})
}

func TestResetRoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.signed(t, w.Authenticator, w.root, secret.Text{}); err != nil {
		t.Fatal(err)
	}
	if err := w.ResetRoot(t.Context(), account, func(NewKey) error { return errors.New("no disk") }); err == nil {
		t.Error("reset without being saved")
	}
	if _, err := w.signed(t, w.replica(), w.root, secret.Text{}); err != nil {
		t.Errorf("the old key after a failed reset: %v", err)
	}
	var fresh NewKey
	if err := w.ResetRoot(t.Context(), account, func(k NewKey) error { fresh = k; return nil }); err != nil {
		t.Fatal(err)
	}
	w.clock.add(keyFresh)
	_, err := w.signed(t, w.Authenticator, w.root, secret.Text{})
	wantFault(t, err, fault.UnknownKey, "invalid")
	if caller, err := w.signed(t, w.Authenticator, fresh, secret.Text{}); err != nil || !caller.Root {
		t.Errorf("%+v, %v", caller, err)
	}
	if list := w.list(t, ""); len(list) != 1 {
		t.Errorf("%+v", list)
	}
	if err := w.ResetRoot(t.Context(), "111111111111", func(NewKey) error { return nil }); !fault.Is(err, fault.NotFound) {
		t.Errorf("of no account: %v", err)
	}
}

func TestTemporaryCredentials(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorldOn(t, db)
		issued, err := w.IssueSession(t.Context(), account, DefaultRole, "job-1", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		key := NewKey{issued.KeyID, issued.Secret}
		replica := w.replica()
		caller, err := w.signed(t, replica, key, issued.SessionToken)
		want := principal.Caller{Kind: principal.Role, Account: account, ARN: "arn:aws:sts::" + account + ":assumed-role/onbehalf-default/job-1", KeyID: issued.KeyID}
		if err != nil || !cmp.Equal(want, caller, cmpopts.IgnoreFields(principal.Caller{}, "Request")) {
			t.Errorf("%+v, %v", caller, err)
		}
		if !strings.HasPrefix(issued.KeyID, "ASIA") || strings.Contains(issued.SessionToken.Reveal(), issued.Secret.Reveal()) {
			t.Error("the credentials do not look like AWS's")
		}

		other, err := w.IssueSession(t.Context(), account, DefaultRole, "job-2", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.CreateAccount(t.Context(), "111111111111"); err != nil {
			t.Fatal(err)
		}
		token := issued.SessionToken.Reveal()
		flipped := []byte(token)
		flipped[len(flipped)-9] ^= 1
		for name, c := range map[string]struct {
			key   NewKey
			token string
		}{
			"another session's token":     {key, other.SessionToken.Reveal()},
			"another session's key":       {NewKey{other.KeyID, issued.Secret}, token},
			"the root's key with a token": {w.root, token},
			"moved to another account":    {key, strings.Replace(token, account, "111111111111", 1)},
			"moved to no account":         {key, strings.Replace(token, account, "222222222222", 1)},
			"changed":                     {key, string(flipped)},
			"cut short":                   {key, token[:30]},
			"an account and nothing":      {key, tokenMark + account},
			"not one of ours":             {key, "FwoGZXIvYXdzEJr//////////wEaD"},
			"without its token":           {key, ""},
		} {
			_, err := w.signed(t, w.Authenticator, c.key, secret.New(c.token))
			if !fault.Is(err, fault.UnknownKey) {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err = w.signed(t, w.Authenticator, NewKey{issued.KeyID, other.Secret}, issued.SessionToken)
		wantFault(t, err, fault.BadSignature, "does not match")

		w.clock.add(time.Hour)
		_, err = w.signed(t, w.Authenticator, key, issued.SessionToken)
		wantFault(t, err, fault.ExpiredToken, "The security token included in the request is expired")
	})
}

// Credentials of a deleted role end, and do not begin again with a new role of its name.
func TestCredentialsEndWithTheirRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	change := func(fn func(*store.Tx) error) {
		t.Helper()
		if err := w.db.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	change(func(tx *store.Tx) error { return w.CreateRole(tx, Role{Account: account, Name: "agent"}) })
	issued, err := w.IssueSession(t.Context(), account, "agent", "job", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	signed := func() error {
		_, err := w.signed(t, w.Authenticator, NewKey{issued.KeyID, issued.Secret}, issued.SessionToken)
		return err
	}
	if err := signed(); err != nil {
		t.Fatal(err)
	}
	change(func(tx *store.Tx) error { return w.DeleteRole(tx, account, "agent") })
	wantFault(t, signed(), fault.UnknownKey, "invalid")
	change(func(tx *store.Tx) error { return w.CreateRole(tx, Role{Account: account, Name: "agent"}) })
	wantFault(t, signed(), fault.UnknownKey, "invalid")

	for name, c := range map[string]struct {
		account, role, session string
		life                   time.Duration
		kind                   fault.Kind
	}{
		"too long":          {account, "agent", "job", time.Hour + 1, fault.Invalid},
		"no time":           {account, "agent", "job", 0, fault.Invalid},
		"no role":           {account, "nobody", "job", time.Hour, fault.NotFound},
		"another account's": {"111111111111", "agent", "job", time.Hour, fault.NotFound},
		"no session name":   {account, "agent", "a/b", time.Hour, fault.Invalid},
	} {
		if _, err := w.IssueSession(t.Context(), c.account, c.role, c.session, c.life); !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
