package vault

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const (
	account = "000000000000"
	other   = "111111111111"
)

var ada = principal.User{Issuer: "https://idp.example", Subject: "ada"}

type world struct {
	*Vault
	late atomic.Int64
}

// newWorld has the workloads agent and second, and the providers google and slack.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{}
	w.open(t, storetest.OpenAt(t, func() time.Time { return time.Now().Add(time.Duration(w.late.Load())) }))
	return w
}

func newWorldOn(t testing.TB, db *store.DB) *world {
	t.Helper()
	w := &world{}
	w.open(t, db)
	return w
}

func (w *world) open(t testing.TB, db *store.DB) {
	t.Helper()
	w.Vault = New(db, storetest.Keeper(t, db, account, other))
	for _, name := range []string{"agent", "second"} {
		w.exec(t, `INSERT INTO workload_identities (id, account, name, owner, return_urls, tags, created, updated) VALUES ($1, $2, $1, '', '[]', '{}', 1, 1)`, name, account)
	}
	for _, name := range []string{"google", "slack"} {
		w.exec(t, `INSERT INTO oauth2_providers (id, account, name, vendor, callback_id, secret_suffix, issuer, token_endpoint, client_id, client_secret, auth_method, metadata, discovery_url, tags, version, created, updated)
			VALUES ($1, $2, $1, 'CustomOauth2', $1, '', '', '', '', $3, '', '{}', '', '{}', 1, 1, 1)`, name, account, []byte("x"))
	}
}
func (w *world) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	w.update(t, func(tx *store.Tx) error { _, err := tx.Exec(query, args...); return err })
}

func (w *world) update(t testing.TB, fn func(*store.Tx) error) {
	t.Helper()
	if err := w.db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func (w *world) put(t testing.TB, key Key, tokens Tokens) *Grant {
	t.Helper()
	w.update(t, func(tx *store.Tx) error { _, err := w.Put(tx, key, tokens); return err })
	return w.find(t, key)
}

func (w *world) find(t testing.TB, key Key) (g *Grant) {
	t.Helper()
	w.update(t, func(tx *store.Tx) (err error) { g, err = w.Find(tx, key); return err })
	return g
}

func (w *world) access(t testing.TB, g *Grant) string {
	t.Helper()
	token, err := w.OpenAccess(t.Context(), g, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return token.Reveal()
}

func (w *world) refreshToken(t testing.TB, g *Grant) (token secret.Text) {
	t.Helper()
	var fence int64
	w.update(t, func(tx *store.Tx) error {
		return tx.QueryRow(`SELECT fence FROM grants WHERE id = $1`, g.ID).Scan(&fence)
	})
	return w.refreshUnder(t, g, fence)
}

func (w *world) refreshUnder(t testing.TB, g *Grant, fence int64) (token secret.Text) {
	t.Helper()
	w.update(t, func(tx *store.Tx) (err error) { token, err = w.OpenRefresh(tx, g, fence); return err })
	return token
}

func key() Key {
	return Key{Account: account, WorkloadID: "agent", User: ada, ProviderID: "google"}
}

func tokens(name string, scopes ...string) Tokens {
	return Tokens{
		Access: secret.New("access-" + name), Refresh: secret.New("refresh-" + name), Expiry: time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond),
		Asked: ScopesOf(scopes), Origin: Origin{Issuer: "https://idp.example", TokenEndpoint: "https://idp.example/token", ClientID: "client"},
	}
}

func TestGrantOpensForItsWholeKeyAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	full := key()
	full.Label, full.Resources, full.Audiences = "work", []string{"https://a.example", "https://b.example"}, []string{"api"}
	stored := w.put(t, full, tokens("one", "profile"))
	if got := w.access(t, stored); got != "access-one" {
		t.Errorf("opened %q", got)
	}
	same := full
	same.Resources = []string{"https://b.example", "https://a.example", "https://b.example"}
	if w.find(t, same) == nil {
		t.Error("the order of resources mattered")
	}
	for name, change := range map[string]func(*Key){
		"account":           func(k *Key) { k.Account = other },
		"workload":          func(k *Key) { k.WorkloadID = "second" },
		"issuer":            func(k *Key) { k.User.Issuer = "https://other.example" },
		"subject":           func(k *Key) { k.User.Subject = "bob" },
		"user id":           func(k *Key) { k.User = principal.User{ID: "ada"} },
		"provider":          func(k *Key) { k.ProviderID = "slack" },
		"label":             func(k *Key) { k.Label = "" },
		"resources":         func(k *Key) { k.Resources = k.Resources[:1] },
		"audiences":         func(k *Key) { k.Audiences = nil },
		"resources swapped": func(k *Key) { k.Resources, k.Audiences = k.Audiences, k.Resources },
	} {
		foreign := full
		change(&foreign)
		if w.find(t, foreign) != nil {
			t.Errorf("the grant was found with another %s", name)
		}
	}
	var got *Grant
	w.update(t, func(tx *store.Tx) (err error) { got, err = w.Get(tx, account, stored.ID); return err })
	if diff := cmp.Diff(full, got.Key); diff != "" {
		t.Errorf("the key as stored (-want +got):\n%s", diff)
	}
	w.update(t, func(tx *store.Tx) (err error) { got, err = w.Get(tx, other, stored.ID); return err })
	if got != nil {
		t.Error("another account read the grant by its id")
	}
}

func TestTokensAreBoundToTheirRowColumnAndVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := key()
	bob.User.Subject = "bob"
	w.put(t, key(), tokens("ada"))
	w.put(t, bob, tokens("bob"))
	adas, bobs := w.find(t, key()), w.find(t, bob)
	moved := *adas
	moved.access = bobs.access
	if _, err := w.OpenAccess(t.Context(), &moved, time.Now()); !fault.Is(err, fault.Undecryptable) {
		t.Errorf("another row's token opened: %v", err)
	}
	newer := *adas
	newer.Version++
	if _, err := w.OpenAccess(t.Context(), &newer, time.Now()); !fault.Is(err, fault.Undecryptable) {
		t.Errorf("another version's token opened: %v", err)
	}
	w.exec(t, `UPDATE grants SET access_token = refresh_token WHERE id = $1`, adas.ID)
	if _, err := w.OpenAccess(t.Context(), w.find(t, key()), time.Now()); !fault.Is(err, fault.Undecryptable) {
		t.Errorf("another column's token opened: %v", err)
	}
}

func TestNothingIsStoredInClear(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(t, key(), tokens("canary"))
	w.update(t, func(tx *store.Tx) error {
		var access, refresh []byte
		if err := tx.QueryRow(`SELECT access_token, refresh_token FROM grants`).Scan(&access, &refresh); err != nil {
			return err
		}
		for _, column := range [][]byte{access, refresh} {
			if len(column) == 0 || strings.Contains(string(column), "canary") {
				t.Errorf("a token is stored as %q", column)
			}
		}
		return nil
	})
}

func TestNewConsentReplacesAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.put(t, key(), tokens("one", "profile"))
	second := tokens("two", "profile", "email")
	second.Refresh = secret.Text{}
	replaced := w.put(t, key(), second)
	if replaced.ID != first.ID || replaced.Version != first.Version+1 || replaced.HasRefresh || w.access(t, replaced) != "access-two" {
		t.Errorf("the grant is %+v", replaced)
	}
	if !w.refreshToken(t, first).Empty() {
		t.Error("the old consent's refresh token can still be had")
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	g := &Grant{Asked: ScopesOf([]string{"profile", "openid profile", ""}), Granted: ScopesOf([]string{"https://provider.example/profile"})}
	for wanted, want := range map[string]bool{
		"": true, "profile": true, "openid profile": true, "profile openid": true, "profile https://provider.example/profile": true,
		"email": false, "profile email": false, "prof": false, "PROFILE": false,
	} {
		if got := g.Covers(ParseScopes(wanted)); got != want {
			t.Errorf("%q is covered: %v, want %v", wanted, got, want)
		}
	}
	if diff := cmp.Diff(Scopes{"email", "openid", "profile"}, g.Asked.Union(ParseScopes("email openid"))); diff != "" {
		t.Errorf("union (-want +got):\n%s", diff)
	}
}

func TestFreshness(t *testing.T) {
	t.Parallel()
	now := time.Now()
	grant := func(lifetime, age time.Duration) *Grant {
		return &Grant{RefreshedAt: now.Add(-age), Expiry: now.Add(lifetime - age)}
	}
	for name, c := range map[string]struct {
		*Grant
		fresh, expired bool
	}{
		"unknown expiry":       {&Grant{}, true, false},
		"new":                  {grant(time.Hour, 0), true, false},
		"31 seconds left":      {grant(time.Hour, time.Hour-31*time.Second), true, false},
		"30 seconds left":      {grant(time.Hour, time.Hour-30*time.Second), false, false},
		"expired":              {grant(time.Hour, time.Hour), false, true},
		"a short one":          {grant(20*time.Second, time.Second), true, false},
		"the end of a short":   {grant(20*time.Second, 19*time.Second), false, false},
		"expired when it came": {&Grant{RefreshedAt: now, Expiry: now.Add(-time.Second)}, false, true},
	} {
		if c.Fresh(now) != c.fresh || c.Expired(now) != c.expired {
			t.Errorf("%s: fresh %v, expired %v", name, c.Fresh(now), c.Expired(now))
		}
	}
}

func (w *world) lease(t testing.TB, g *Grant, holder string) (fence int64, ok bool) {
	t.Helper()
	w.update(t, func(tx *store.Tx) (err error) { fence, ok, err = w.Lease(tx, g, holder, time.Minute); return err })
	return fence, ok
}

func (w *world) putRefreshed(t testing.TB, g *Grant, fence int64, tokens Tokens) (ok bool) {
	t.Helper()
	w.update(t, func(tx *store.Tx) (err error) { ok, err = w.PutRefreshed(tx, g, fence, tokens); return err })
	return ok
}

func TestLeaseIsOneAtATimeAndFenced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.put(t, key(), tokens("one"))
	slow, ok := w.lease(t, g, "slow")
	if !ok {
		t.Fatal("no lease")
	}
	if _, ok := w.lease(t, g, "fast"); ok {
		t.Error("two processes hold the lease")
	}
	w.late.Store(int64(61 * time.Second))
	fast, ok := w.lease(t, g, "fast")
	if !ok || fast <= slow {
		t.Errorf("a lease that has run out was not taken over: %d after %d, %v", fast, slow, ok)
	}
	if w.putRefreshed(t, g, slow, Tokens{Access: secret.New("late")}) {
		t.Error("who lost the lease stored")
	}
	if !w.refreshUnder(t, g, slow).Empty() || w.refreshUnder(t, g, fast).Reveal() != "refresh-one" {
		t.Error("the refresh token is not the holder's alone to send")
	}
	w.update(t, func(tx *store.Tx) error { return w.Failed(tx, g, slow, 0) })
	if _, ok := w.lease(t, g, "third"); ok {
		t.Error("who lost the lease released it")
	}
	if !w.putRefreshed(t, g, fast, Tokens{Access: secret.New("new")}) {
		t.Error("the holder could not store")
	}
	if _, ok := w.lease(t, g, "third"); ok {
		t.Error("a lease was given on what is not the grant any more")
	}
	if _, ok := w.lease(t, w.find(t, key()), "third"); !ok {
		t.Error("storing did not give the lease back")
	}
}

func TestRefreshKeepsWhatTheProviderDidNotSend(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.put(t, key(), tokens("one", "profile"))
	fence, _ := w.lease(t, g, "me")
	w.putRefreshed(t, g, fence, Tokens{Access: secret.New("access-two")})
	g = w.find(t, key())
	if w.access(t, g) != "access-two" || w.refreshToken(t, g).Reveal() != "refresh-one" || g.Version != 2 || !g.Expiry.IsZero() {
		t.Errorf("after the first refresh: %+v", g)
	}
	fence, _ = w.lease(t, g, "me")
	w.putRefreshed(t, g, fence, Tokens{Access: secret.New("access-three"), Refresh: secret.New("rotated"), Granted: ScopesOf([]string{"narrower"})})
	g = w.find(t, key())
	if w.refreshToken(t, g).Reveal() != "rotated" || g.Granted.String() != "narrower" || g.Asked.String() != "profile" {
		t.Errorf("after the second refresh: %+v", g)
	}
}

func TestMarkSparesANewerConsent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.put(t, key(), tokens("one"))
	newer := w.put(t, key(), tokens("two"))
	w.update(t, func(tx *store.Tx) error { return w.MarkNeedsConsent(tx, account, g.ID, g.Version) })
	if w.find(t, key()).State != Active {
		t.Error("the failure of old tokens marked new ones")
	}
	fence, _ := w.lease(t, newer, "me")
	w.update(t, func(tx *store.Tx) error { return w.MarkNeedsConsent(tx, account, g.ID, newer.Version) })
	if w.find(t, key()).State != NeedsConsent {
		t.Error("the grant was not marked")
	}
	if _, ok := w.lease(t, newer, "me"); ok {
		t.Error("a marked grant was leased")
	}
	// The refresh that was under way stores its tokens, and the mark stays.
	if !w.putRefreshed(t, newer, fence, Tokens{Access: secret.New("three")}) || w.find(t, key()).State != NeedsConsent {
		t.Error("a refresh took the mark away")
	}
	if again := w.put(t, key(), tokens("four")); again.State != Active {
		t.Error("a new consent did not take the mark away")
	}
}

func TestMarkProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slack, bob := key(), key()
	slack.ProviderID, bob.User.Subject = "slack", "bob"
	w.put(t, key(), tokens("one"))
	w.put(t, slack, tokens("two"))
	w.put(t, bob, tokens("three"))
	var count int64
	w.update(t, func(tx *store.Tx) (err error) { count, err = w.MarkProvider(tx, account, "google"); return err })
	if count != 2 || w.find(t, key()).State != NeedsConsent || w.find(t, slack).State != Active {
		t.Errorf("%d grants were marked", count)
	}
}

func TestGrantsGoWithTheirWorkloadAndProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slack := key()
	slack.ProviderID = "slack"
	w.put(t, key(), tokens("one"))
	w.put(t, slack, tokens("two"))
	w.exec(t, `DELETE FROM oauth2_providers WHERE id = 'slack'`)
	if w.find(t, slack) != nil || w.find(t, key()) == nil {
		t.Error("the provider did not take its grant, and nothing else, with it")
	}
	w.exec(t, `DELETE FROM workload_identities WHERE id = 'agent'`)
	if w.find(t, key()) != nil {
		t.Error("the workload did not take its grant with it")
	}
	err := w.db.Update(t.Context(), func(tx *store.Tx) error { _, err := w.Put(tx, key(), tokens("late")); return err })
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("a grant of a deleted workload was stored: %v", err)
	}
}

func TestLastUsedIsWrittenLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.put(t, key(), tokens("one"))
	used := time.Now().Add(time.Second).UTC().Truncate(time.Microsecond)
	if _, err := w.OpenAccess(t.Context(), g, used); err != nil {
		t.Fatal(err)
	}
	if !w.find(t, key()).LastUsed.IsZero() {
		t.Error("a read was written at once")
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := w.Run(ctx); err != nil { // writes once more as it ends
		t.Fatal(err)
	}
	if got := w.find(t, key()).LastUsed; !got.Equal(used) {
		t.Errorf("last used %v, want %v", got, used)
	}
	w.touch(g.ID, used.Add(-time.Hour))
	if err := w.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.find(t, key()).LastUsed; !got.Equal(used) {
		t.Error("an older use took a newer one's place")
	}
}

func BenchmarkFindAndOpen(b *testing.B) {
	w := newWorld(b)
	w.put(b, key(), tokens("one", "openid", "profile"))
	wanted := ParseScopes("profile")
	b.ReportAllocs()
	for b.Loop() {
		err := w.db.View(b.Context(), func(tx *store.Tx) error {
			g, err := w.Find(tx, key())
			if err != nil || !g.Covers(wanted) || !g.Fresh(tx.Now) {
				b.Fatal(err)
			}
			_, err = w.OpenAccess(tx.Context(), g, tx.Now)
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
