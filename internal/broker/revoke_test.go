package broker

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/external"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// revocations is what the provider's RFC 7009 endpoint was told.
type revocations struct {
	status int // instead of 200
	told   []string
	hold   chan struct{}
}

func (p *idp) revoke(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	p.mu.Lock()
	taken := p.takesBack
	token := r.PostForm.Get("token")
	taken.told = append(taken.told, r.PostForm.Get("token_type_hint")+" "+token)
	hold, status := taken.hold, taken.status
	delete(p.refreshes, token)
	p.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}
	if status != 0 {
		w.WriteHeader(status)
	}
}

func (p *idp) told() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.takesBack.told)
}

// revocable is a world whose provider takes tokens back.
func revocable(t *testing.T) *world {
	t.Helper()
	w := newBareWorld(t)
	w.idp.takesBack = &revocations{}
	w.workload(t, "agent", returnURL)
	w.provider(t, "google", w.idp)
	return w
}

func (w *world) listed(t testing.TB, r *api.ListGrantsRequest) []api.Grant {
	t.Helper()
	page, err := w.ListGrants(t.Context(), root, r)
	if err != nil {
		t.Fatal(err)
	}
	return page.Grants
}

func (w *world) onlyGrant(t testing.TB) api.Grant {
	t.Helper()
	list := w.listed(t, &api.ListGrantsRequest{})
	if len(list) != 1 {
		t.Fatalf("%d grants", len(list))
	}
	return list[0]
}

func TestRevokedGrantIsGoneEverywhere(t *testing.T) {
	t.Parallel()
	w := revocable(t)
	ada := w.consented(t, "agent", "ada", ask("profile"))
	token := w.token(t, ada, ask("profile"))
	id := w.onlyGrant(t).GrantId
	answer, err := w.RevokeGrant(t.Context(), root, &api.RevokeGrantRequest{GrantId: id})
	if err != nil || answer.ProviderRevocation != api.ProviderRevocationRevoked {
		t.Fatalf("%+v, %v", answer, err)
	}
	told := w.idp.told()
	if len(told) != 2 || !strings.HasPrefix(told[0], "refresh_token canary-refresh-ada") || told[1] != "access_token "+token {
		t.Errorf("the provider was told %q", told)
	}
	if w.intents(t, actionRevoke) != 1 || w.intents(t, "onbehalf:RevokeGrant") != 1 {
		t.Error("what has an effect outside was not written down before")
	}
	w.link(t, ada, ask("profile")) // asked again
	if n := w.count(t, `SELECT COUNT(*) FROM grants`); n != 0 {
		t.Error("the row is still there")
	}
	for name, call := range map[string]func() error{
		"again": func() error {
			_, err := w.RevokeGrant(t.Context(), root, &api.RevokeGrantRequest{GrantId: id})
			return err
		},
		"get": func() error { _, err := w.GetGrant(t.Context(), root, &api.GetGrantRequest{GrantId: id}); return err },
	} {
		wantFault(t, call(), fault.NotFound, id)
		_ = name
	}
	w.noCanaries(t)
}

func TestRevokingWhatAnotherAccountHolds(t *testing.T) {
	t.Parallel()
	w := revocable(t)
	w.consented(t, "agent", "ada", ask("profile"))
	id := w.onlyGrant(t).GrantId
	stranger := principal.Caller{Kind: principal.Key, Account: other, ARN: "arn:aws:iam::111111111111:root", Root: true}
	_, err := w.RevokeGrant(t.Context(), stranger, &api.RevokeGrantRequest{GrantId: id})
	wantFault(t, err, fault.NotFound, id)
	_, err = w.GetGrant(t.Context(), stranger, &api.GetGrantRequest{GrantId: id})
	wantFault(t, err, fault.NotFound, id)
	if page, err := w.ListGrants(t.Context(), stranger, &api.ListGrantsRequest{User: &api.EndUser{UserId: pointer("ada")}}); err != nil || len(page.Grants) != 0 {
		t.Errorf("listed %v, %v", page, err)
	}
	all, err := w.RevokeUserGrants(t.Context(), stranger, &api.RevokeUserGrantsRequest{User: &api.EndUser{UserId: pointer("ada")}})
	if err != nil || len(all.RevokedGrants) != 0 {
		t.Errorf("revoked %v, %v", all, err)
	}
	w.onlyGrant(t)
}

// Whatever the provider does, the grant goes.
func TestProviderThatDoesNotTakeBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		arrange func(*world)
		want    api.ProviderRevocation
	}{
		"fails":          {func(w *world) { w.idp.with(func(p *idp) { p.takesBack.status = 503 }) }, api.ProviderRevocationFailed},
		"is away":        {func(w *world) { w.idp.Close() }, api.ProviderRevocationFailed},
		"is another one": {func(w *world) { w.exec(t, `UPDATE grant_origins SET client_id = 'before'`) }, api.ProviderRevocationFailed},
	} {
		w := revocable(t)
		w.consented(t, "agent", "ada", ask("profile"))
		id := w.onlyGrant(t).GrantId
		c.arrange(w)
		answer, err := w.RevokeGrant(t.Context(), root, &api.RevokeGrantRequest{GrantId: id})
		if err != nil || answer.ProviderRevocation != c.want {
			t.Errorf("%s: %+v, %v", name, answer, err)
		}
		if n := w.count(t, `SELECT COUNT(*) FROM grants`); n != 0 {
			t.Errorf("%s: the grant is still there", name)
		}
	}
	w := newWorld(t) // has no endpoint for it
	w.consented(t, "agent", "ada", ask("profile"))
	answer, err := w.RevokeGrant(t.Context(), root, &api.RevokeGrantRequest{GrantId: w.onlyGrant(t).GrantId})
	if err != nil || answer.ProviderRevocation != api.ProviderRevocationUnsupported {
		t.Errorf("%+v, %v", answer, err)
	}
	if w.intents(t, actionRevoke) != 0 {
		t.Error("an intent of what is not done")
	}
}

// A refresh that is under way stores nothing, and what it brings is given back.
func TestRevokeDuringRefresh(t *testing.T) {
	t.Parallel()
	w := revocable(t)
	w.idp.with(func(p *idp) { p.lifetime = 600 })
	ada := w.consented(t, "agent", "ada", ask("profile"))
	id := w.onlyGrant(t).GrantId
	w.later(601e9)
	hold := make(chan struct{})
	w.idp.with(func(p *idp) { p.holdRefresh = hold })
	got := make(chan *TokenResult)
	go func() {
		result, err := w.UserToken(t.Context(), ada, ask("profile"))
		if err != nil {
			t.Error(err)
		}
		got <- result
	}()
	<-w.idp.refreshSeen
	w.idp.with(func(p *idp) { // the provider has this refresh before the revocation, and rotates
		p.refreshes["in-flight"] = "ada"
	})
	if _, err := w.replica(t).RevokeGrant(t.Context(), root, &api.RevokeGrantRequest{GrantId: id}); err != nil {
		t.Fatal(err)
	}
	w.idp.with(func(p *idp) { // it had accepted the old token already
		for _, line := range p.takesBack.told {
			if old, is := strings.CutPrefix(line, "refresh_token "); is {
				p.refreshes[old] = "ada"
			}
		}
	})
	close(hold)
	if result := <-got; !result.Access.Empty() || result.Status != StatusInProgress {
		t.Errorf("a token of a revoked grant was handed out: %+v", result)
	}
	if n := w.count(t, `SELECT COUNT(*) FROM grants`); n != 0 {
		t.Error("the refresh brought the grant back")
	}
	told := w.idp.told()
	if len(told) != 4 || told[2] == told[0] || !strings.HasPrefix(told[2], "refresh_token canary-refresh-ada") || !strings.HasPrefix(told[3], "access_token ") {
		t.Errorf("the provider was told %q", told)
	}
}

// Links, codes that wait and a redemption under way bring nothing back.
func TestRevokeEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	w := revocable(t)
	ada := w.consented(t, "agent", "ada", ask("profile"))
	wider := w.link(t, ada, ask("profile", "email"))
	bobs := w.link(t, w.as(t, "agent", "bob"), ask("profile"))
	w.goThrough(t, newBrowser("ada"), wider) // a code waits
	if _, err := w.RevokeGrant(t.Context(), root, &api.RevokeGrantRequest{GrantId: w.onlyGrant(t).GrantId}); err != nil {
		t.Fatal(err)
	}
	err := w.completeAs(t.Context(), wider, byID("ada"))
	if wantFault(t, err, fault.Denied, "The access was revoked"); !errors.Is(err, ErrLinkFailed) {
		t.Errorf("a page cannot tell why: %v", err)
	}
	poll := ask("profile", "email")
	poll.SessionURI = wider.SessionURI
	_, err = w.UserToken(t.Context(), ada, poll)
	wantFault(t, err, fault.Denied, "revoked")
	if n := w.count(t, `SELECT COUNT(*) FROM grants`) + w.count(t, `SELECT COUNT(*) FROM authorization_attempts WHERE code IS NOT NULL`); n != 0 {
		t.Error("something is left")
	}
	w.goThrough(t, newBrowser("bob"), bobs)
	if err := w.completeAs(t.Context(), bobs, byID("bob")); err != nil {
		t.Errorf("somebody else's session was ended: %v", err)
	}
}

// redeeming is the session of a link, gone through as Ada, right before its mark.
func (w *world) redeeming(t *testing.T, link *TokenResult) (*session, redemption) {
	t.Helper()
	w.goThrough(t, newBrowser("ada"), link)
	_, s, err := w.reread(t.Context(), hashed(link.SessionURI))
	if err != nil {
		t.Fatal(err)
	}
	stored, _ := w.back.Load(link.SessionURI)
	_, proof := splitSessionID(stored.(string))
	if s.attemptID, _, err = w.cameBack(t.Context(), s, proof); err != nil || s.attemptID == "" {
		t.Fatalf("nobody has come back: %v", err)
	}
	r, err := w.intendToRedeem(t.Context(), root, s)
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

func (w *world) marked(t *testing.T, s *session, r *redemption) {
	t.Helper()
	if marked, err := w.markRedeeming(t.Context(), s, r); err != nil || !marked {
		t.Fatalf("not marked: %v", err)
	}
}

// A code that is being redeemed at that moment makes no grant, and what came of it is given back.
func TestRevokeDuringRedemption(t *testing.T) {
	t.Parallel()
	w := revocable(t)
	s, r := w.redeeming(t, w.link(t, w.as(t, "agent", "ada"), ask("profile")))
	w.marked(t, s, &r)
	if _, err := w.RevokeUserGrants(t.Context(), root, &api.RevokeUserGrantsRequest{User: &api.EndUser{UserId: pointer("ada")}}); err != nil {
		t.Fatal(err)
	}
	_, err := w.redeem(t.Context(), s, r)
	wantFault(t, err, fault.Denied, "ended while the code was redeemed")
	if n := w.count(t, `SELECT COUNT(*) FROM grants`); n != 0 {
		t.Error("there is a grant")
	}
	if told := w.idp.told(); len(told) != 2 {
		t.Errorf("the provider was told %q", told)
	}
	w.noCanaries(t)
}

// A provider that becomes another one while the code is out: the same.
func TestProviderChangedDuringRedemption(t *testing.T) {
	t.Parallel()
	w := revocable(t)
	s, r := w.redeeming(t, w.link(t, w.as(t, "agent", "ada"), ask("profile")))
	w.marked(t, s, &r)
	update(t, w, custom(w.idp, "another"))
	_, err := w.redeem(t.Context(), s, r)
	wantFault(t, err, fault.Denied, "provider was changed while the code was redeemed")
	if n := w.count(t, `SELECT COUNT(*) FROM grants`); n != 0 {
		t.Error("there is a grant")
	}
	if told := w.idp.told(); len(told) != 2 {
		t.Errorf("the provider was told %q", told)
	}
	if _, ended, err := w.reread(t.Context(), s.id); err != nil || ended.stored != failed || ended.failure != providerChanged {
		t.Errorf("the session is %+v, %v", ended, err)
	}
}

// From the mark on nothing is asked that may not answer: the client's secret is
// at hand. One that was changed before the mark is asked for again.
func TestSecretIsAtHandBeforeTheMark(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	put(t, w.sources(t), "google", clientSecret)
	w.workload(t, "agent", returnURL)
	if _, err := w.CreateOauth2CredentialProvider(t.Context(), root, &api.CreateOauth2CredentialProviderRequest{
		Name: "google", CredentialProviderVendor: vendorCustom, Oauth2ProviderConfigInput: externally(w.idp, "files/google", external.WholeValue),
	}); err != nil {
		t.Fatal(err)
	}
	s, r := w.redeeming(t, w.link(t, w.as(t, "agent", "ada"), ask("profile")))
	put(t, w.sources(t), "google", clientSecret)
	update(t, w, externally(w.idp, "files/google", external.WholeValue))
	if marked, err := w.markRedeeming(t.Context(), s, &r); err != nil || marked {
		t.Errorf("marked %t with what was before the change, %v", marked, err)
	}
	r, err := w.intendToRedeem(t.Context(), root, s)
	if err != nil {
		t.Fatal(err)
	}
	w.marked(t, s, &r)
	w.sources(t) // where nothing lies any more
	if _, err := w.redeem(t.Context(), s, r); err != nil {
		t.Errorf("the code was lost: %v", err)
	}
}

// Not even sealed do the tokens stay in the database's files.
func TestRevokedTokensLeaveTheFiles(t *testing.T) {
	t.Parallel()
	w := revocable(t)
	if w.db.Engine() != "sqlite" {
		t.Skip("PostgreSQL overwrites in its own time")
	}
	var file string
	var sealed [2][]byte
	left := func() (found int) {
		t.Helper()
		for _, suffix := range []string{"", "-wal"} {
			content, err := os.ReadFile(file + suffix)
			if err != nil {
				t.Fatal(err)
			}
			for _, token := range sealed {
				found += bytes.Count(content, token)
			}
		}
		return found
	}
	for name, revoke := range map[string]func() error{
		"one": func() error {
			_, err := w.RevokeGrant(t.Context(), root, &api.RevokeGrantRequest{GrantId: w.onlyGrant(t).GrantId})
			return err
		},
		"all": func() error {
			_, err := w.RevokeUserGrants(t.Context(), root, &api.RevokeUserGrantsRequest{User: &api.EndUser{UserId: pointer("ada")}})
			return err
		},
	} {
		w.consented(t, "agent", "ada", ask("profile"))
		if err := w.db.View(t.Context(), func(tx *store.Tx) error {
			if err := tx.QueryRow(`SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&file); err != nil {
				return err
			}
			return tx.QueryRow(`SELECT access_token, refresh_token FROM grants`).Scan(&sealed[0], &sealed[1])
		}); err != nil {
			t.Fatal(err)
		}
		if left() == 0 {
			t.Fatal("the tokens are not found where they are: this proves nothing")
		}
		if err := revoke(); err != nil {
			t.Fatal(err)
		}
		if n := left(); n != 0 {
			t.Errorf("%s: a sealed token is still there, %d times", name, n)
		}
	}
}

func TestRevokeAllOfAUser(t *testing.T) {
	t.Parallel()
	w := revocable(t)
	w.workload(t, "second", returnURL)
	w.provider(t, "slack", w.idp)
	slack := ask("profile")
	slack.ProviderName = "slack"
	work := ask("profile")
	work.Parameters = map[string]string{parameterAccount: "work"}
	ada := w.consented(t, "agent", "ada", ask("profile"))
	w.consented(t, "agent", "ada", slack)
	w.consented(t, "agent", "ada", work)
	w.consented(t, "second", "ada", ask("profile"))
	bob := w.consented(t, "agent", "bob", ask("profile"))
	user := &api.EndUser{UserId: pointer("ada")}
	some, err := w.RevokeUserGrants(t.Context(), root, &api.RevokeUserGrantsRequest{User: user, WorkloadName: pointer("agent"), ProviderName: pointer("google")})
	if err != nil || len(some.RevokedGrants) != 2 || some.Remaining {
		t.Fatalf("%+v, %v", some, err)
	}
	all, err := w.RevokeUserGrants(t.Context(), root, &api.RevokeUserGrantsRequest{User: user})
	if err != nil || len(all.RevokedGrants) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, g := range append(some.RevokedGrants, all.RevokedGrants...) {
		if g.ProviderRevocation != api.ProviderRevocationRevoked {
			t.Errorf("%+v", g)
		}
	}
	w.link(t, ada, ask("profile"))
	w.token(t, bob, ask("profile"))
	if told := w.idp.told(); len(told) != 8 {
		t.Errorf("the provider was told %d things", len(told))
	}
	for name, bad := range map[string]*api.EndUser{"nobody": {}, "half": {Issuer: pointer("https://idp.example")}, "both": {UserId: pointer("ada"), Issuer: pointer("i"), Subject: pointer("s")}} {
		if _, err := w.RevokeUserGrants(t.Context(), root, &api.RevokeUserGrantsRequest{User: bad}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = w.RevokeUserGrants(t.Context(), root, &api.RevokeUserGrantsRequest{User: user, WorkloadName: pointer("nowhere")})
	wantFault(t, err, fault.NotFound, "nowhere")
}

// Tokens that were traded for a user's sign-in are the user's, too.
func TestRevokeAllDropsTradedTokens(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	w.workload(t, "agent", returnURL)
	if _, err := w.trading(t, "google", exchangeBy("NONE")); err != nil {
		t.Fatal(err)
	}
	ada := w.as(t, "agent", "jwt:ada")
	request := TokenRequest{ProviderName: "google", Scopes: []string{"read"}}
	if _, err := w.GetResourceTokenState(t.Context(), ada, &api.GetResourceTokenStateRequest{ProviderName: "google", Scopes: []string{"read"}, Oauth2Flow: api.Oauth2FlowTypeOnBehalfOfTokenExchange}); err != nil {
		t.Fatal(err)
	}
	w.traded(t, ada, request)
	if n := w.count(t, `SELECT COUNT(*) FROM cached_tokens WHERE user_subject = 'ada'`); n != 1 {
		t.Fatalf("%d tokens of the user", n)
	}
	if _, err := w.RevokeUserGrants(t.Context(), root, &api.RevokeUserGrantsRequest{User: &api.EndUser{Issuer: &ada.User.Issuer, Subject: &ada.User.Subject}}); err != nil {
		t.Fatal(err)
	}
	if n := w.count(t, `SELECT COUNT(*) FROM cached_tokens`); n != 0 {
		t.Errorf("%d are left", n)
	}
}
