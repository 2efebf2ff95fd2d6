package broker

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
)

func (w *world) m2m(t testing.TB, caller principal.Caller, r TokenRequest) string {
	t.Helper()
	token, err := w.ClientToken(t.Context(), caller, r)
	if err != nil {
		t.Fatal(err)
	}
	return token.Reveal()
}

func TestClientTokenIsFetchedOnce(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.provider(t, "google", w.idp)
		response, err := w.GetResourceOauth2Token(t.Context(), w.alone(t, "agent"), &api.GetResourceOauth2TokenRequest{
			ResourceCredentialProviderName: "google", Scopes: []string{"read", "write"}, Oauth2Flow: api.Oauth2FlowTypeM2m,
			Resources: []string{"https://api.example/"}, Audiences: []string{"api"}, CustomParameters: map[string]secret.Text{"tenant": secret.New("canary-tenant"), "grant_type": secret.New("password")},
		})
		if err != nil || response.AccessToken == nil || response.AuthorizationUrl != nil || response.SessionUri != nil || response.SessionStatus != "" {
			t.Fatalf("got %+v, %v", response, err)
		}
		token := response.AccessToken.Reveal()
		form := w.idp.lastForm()
		for name, want := range map[string]string{"grant_type": "client_credentials", "scope": "read write", "resource": "https://api.example/", "audience": "api", "tenant": "canary-tenant"} {
			if got := form.Get(name); got != want {
				t.Errorf("%s=%q reached the provider, want %q", name, got, want)
			}
		}
		if !strings.HasPrefix(token, "canary-m2m-client-") {
			t.Errorf("got %s", token)
		}

		// The same question in other words, with a user and without: the same token.
		same := TokenRequest{ProviderName: "google", Scopes: []string{"write read"}, Audiences: []string{"api"}, Parameters: map[string]string{"tenant": "canary-tenant", "grant_type": "password", "resource": "https://api.example/"}}
		for _, caller := range []principal.Caller{w.alone(t, "agent"), w.as(t, "agent", "ada"), w.as(t, "agent", "jwt:bob")} {
			if got := w.m2m(t, caller, same); got != token {
				t.Errorf("%s got %s instead of %s", caller.User, got, token)
			}
		}
		same.Parameters[parameterAccount] = "work" // of whom?
		if got := w.m2m(t, w.alone(t, "agent"), same); got != token {
			t.Errorf("a named account got %s instead of %s", got, token)
		}
		if n := w.idp.grants(); n != 1 {
			t.Errorf("%d requests", n)
		}
		if n := w.intents(t, actionClientToken); n != 1 {
			t.Errorf("%d intents", n)
		}

		// Another question has another token: nothing covers anything here.
		seen := map[string]string{token: "the first"}
		for name, change := range map[string]func(*TokenRequest){
			"fewer scopes":     func(r *TokenRequest) { r.Scopes = []string{"read"} },
			"more scopes":      func(r *TokenRequest) { r.Scopes = []string{"read", "write", "admin"} },
			"no audience":      func(r *TokenRequest) { r.Audiences = nil },
			"another audience": func(r *TokenRequest) { r.Audiences = []string{"other"} },
			"another resource": func(r *TokenRequest) {
				r.Parameters = map[string]string{"tenant": "canary-tenant", "grant_type": "password"}
			},
			"audience for tenant": func(r *TokenRequest) { r.Audiences, r.Resources = []string{"https://api.example/"}, []string{"api"} },
			"another parameter": func(r *TokenRequest) {
				r.Parameters = map[string]string{"tenant": "other", "grant_type": "password", "resource": "https://api.example/"}
			},
			"one parameter fewer": func(r *TokenRequest) {
				r.Parameters = map[string]string{"grant_type": "password", "resource": "https://api.example/"}
			},
			"a parameter as scope": func(r *TokenRequest) { r.Scopes = []string{"read", "write", "tenant"} },
		} {
			r := same
			change(&r)
			got := w.m2m(t, w.alone(t, "agent"), r)
			if before, known := seen[got]; known {
				t.Errorf("%s has the token of %s", name, before)
			}
			seen[got] = name
		}
		w.noCanaries(t)
	})
}

func TestClientTokensOfOthers(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.provider(t, "google", w.idp)
		w.provider(t, "slack", w.idp)
		w.workload(t, "second")
		r := TokenRequest{ProviderName: "google", Scopes: []string{"read"}}
		agent := w.alone(t, "agent")
		token := w.m2m(t, agent, r)
		if w.m2m(t, w.alone(t, "second"), r) == token {
			t.Error("two workloads share a token")
		}
		slack := r
		slack.ProviderName = "slack"
		if w.m2m(t, agent, slack) == token {
			t.Error("two providers share a token")
		}
		stranger := agent
		stranger.Account = other
		_, err := w.ClientToken(t.Context(), stranger, r)
		wantFault(t, err, fault.NotFound, "google not found")
		_, err = w.ClientToken(t.Context(), root, r)
		wantFault(t, err, fault.Invalid, "workload identity")
		w.apiKey(t, "weather", "canary-key")
		for _, r := range []TokenRequest{{ProviderName: "nobody"}, {ProviderName: "weather"}} {
			_, err = w.ClientToken(t.Context(), agent, r)
			wantFault(t, err, fault.NotFound, "not found")
		}

		// A deleted provider has no tokens, and its successor has its own.
		if _, err := w.DeleteOauth2CredentialProvider(t.Context(), root, &api.DeleteOauth2CredentialProviderRequest{Name: "google"}); err != nil {
			t.Fatal(err)
		}
		_, err = w.ClientToken(t.Context(), agent, r)
		wantFault(t, err, fault.NotFound, "google not found")
		w.provider(t, "google", w.idp)
		if w.m2m(t, agent, r) == token {
			t.Error("the successor has the token of the deleted provider")
		}
		// A deleted workload's tokens go with it.
		if _, err := w.identity.DeleteWorkloadIdentity(t.Context(), root, &api.DeleteWorkloadIdentityRequest{Name: "agent"}); err != nil {
			t.Fatal(err)
		}
		if n := w.count(t, `SELECT COUNT(*) FROM cached_tokens WHERE workload_id = $1`, agent.Workload.ID); n != 0 {
			t.Errorf("%d tokens of the deleted workload are left", n)
		}
		_, err = w.ClientToken(t.Context(), agent, r)
		wantFault(t, err, fault.NotFound, "deleted meanwhile")
	})
}

func TestColdStormOfClientTokens(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.provider(t, "google", w.idp)
		replica := w.replica(t)
		hold := make(chan struct{})
		w.idp.with(func(p *idp) { p.holdGrant = hold })
		agent := w.alone(t, "agent")
		var callers sync.WaitGroup
		tokens := make(chan string, 1000)
		for i := range 1000 {
			process := []*world{w, replica}[i%2]
			callers.Go(func() {
				token, err := process.ClientToken(t.Context(), agent, TokenRequest{ProviderName: "google", Scopes: []string{"read"}})
				if err != nil {
					t.Error(err)
				}
				tokens <- token.Reveal()
			})
		}
		<-w.idp.grantSeen
		close(hold)
		callers.Wait()
		close(tokens)
		different := map[string]int{}
		for token := range tokens {
			different[token]++
		}
		if len(different) != 1 || w.idp.grants() != 1 {
			t.Errorf("%d tokens from %d requests", len(different), w.idp.grants())
		}
	})
}

func TestClientTokenNearItsEnd(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.provider(t, "google", w.idp)
		w.idp.with(func(p *idp) { p.lifetime = 3600 })
		agent, r := w.alone(t, "agent"), TokenRequest{ProviderName: "google", Scopes: []string{"read"}}
		first := w.m2m(t, agent, r)
		w.later(time.Hour - time.Minute)
		agent = w.alone(t, "agent")
		if w.m2m(t, agent, r) != first {
			t.Error("fetched a minute before its end")
		}
		// Within the margin a new one is wanted; while the provider fails, the old one serves.
		w.later(31 * time.Second)
		w.idp.with(func(p *idp) { p.tokenStatus, p.tokenError = http.StatusServiceUnavailable, "temporarily_unavailable" })
		if w.m2m(t, agent, r) != first {
			t.Error("a failing provider took a living token away")
		}
		w.later(time.Minute)
		_, err := w.ClientToken(t.Context(), agent, r)
		wantFault(t, err, fault.Unavailable, "google gave no token")
		w.idp.with(func(p *idp) { p.tokenStatus, p.lifetime = 0, 36000 })
		second := w.m2m(t, agent, r)
		if second == first || w.m2m(t, agent, r) != second {
			t.Errorf("got %s", second)
		}
		// Force is for a token that the API has refused: it is replaced, for everybody.
		forced := r
		forced.Force = true
		third := w.m2m(t, agent, forced)
		if third == second || w.m2m(t, agent, r) != third {
			t.Error("force did not replace the token")
		}
		// Where force fails, the old one stays for those who did not complain.
		w.idp.with(func(p *idp) { p.tokenStatus, p.tokenError = http.StatusBadRequest, "invalid_scope" })
		_, err = w.ClientToken(t.Context(), agent, forced)
		wantFault(t, err, fault.Upstream, "invalid_scope")
		if w.m2m(t, agent, r) != third {
			t.Error("a forced request that failed lost the token")
		}
		w.noCanaries(t)
	})
}

func TestClientTokenOfUnknownLifetime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.idp.with(func(p *idp) { p.lifetime = 0 })
	agent, r := w.alone(t, "agent"), TokenRequest{ProviderName: "google"}
	first := w.m2m(t, agent, r)
	w.later(4 * time.Minute)
	if w.m2m(t, agent, r) != first {
		t.Error("not kept for four minutes")
	}
	w.later(time.Minute)
	if w.m2m(t, agent, r) == first {
		t.Error("kept for five minutes and more")
	}
}

// What has come of a provider's failure is an error of the right kind, no row, and no secret in the text.
func TestProviderThatGivesNoClientToken(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.provider(t, "google", w.idp)
		agent := w.alone(t, "agent")
		for _, c := range []struct {
			status int
			code   string
			kind   fault.Kind
		}{
			{http.StatusUnauthorized, "invalid_client", fault.Upstream}, {http.StatusBadRequest, "unauthorized_client", fault.Upstream}, {http.StatusBadRequest, "invalid_grant", fault.Upstream},
			{http.StatusInternalServerError, "server_error", fault.Unavailable}, {http.StatusTooManyRequests, "slow_down", fault.Unavailable},
		} {
			w.idp.with(func(p *idp) { p.tokenStatus, p.tokenError = c.status, c.code })
			_, err := w.ClientToken(t.Context(), agent, TokenRequest{ProviderName: "google", Parameters: map[string]string{"key": "canary-parameter"}})
			if !fault.Is(err, c.kind) || strings.Contains(fmt.Sprint(err), clientSecret) || strings.Contains(fault.Of(err).Message, "canary") {
				t.Errorf("%d %s: %v", c.status, c.code, err)
			}
		}
		if n := w.count(t, `SELECT COUNT(*) FROM cached_tokens`); n != 0 {
			t.Errorf("failures left %d rows", n)
		}
		w.noCanaries(t)
	})
}

func TestUpdateOfAProviderAndItsClientTokens(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.provider(t, "google", w.idp)
		agent, r := w.alone(t, "agent"), TokenRequest{ProviderName: "google"}
		first := w.m2m(t, agent, r)
		update(t, w, custom(w.idp, "client")) // the same client, the secret given again
		if w.m2m(t, agent, r) != first {
			t.Error("a new secret alone took the token away")
		}
		update(t, w, custom(w.idp, "second"))
		if got := w.m2m(t, agent, r); !strings.HasPrefix(got, "canary-m2m-second-") {
			t.Errorf("after the update: %s", got)
		}

		// An update while the old client's request is under way: its answer is for nobody.
		hold := make(chan struct{})
		w.idp.with(func(p *idp) { p.holdGrant = hold })
		for len(w.idp.grantSeen) > 0 {
			<-w.idp.grantSeen
		}
		forced := r
		forced.Force = true
		answer := make(chan string)
		go func() {
			token, err := w.ClientToken(t.Context(), agent, forced)
			if err != nil {
				t.Error(err)
			}
			answer <- token.Reveal()
		}()
		<-w.idp.grantSeen
		update(t, w, custom(w.idp, "third"))
		close(hold)
		if got := <-answer; !strings.HasPrefix(got, "canary-m2m-third-") {
			t.Errorf("the old client's answer was given: %s", got)
		}
		if got := w.m2m(t, agent, r); !strings.HasPrefix(got, "canary-m2m-third-") {
			t.Errorf("the old client's answer was stored: %s", got)
		}
	})
}

// A process that died while it asked keeps others waiting for as long as its lease, and no longer.
func TestFetcherThatDied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	agent, r := w.alone(t, "agent"), TokenRequest{ProviderName: "google"}
	w.m2m(t, agent, r)
	w.exec(t, `UPDATE cached_tokens SET version = 0, expires = 0, access_token = NULL, lease_holder = 'dead', lease_until = $1`, time.Now().Add(leaseLifetime).UnixMicro())
	done := make(chan string)
	go func() {
		token, err := w.ClientToken(t.Context(), agent, r)
		if err != nil {
			t.Error(err)
		}
		done <- token.Reveal()
	}()
	select {
	case token := <-done:
		t.Errorf("did not wait for the lease: %s", token)
	case <-time.After(3 * pollInterval):
		w.later(leaseLifetime)
		if token := <-done; !strings.HasPrefix(token, "canary-m2m-client-") {
			t.Errorf("got %s", token)
		}
	}
}
