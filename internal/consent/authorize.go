package consent

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/gate"
)

// authorize opens an attempt and shows who asks and what for. The button is a
// link to the provider; the cookie is what the callback will ask for.
func (p *pages) authorize(w http.ResponseWriter, r *http.Request) {
	if err := p.gate.Limit(auth.LimitAuthorize, addressOf(r)); err != nil {
		p.fail(w, r, err)
		return
	}
	if r.Method == http.MethodHead { // somebody only looks whether there is a page: there is
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(http.StatusOK)
		return
	}
	requestURI, ok := single(r.URL.Query(), "request_uri")
	if !ok || requestURI == "" {
		p.show(w, r, incompleteLink)
		return
	}
	ctx := r.Context()
	subject, err := p.broker.SubjectOfSession(ctx, requestURI)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	caller := p.gate.Browser(ctx, subject.Account)
	var attempt *broker.Attempt
	err = p.gate.Do(ctx, caller, []gate.Check{{Action: gate.ActionAuthorize, Resource: subject.ProviderARN}}, func(ctx context.Context) error {
		var err error
		attempt, err = p.broker.Authorize(ctx, caller, requestURI)
		return err
	})
	if err != nil {
		p.fail(w, r, err)
		return
	}
	p.remember(w, attempt)
	w.Header().Add("Vary", "Accept")
	if !wantsPage(r) {
		// A program plays the browser, or AWS's own behaviour is expected.
		w.Header().Set("Location", attempt.Location)
		w.WriteHeader(http.StatusFound)
		return
	}
	p.showConsent(w, r, attempt, subject.Workload)
}

// goOn is where the button leads if the provider has to be told first what the
// browser will ask for: that happens now, once for each time the button is pressed.
func (p *pages) goOn(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		p.show(w, r, wrongMethod)
		return
	}
	if err := p.gate.Limit(auth.LimitAuthorize, addressOf(r)); err != nil {
		p.fail(w, r, err)
		return
	}
	state, ok := single(r.URL.Query(), "state")
	if !ok || state == "" {
		p.show(w, r, incompleteLink)
		return
	}
	ctx, id := r.Context(), r.PathValue("id")
	subject, ok := p.concerned(w, r, id, state)
	if !ok {
		return
	}
	caller := p.gate.Browser(ctx, subject.Account)
	var location string
	err := p.gate.Do(ctx, caller, []gate.Check{{Action: gate.ActionAuthorize, Resource: subject.ProviderARN}}, func(ctx context.Context) error {
		var err error
		location, err = p.broker.Continue(ctx, caller, id, state, p.cookieOf(r))
		return err
	})
	switch {
	case err == nil:
		p.send(w, location)
	case errors.Is(err, broker.ErrPush):
		p.logged(r, err)
		problem := notTaken
		problem.Again = r.URL.RequestURI()
		p.show(w, r, problem)
	default:
		p.fail(w, r, err)
	}
}

// remember gives this browser the cookie that ties the callback to it.
func (p *pages) remember(w http.ResponseWriter, a *broker.Attempt) {
	age := min(a.Expires.Sub(p.now()), 10*time.Minute)
	p.setCookie(w, a.CookieName, a.CookieValue, a.CookiePath, max(int(age/time.Second), 1))
}

func (p *pages) forget(w http.ResponseWriter, name, path string) {
	if name != "" {
		p.setCookie(w, name, "", path, -1)
	}
}

func (p *pages) setCookie(w http.ResponseWriter, name, value, path string, age int) {
	if p.secure {
		path = "/" // as the prefix demands
	}
	http.SetCookie(w, &http.Cookie{
		Name: p.cookieName(name), Value: value, Path: path, MaxAge: age,
		HttpOnly: true, Secure: p.secure, SameSite: http.SameSiteLaxMode,
	})
}

// cookieName adds the prefix with which browsers take the cookie from this very
// host alone, over https. A narrower path would look tidier; but then a page of a
// neighbour below the same domain could plant an attempt of its own here, and
// which browser went through is all that the hosted page has to go by.
func (p *pages) cookieName(name string) string {
	if p.secure {
		return "__Host-" + name
	}
	return name
}

// wantsPage reports whether the client names HTML among what it accepts. "*/*"
// alone is a program.
func wantsPage(r *http.Request) bool {
	for _, part := range strings.Split(strings.Join(r.Header.Values("Accept"), ","), ",") {
		kind, parameters, err := mime.ParseMediaType(part)
		if err != nil || kind != "text/html" && kind != "application/xhtml+xml" {
			continue
		}
		quality := 1.0
		if q, given := parameters["q"]; given {
			if quality, err = strconv.ParseFloat(q, 64); err != nil {
				quality = 0
			}
		}
		if quality > 0 {
			return true
		}
	}
	return false
}
