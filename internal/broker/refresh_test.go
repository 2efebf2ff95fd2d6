package broker

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// expired is a world where ada has a grant whose access token has just expired.
func expiredGrant(t *testing.T) (*world, principal.Caller, string) {
	t.Helper()
	w := newWorld(t)
	w.idp.with(func(p *idp) { p.lifetime = 600 })
	ada := w.consented(t, "agent", "ada", ask("profile"))
	old := w.token(t, ada, ask("profile"))
	w.idp.with(func(p *idp) { p.lifetime = 36000 })
	w.later(601 * time.Second)
	return w, ada, old
}

func TestHundredCallersOneRefresh(t *testing.T) {
	t.Parallel()
	w, ada, old := expiredGrant(t)
	second := w.replica(t)
	hold := make(chan struct{})
	w.idp.with(func(p *idp) { p.holdRefresh = hold })
	tokens := make(chan string, 100)
	var waiting sync.WaitGroup
	for i := range 100 {
		process := []*world{w, second}[i%2]
		waiting.Go(func() {
			result, err := process.UserToken(t.Context(), ada, ask("profile"))
			if err != nil {
				t.Error(err)
				return
			}
			tokens <- result.Access.Reveal()
		})
	}
	<-w.idp.refreshSeen
	close(hold)
	waiting.Wait()
	close(tokens)
	different := map[string]int{}
	for token := range tokens {
		different[token]++
	}
	if len(different) != 1 || different[old] != 0 {
		t.Errorf("the callers got %v", different)
	}
	if refreshes, _ := w.idp.counts(); refreshes != 1 {
		t.Errorf("%d refreshes", refreshes)
	}
	if n := w.intents(t, actionRefresh); n != 1 {
		t.Errorf("%d intents to refresh", n)
	}
	// The rotated refresh token was kept: the next expiry works too.
	w.later(11 * time.Hour)
	if again := w.token(t, ada, ask("profile")); different[again] != 0 {
		t.Error("the token was not renewed a second time")
	}
}

func TestWhoGoesAwayDoesNotStopTheRefresh(t *testing.T) {
	t.Parallel()
	w, ada, old := expiredGrant(t)
	hold := make(chan struct{})
	w.idp.with(func(p *idp) { p.holdRefresh = hold })
	ctx, goAway := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := w.UserToken(ctx, ada, ask("profile"))
		gone <- err
	}()
	<-w.idp.refreshSeen
	goAway()
	wantFault(t, <-gone, fault.Unavailable, "ended before the provider had answered")
	close(hold)
	if token := w.token(t, ada, ask("profile")); token == old {
		t.Error("the old token was given")
	}
	if refreshes, _ := w.idp.counts(); refreshes != 1 {
		t.Errorf("%d refreshes", refreshes)
	}
}

func TestFailingProviderCostsNoGrant(t *testing.T) {
	t.Parallel()
	w, ada, old := expiredGrant(t)
	for _, status := range []int{http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusTooManyRequests} {
		for _, code := range []string{"", "invalid_grant"} { // a server in trouble may say anything
			w.idp.with(func(p *idp) { p.tokenStatus, p.tokenError = status, code })
			_, err := w.UserToken(t.Context(), ada, ask("profile"))
			wantFault(t, err, fault.Unavailable, "nothing is lost")
			if strings.Contains(fault.Of(err).Message, "canary") {
				t.Errorf("the provider's words came through: %s", fault.Of(err).Message)
			}
			w.later(5 * time.Minute) // the back-off is over
		}
	}
	w.idp.with(func(p *idp) { p.tokenStatus, p.tokenError = http.StatusUnauthorized, "invalid_client" })
	_, err := w.UserToken(t.Context(), ada, ask("profile"))
	wantFault(t, err, fault.Upstream, "invalid_client")
	w.later(5 * time.Minute)
	if n := w.count(t, `SELECT COUNT(*) FROM authorization_sessions WHERE state <> 'done'`); n != 0 {
		t.Errorf("%d times the person was asked", n)
	}
	w.idp.with(func(p *idp) { p.tokenStatus, p.tokenError = 0, "" })
	if token := w.token(t, ada, ask("profile")); token == old {
		t.Error("the token was not renewed")
	}
	w.noCanaries(t)
}

func TestFailingProviderCostsNothingBeforeExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.idp.with(func(p *idp) { p.lifetime = 600 })
	ada := w.consented(t, "agent", "ada", ask("profile"))
	old := w.token(t, ada, ask("profile"))
	w.idp.with(func(p *idp) { p.lifetime, p.tokenStatus = 36000, http.StatusInternalServerError })
	w.later(571 * time.Second)
	if token := w.token(t, ada, ask("profile")); token != old {
		t.Errorf("got %s, want the token that still lives", token)
	}
	w.idp.with(func(p *idp) { p.tokenStatus = 0 })
	w.later(time.Second) // the back-off is over
	if token := w.token(t, ada, ask("profile")); token == old {
		t.Error("a token about to expire was not renewed")
	}
	if refreshes, _ := w.idp.counts(); refreshes != 2 {
		t.Errorf("%d refreshes", refreshes)
	}
}

func TestInvalidGrantAsksAgain(t *testing.T) {
	t.Parallel()
	w, ada, _ := expiredGrant(t)
	w.idp.with(func(p *idp) { clear(p.refreshes) }) // withdrawn at the provider
	link := w.link(t, ada, ask("profile"))
	if again := w.link(t, ada, ask("profile")); again.SessionURI != link.SessionURI {
		t.Error("the person is asked twice")
	}
	if refreshes, _ := w.idp.counts(); refreshes != 1 {
		t.Errorf("%d refreshes with a token that the provider does not know", refreshes)
	}
	if n := w.count(t, `SELECT COUNT(*) FROM grants WHERE state = 'needs-consent' AND refresh_token IS NOT NULL`); n != 1 {
		t.Error("the grant was not kept")
	}
	w.goThrough(t, newBrowser("ada"), link)
	if err := w.completeAs(t.Context(), link, byID("ada")); err != nil {
		t.Fatal(err)
	}
	w.token(t, ada, ask("profile"))
}

func TestProviderWithoutRefreshTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.idp.with(func(p *idp) { p.lifetime, p.noRefresh = 600, true })
	ada := w.consented(t, "agent", "ada", ask("profile"))
	old := w.token(t, ada, ask("profile"))
	w.later(540 * time.Second)
	if w.token(t, ada, ask("profile")) != old {
		t.Error("a living token was not given")
	}
	w.later(61 * time.Second)
	w.link(t, ada, ask("profile"))
	if refreshes, _ := w.idp.counts(); refreshes != 0 {
		t.Error("something was refreshed")
	}
}

func TestProviderThatDoesNotRotate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.idp.with(func(p *idp) { p.lifetime, p.keepRefresh = 600, true })
	ada := w.consented(t, "agent", "ada", ask("profile"))
	for range 3 {
		w.later(time.Hour)
		w.idp.with(func(p *idp) { p.lifetime += 3600 }) // its clock does not run with the test's
		w.token(t, ada, ask("profile"))
	}
	if refreshes, _ := w.idp.counts(); refreshes != 3 {
		t.Errorf("%d refreshes", refreshes)
	}
}

func update(t *testing.T, w *world, input *api.Oauth2ProviderConfigInput) {
	t.Helper()
	if _, err := w.UpdateOauth2CredentialProvider(t.Context(), root, &api.UpdateOauth2CredentialProviderRequest{
		Name: "google", CredentialProviderVendor: api.CredentialProviderVendorTypeCustomOauth2, Oauth2ProviderConfigInput: input,
	}); err != nil {
		t.Fatal(err)
	}
}

func explicit(issuer, authorization, token, clientID, password string) *api.Oauth2ProviderConfigInput {
	return &api.Oauth2ProviderConfigInput{CustomOauth2ProviderConfig: &api.CustomOauth2ProviderConfigInput{
		OauthDiscovery: &api.Oauth2Discovery{AuthorizationServerMetadata: &api.Oauth2AuthorizationServerMetadata{Issuer: issuer, AuthorizationEndpoint: authorization, TokenEndpoint: token}},
		ClientId:       &clientID, ClientSecret: secret.Pointer(password),
	}}
}

func TestChangedProviderNeverGetsTheOldRefreshToken(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(w *world, evil *idp) *api.Oauth2ProviderConfigInput{
		"token endpoint": func(w *world, evil *idp) *api.Oauth2ProviderConfigInput {
			return explicit(w.idp.URL, w.idp.URL+"/authorize", evil.URL+"/token", "client", clientSecret)
		},
		"issuer": func(w *world, evil *idp) *api.Oauth2ProviderConfigInput {
			return explicit(evil.URL, w.idp.URL+"/authorize", w.idp.URL+"/token", "client", clientSecret)
		},
		"client id": func(w *world, _ *idp) *api.Oauth2ProviderConfigInput {
			return custom(w.idp, "another client")
		},
		"everything": func(_ *world, evil *idp) *api.Oauth2ProviderConfigInput { return custom(evil, "client") },
	} {
		for _, marked := range []bool{true, false} { // by the Update; and if the mark were missing
			w, ada, _ := expiredGrant(t)
			evil := newIDP(t)
			update(t, w, change(w, evil))
			if !marked {
				w.exec(t, `UPDATE grants SET state = 'active'`)
			}
			w.link(t, ada, ask("profile"))
			_, sent := w.idp.counts()
			if _, all := evil.counts(); all != 0 || sent != 1 {
				t.Errorf("%s (marked: %v): a refresh token was sent", name, marked)
			}
			if n := w.count(t, `SELECT COUNT(*) FROM grants WHERE state = 'needs-consent'`); n != 1 {
				t.Errorf("%s: the grant does not need consent", name)
			}
		}
	}
}

func TestLivingTokenOfAChangedProviderIsNotUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.consented(t, "agent", "ada", ask("profile", "email"))
	update(t, w, custom(newIDP(t), "client"))
	link := w.link(t, ada, ask("profile"))
	if attempt := w.open(t, newBrowser("ada"), link); len(attempt.Scopes) != 1 {
		t.Errorf("the new provider is asked for the old one's scopes: %v", attempt.Scopes)
	}
}

func TestNewSecretAloneKeepsGrants(t *testing.T) {
	t.Parallel()
	w, ada, old := expiredGrant(t)
	wrong := custom(w.idp, "client")
	wrong.CustomOauth2ProviderConfig.ClientSecret = secret.Pointer("wrong")
	update(t, w, wrong)
	_, err := w.UserToken(t.Context(), ada, ask("profile"))
	wantFault(t, err, fault.Upstream, "invalid_client")
	update(t, w, custom(w.idp, "client"))
	if w.token(t, ada, ask("profile")) == old {
		t.Error("the token was not renewed")
	}
}

func TestProviderChangedWhileACodeIsParked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "ada")
	link := w.link(t, ada, ask("profile"))
	person := newBrowser("ada")
	stale := w.allow(t, person, w.open(t, person, link))
	w.goThrough(t, newBrowser("ada"), link)
	next := newIDP(t)
	update(t, w, custom(next, "client"))
	wantFault(t, w.completeAs(t.Context(), link, byID("ada")), fault.Denied, "not come back")
	_, err := w.Callback(t.Context(), frontChannel(), stale)
	wantFault(t, err, fault.Denied, "unknown here")
	if _, all := next.counts(); all != 0 {
		t.Error("the old provider's code was sent to the new one")
	}
	w.goThrough(t, newBrowser("ada"), link) // the link is still good, and leads to the new provider
	if err := w.completeAs(t.Context(), link, byID("ada")); err != nil {
		t.Fatal(err)
	}
	w.token(t, ada, ask("profile"))
}

// A process that dies between the mark and the provider's answer.
func TestCrashWhileRedeeming(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.as(t, "agent", "ada")
	link := w.link(t, ada, ask("profile"))
	s, r := w.redeeming(t, link)
	w.marked(t, s, &r)
	restarted := w.replica(t)
	poll := ask("profile")
	poll.SessionURI = link.SessionURI
	restarted.link(t, ada, poll) // perhaps it lives, and is slow
	if marked, err := restarted.markRedeeming(t.Context(), s, &r); err != nil || marked {
		t.Errorf("marked twice: %v", err)
	}
	w.later(leaseLifetime)
	_, err := restarted.UserToken(t.Context(), ada, poll)
	wantFault(t, err, fault.Denied, "interrupted")
	wantFault(t, restarted.completeAs(t.Context(), link, byID("ada")), fault.Denied, "interrupted")
	if _, all := w.idp.counts(); all != 0 {
		t.Error("the code was sent after all")
	}
	fresh := restarted.link(t, ada, ask("profile"))
	restarted.goThrough(t, newBrowser("ada"), fresh)
	if err := restarted.completeAs(t.Context(), fresh, byID("ada")); err != nil {
		t.Fatal(err)
	}
	restarted.token(t, ada, ask("profile"))
}

// A process that dies with the lease of a refresh: the next takes over when it has run out.
func TestCrashWhileRefreshing(t *testing.T) {
	t.Parallel()
	w, ada, old := expiredGrant(t)
	w.exec(t, `UPDATE grants SET lease_holder = 'dead', fence = 1, lease_until = $1`, time.Now().Add(time.Duration(w.clock.Load())+usualHolding.life).UnixMicro())
	got := make(chan string)
	go func() {
		result, err := w.UserToken(t.Context(), ada, ask("profile"))
		if err != nil {
			t.Error(err)
		}
		got <- result.Access.Reveal()
	}()
	w.later(usualHolding.life)
	if <-got == old {
		t.Error("the token was not renewed")
	}
}

// The provider has rotated, and its answer died with the process. The next one
// sends the token of before: a provider with a grace period answers, a strict one
// does not, and then the grant is kept and the person is asked.
func TestCrashBetweenAnswerAndCommit(t *testing.T) {
	t.Parallel()
	for _, grace := range []bool{true, false} {
		w, ada, old := expiredGrant(t)
		w.idp.with(func(p *idp) {
			for before, person := range p.refreshes {
				if !grace {
					delete(p.refreshes, before)
				}
				p.refreshes["rotated, and never stored"] = person
				break
			}
		})
		w.exec(t, `UPDATE grants SET lease_holder = 'dead', fence = 1, lease_until = $1`, w.db.Now().Add(usualHolding.life).UnixMicro())
		w.later(usualHolding.life)
		result := w.userToken(t, ada, ask("profile"))
		if got := result.Access.Reveal(); (got != "") != grace || got == old {
			t.Errorf("grace %t: a token: %t", grace, got != "")
		}
		want := map[bool]string{true: "active", false: "needs-consent"}[grace]
		if n := w.count(t, `SELECT COUNT(*) FROM grants WHERE refresh_token IS NOT NULL AND state = '`+want+`'`); n != 1 {
			t.Errorf("grace %t: the grant is not kept as %s", grace, want)
		}
		if refreshes, _ := w.idp.counts(); refreshes != 1 {
			t.Errorf("grace %t: %d requests", grace, refreshes)
		}
	}
}

func TestResourcesAreKeptThroughRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.idp.with(func(p *idp) { p.lifetime = 600 })
	bound := ask("profile")
	bound.Resources = []string{"https://b.example", "https://a.example"}
	ada := w.consented(t, "agent", "ada", bound)
	w.later(601 * time.Second)
	w.idp.with(func(p *idp) { p.lifetime = 36000 })
	w.token(t, ada, bound)
	form := w.idp.lastForm()
	if form.Get("grant_type") != "refresh_token" || !slices.Equal(form["resource"], []string{"https://a.example", "https://b.example"}) || form.Has("scope") {
		t.Errorf("refreshed with %v", form)
	}
}

func TestRedeemFailures(t *testing.T) {
	t.Parallel()
	for status, text := range map[int]string{500: "not available", 400: "unauthorized_client"} {
		w := newWorld(t)
		ada := w.as(t, "agent", "ada")
		link := w.link(t, ada, ask("profile"))
		w.goThrough(t, newBrowser("ada"), link)
		w.idp.with(func(p *idp) { p.tokenStatus, p.tokenError = status, "unauthorized_client" })
		err := w.completeAs(t.Context(), link, byID("ada"))
		wantFault(t, err, fault.Upstream, text) // no kind that an SDK would try again
		w.idp.with(func(p *idp) { p.tokenStatus = 0 })
		wantFault(t, w.completeAs(t.Context(), link, byID("ada")), fault.Denied, text)
		if _, all := w.idp.counts(); all != 1 {
			t.Errorf("the code was sent %d times", all)
		}
		if n := w.count(t, `SELECT COUNT(*) FROM authorization_attempts`); n != 0 {
			t.Error("the code was kept")
		}
	}
}
