package consent

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// connect is the hosted page, at which a browser ends where the application has
// no page of its own: it goes on to sign in, and is told how it ended. Reloading
// it is always safe.
func (p *pages) connect(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(http.StatusOK)
		return
	}
	if err := p.gate.Limit(auth.LimitCallback, addressOf(r)); err != nil {
		p.fail(w, r, err)
		return
	}
	query := r.URL.Query()
	sessionID, ok := single(query, "session_id")
	if !ok || sessionID == "" {
		p.show(w, r, damagedAnswer)
		return
	}
	ctx := r.Context()
	subject, err := p.broker.SubjectOfSession(ctx, sessionID)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	caller := p.gate.Browser(ctx, subject.Account)
	var here *broker.Connection
	err = p.gate.Do(ctx, caller, []gate.Check{{Action: gate.ActionConnect, Resource: subject.ProviderARN}}, func(ctx context.Context) error {
		var err error
		here, err = p.broker.Connect(ctx, caller, sessionID, p.cookieOf(r))
		return err
	})
	switch {
	case errors.Is(err, broker.ErrFinishing):
		w.Header().Set("Refresh", "2")
		p.show(w, r, finishing)
	case errors.Is(err, broker.ErrDeclined), errors.Is(err, broker.ErrAttempt) && query.Get("error") == "access_denied": // or one of several browsers did
		p.show(w, r, declined)
	case errors.Is(err, broker.ErrProvider):
		p.show(w, r, providerFailed)
	case err != nil:
		p.fail(w, r, err)
	case here.Location != "":
		p.send(w, here.Location)
	default:
		p.showDone(w, r, here)
	}
}

// signedIn takes the answer of the issuer that the browser was sent to.
func (p *pages) signedIn(w http.ResponseWriter, r *http.Request) {
	answer, ok := p.answered(w, r)
	if !ok {
		return
	}
	ctx := r.Context()
	subject, err := p.broker.SubjectOfSignIn(ctx, answer["state"])
	if err != nil {
		if errors.Is(err, broker.ErrAttempt) {
			p.gate.Unproven(ctx, "", err)
		}
		p.fail(w, r, err)
		return
	}
	caller := p.gate.Browser(ctx, subject.Account)
	var there *broker.Connection
	err = p.gate.Do(ctx, caller, []gate.Check{{Action: gate.ActionConnect, Resource: subject.ProviderARN}}, func(ctx context.Context) error {
		var err error
		there, err = p.broker.SignedIn(ctx, caller, broker.SignInAnswer{
			IssuerID: r.PathValue("id"), State: answer["state"], Code: secret.New(answer["code"]), Issuer: answer["iss"], Error: answer["error"],
			Cookie: p.cookieOf(r),
		})
		return err
	})
	switch {
	case err == nil:
		p.send(w, there.Location)
	case there != nil && errors.Is(err, broker.ErrSignIn): // the session is as it was
		problem := signInFailed
		problem.Again = there.Location
		p.logged(r, err)
		p.show(w, r, problem)
	default:
		p.fail(w, r, err)
	}
}

// send redirects. Each address is the broker's, never the request's.
func (p *pages) send(w http.ResponseWriter, location string) {
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
}

func (p *pages) cookieOf(r *http.Request) func(string) string {
	return func(name string) string {
		cookie, err := r.Cookie(p.cookieName(name))
		if err != nil {
			return ""
		}
		return cookie.Value
	}
}

// rememberConnect gives the browser that has passed the callback the cookie that
// the hosted page asks for.
func (p *pages) rememberConnect(w http.ResponseWriter, landing *broker.Landing) {
	if landing.ConnectCookieName == "" {
		return
	}
	age := int(min(landing.Expires.Sub(p.now()), 10*time.Minute) / time.Second)
	p.setCookie(w, landing.ConnectCookieName, landing.ConnectCookieValue, broker.ConnectPath, max(age, 1))
}

type doneBody struct {
	Agent, AgentInitial       string
	Workload                  string
	Provider, ProviderInitial string
	ProviderHost              string
	Issuer                    string
	Scopes                    []scopeLine
	Back, BackHost            string
}

func (p *pages) showDone(w http.ResponseWriter, r *http.Request, c *broker.Connection) {
	agent, provider := readable(c.Workload, c.Workload.Name), c.ProviderTitle
	if provider == c.ProviderName {
		provider = readable(principal.Workload{}, provider)
	}
	body := doneBody{
		Agent: agent, AgentInitial: initial(agent), Workload: c.Workload.Name, Provider: provider, ProviderInitial: initial(provider),
		ProviderHost: c.ProviderHost, Issuer: c.Issuer, Back: c.Back, BackHost: c.BackHost,
	}
	for _, scope := range c.Scopes {
		body.Scopes = append(body.Scopes, scopeLine{scopeMeanings[scope], scope})
	}
	p.render(w, r, http.StatusOK, "done.html", page{Title: agent + " may now use your " + provider + " account", Body: body})
}
