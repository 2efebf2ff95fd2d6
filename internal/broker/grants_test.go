package broker

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/secret"
)

func TestScopesAreASet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.consented(t, "agent", "ada", ask("profile", "openid"))
	first := w.token(t, ada, ask("openid", "profile"))
	for _, covered := range [][]string{{"profile"}, {"openid profile"}, {"profile", "profile"}, {}, nil} {
		if w.token(t, ada, ask(covered...)) != first {
			t.Errorf("%v is not covered", covered)
		}
	}
	// A missing scope leads to consent for the union, and until then the old grant serves what it covers.
	link := w.link(t, ada, ask("email"))
	if w.token(t, ada, ask("profile")) != first {
		t.Error("a wider question took the narrower grant away")
	}
	attempt := w.open(t, newBrowser("ada"), link)
	if diff := cmp.Diff([]string{"email", "openid", "profile"}, attempt.Scopes); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	w.goThrough(t, newBrowser("ada"), link)
	if err := w.completeAs(t.Context(), link, byID("ada")); err != nil {
		t.Fatal(err)
	}
	if token := w.token(t, ada, ask("email", "profile", "openid")); token == first {
		t.Error("the wider grant was not stored")
	}
}

// Google answers "profile" with the scope's URL, and other providers with less
// than was asked: asking the person again would change nothing.
func TestProviderThatNamesScopesDifferently(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.idp.with(func(p *idp) { p.scopes = "openid https://provider.example/auth/profile" })
	ada := w.consented(t, "agent", "ada", ask("profile", "openid"))
	first := w.token(t, ada, ask("profile"))
	if w.token(t, ada, ask("https://provider.example/auth/profile", "profile")) != first {
		t.Error("what the provider says it granted is not covered")
	}
}

func TestResourcesAndAudiencesArePartOfTheKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bound := ask("profile")
	bound.Resources, bound.Audiences = []string{"https://api.example"}, []string{"api"}
	ada := w.consented(t, "agent", "ada", bound)
	token := w.token(t, ada, bound)
	w.link(t, ada, ask("profile"))

	asParameters := ask("profile")
	asParameters.Parameters = map[string]string{"resource": "https://api.example", "audience": "api", "prompt": "consent"}
	if w.token(t, ada, asParameters) != token {
		t.Error("resource and audience count otherwise as customParameters")
	}
	for name, change := range map[string]func(*TokenRequest){
		"resource": func(r *TokenRequest) { r.Resources = []string{"https://other.example"} },
		"audience": func(r *TokenRequest) { r.Audiences = nil },
		"both":     func(r *TokenRequest) { r.Parameters = map[string]string{"resource": "https://second.example"} },
	} {
		r := bound
		change(&r)
		if got := w.userToken(t, ada, r); !got.Access.Empty() {
			t.Errorf("another %s was answered with the token", name)
		}
	}
	// They reach the provider.
	if !w.idp.everSent("https://api.example") {
		t.Error("the resource was not sent with the code")
	}
}

func TestOtherParametersAreNoPartOfTheKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	withParameters := ask("profile")
	withParameters.Parameters, withParameters.State = map[string]string{"access_type": "offline"}, secret.New("state")
	ada := w.consented(t, "agent", "ada", withParameters)
	if w.token(t, ada, ask("profile")) != w.token(t, ada, withParameters) {
		t.Error("two grants")
	}
}

func TestForcedAuthentication(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.consented(t, "agent", "ada", ask("profile"))
	old := w.token(t, ada, ask("profile"))
	forced := ask("profile")
	forced.Force = true
	link := w.link(t, ada, forced)
	// Neither a poll nor anybody else gets the old token while the person is asked.
	poll := ask("profile")
	poll.SessionURI = link.SessionURI
	w.link(t, ada, poll)
	if again := w.link(t, ada, ask("profile")); again.SessionURI != link.SessionURI {
		t.Error("two questions to one person")
	}
	if again := w.link(t, ada, forced); again.SessionURI != link.SessionURI {
		t.Error("forcing again opened another session")
	}
	w.goThrough(t, newBrowser("ada"), link)
	if err := w.completeAs(t.Context(), link, byID("ada")); err != nil {
		t.Fatal(err)
	}
	renewed := w.token(t, ada, poll)
	poll.Force = true // an SDK that forgets to take it back
	if renewed == old || w.token(t, ada, poll) != renewed || w.token(t, ada, ask("profile")) != renewed {
		t.Error("the forced session's token is not the new one")
	}
}

func TestOneGrantPerWorkloadUserAndProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.workload(t, "second", returnURL)
	w.provider(t, "slack", w.idp)
	ada := w.consented(t, "agent", "ada", ask("profile"))
	w.link(t, w.as(t, "second", "ada"), ask("profile"))
	w.link(t, w.as(t, "agent", "bob"), ask("profile"))
	w.link(t, w.as(t, "agent", "Ada"), ask("profile"))
	slack := ask("profile")
	slack.ProviderName = "slack"
	w.link(t, ada, slack)
}

func TestOpenSessionsAreUsedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.workload(t, "agent2", returnURL, "https://app.example/other")
	ada := w.as(t, "agent2", "ada")
	base := ask("profile")
	base.State, base.Parameters = secret.New("state"), map[string]string{"prompt": "consent", "hd": "example"}
	link := w.link(t, ada, base)
	same := base
	same.Scopes, same.Parameters = []string{"profile", "profile"}, map[string]string{"hd": "example", "prompt": "consent"}
	if w.link(t, ada, same).SessionURI != link.SessionURI {
		t.Error("an equal question opened another session")
	}
	for name, change := range map[string]func(*TokenRequest){
		"scopes":     func(r *TokenRequest) { r.Scopes = []string{"email"} },
		"return URL": func(r *TokenRequest) { r.ReturnURL = "https://app.example/other" },
		"state":      func(r *TokenRequest) { r.State = secret.New("other") },
		"no state":   func(r *TokenRequest) { r.State = secret.Text{} },
		"parameters": func(r *TokenRequest) { r.Parameters = map[string]string{"prompt": "consent"} },
		"resources":  func(r *TokenRequest) { r.Resources = []string{"https://api.example"} },
		"audiences":  func(r *TokenRequest) { r.Audiences = []string{"https://api.example"} },
		"account": func(r *TokenRequest) {
			r.Parameters = maps.Clone(r.Parameters)
			r.Parameters["onbehalf_account"] = "work"
		},
	} {
		r := base
		change(&r)
		if w.link(t, ada, r).SessionURI == link.SessionURI {
			t.Errorf("another question (%s) got the same link", name)
		}
	}
	if w.link(t, w.as(t, "agent2", "bob"), base).SessionURI == link.SessionURI {
		t.Error("another user got the same link")
	}
	// Somebody who has been through with it does not use it up.
	w.goThrough(t, newBrowser("ada"), link)
	if w.link(t, ada, base).SessionURI != link.SessionURI {
		t.Error("a session that waits for the application opened another one")
	}
}

func BenchmarkUserToken(b *testing.B) {
	w := newWorld(b)
	ada := w.consented(b, "agent", "ada", ask("openid", "profile"))
	request := TokenRequest{ProviderName: "google", Scopes: []string{"openid", "profile"}}
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		result, err := w.UserToken(b.Context(), ada, request)
		if err != nil || result.Access.Empty() {
			b.Fatal(err)
		}
	}
}

// BenchmarkWholeRoom is identity, vault and broker together: a workload access
// token in, an access token out.
func BenchmarkWholeRoom(b *testing.B) {
	w := newWorld(b)
	ada := w.consented(b, "agent", "ada", ask("openid", "profile"))
	token, err := w.tokenFor(b, ada)
	if err != nil {
		b.Fatal(err)
	}
	request := TokenRequest{ProviderName: "google", Scopes: []string{"openid", "profile"}}
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		caller, err := w.identity.Open(b.Context(), root, token)
		if err != nil {
			b.Fatal(err)
		}
		result, err := w.UserToken(b.Context(), caller, request)
		if err != nil || result.Access.Empty() {
			b.Fatal(err)
		}
	}
}
