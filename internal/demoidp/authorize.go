package demoidp

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// request is one authorization request under way: from /authorize until the
// person has decided. It belongs to one browser, which is what makes the forms
// safe against forgery: a stranger knows neither its name nor has its cookie.
type request struct {
	browser   string
	client    registered
	redirect  string
	state     string
	nonce     string
	challenge string
	scopes    []string
	offline   bool
	prompt    []string
	maxAge    time.Duration // < 0: not given
	person    string        // empty until somebody is signed in for this request
	authTime  time.Time
}

func (q *request) prompts(what string) bool { return slices.Contains(q.prompt, what) }

// session is a signed-in browser.
type session struct {
	person   string
	authTime time.Time
}

// authorize is the authorization endpoint. Until client and redirect URI are
// known to be good, errors are shown here; after that they go to the client.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		p.problemPage(w, http.StatusBadRequest, "This link is damaged", "Go back to the application and start again.")
		return
	}
	if name := repeated(query); name == "client_id" || name == "redirect_uri" {
		p.problemPage(w, http.StatusBadRequest, "This link is damaged", "It names its application twice. Go back to the application and start again.")
		return
	}
	query, taken := p.takePushed(query)
	if !taken {
		p.problemPage(w, http.StatusBadRequest, "This request has gone", "It was used, is too old, or was never sent here beforehand. Go back to the application and start again.")
		return
	}
	p.mu.Lock()
	client, known := p.clients[query.Get("client_id")]
	p.mu.Unlock()
	if !known {
		p.problemPage(w, http.StatusBadRequest, "Unknown application", "The client_id in this link is not registered with the demo provider.")
		return
	}
	redirect := query.Get("redirect_uri")
	if !client.returnsTo(redirect) {
		p.problemPage(w, http.StatusBadRequest, "Redirect URI mismatch", "The redirect_uri in this link is not registered for "+client.Name+", character by character. Nothing was sent to it.")
		return
	}
	q := &request{client: client, redirect: redirect, state: query.Get("state")}
	if refused := p.read(q, query); refused != nil {
		p.back(w, r, q, url.Values{"error": {refused.code}, "error_description": {refused.description}})
		return
	}

	now := p.now()
	if s, ok := p.sessionOf(r, now); ok && !q.prompts("login") && !q.prompts("select_account") && (q.maxAge < 0 || now.Sub(s.authTime) <= q.maxAge) {
		q.person, q.authTime = s.person, s.authTime
	}
	if q.prompts("none") {
		switch {
		case q.person == "":
			p.back(w, r, q, url.Values{"error": {"login_required"}})
		case !client.SignIn:
			p.back(w, r, q, url.Values{"error": {"consent_required"}})
		default:
			p.grant(w, r, q)
		}
		return
	}
	if q.person != "" && client.SignIn && !q.prompts("consent") {
		p.grant(w, r, q)
		return
	}
	q.browser = p.browser(w, r)
	id := random()
	p.mu.Lock()
	p.requests.put(id, q, now, now.Add(requestLifetime))
	p.mu.Unlock()
	if q.person == "" {
		p.showSignIn(w, id, q)
		return
	}
	p.showConsent(w, id, q)
}

// read takes the parameters in and says what is wrong with them.
func (p *Provider) read(q *request, query url.Values) *oauthError {
	q.maxAge = -1
	switch {
	case repeated(query) != "":
		return badRequest("invalid_request", "A parameter is given more than once.")
	case query.Has("request"):
		return badRequest("request_not_supported", "Request objects are not supported.")
	case query.Has("request_uri"):
		return badRequest("request_uri_not_supported", "Request URIs are not supported.")
	case query.Get("response_type") != "code":
		return badRequest("unsupported_response_type", "Only the code flow is supported.")
	case query.Get("response_mode") != "" && query.Get("response_mode") != "query":
		return badRequest("invalid_request", "Only response_mode=query is supported.")
	case query.Get("code_challenge") == "":
		return badRequest("invalid_request", "PKCE is required: code_challenge is missing.")
	case query.Get("code_challenge_method") != "S256":
		return badRequest("invalid_request", "PKCE is required with code_challenge_method=S256.")
	}
	q.challenge, q.nonce = query.Get("code_challenge"), query.Get("nonce")
	if hash, err := base64.RawURLEncoding.DecodeString(q.challenge); err != nil || len(hash) != 32 {
		return badRequest("invalid_request", "code_challenge is not the base64url of a SHA-256.")
	}
	for _, scope := range strings.Fields(query.Get("scope")) {
		if _, known := p.scopes[scope]; !known {
			return badRequest("invalid_scope", "A scope is not known here.")
		}
		if !slices.Contains(q.scopes, scope) {
			q.scopes = append(q.scopes, scope)
		}
	}
	// Google's parameter and OpenID Connect's scope mean the same.
	q.offline = query.Get("access_type") == "offline" || slices.Contains(q.scopes, "offline_access")
	q.prompt = strings.Fields(query.Get("prompt"))
	if q.prompts("none") && len(q.prompt) > 1 {
		return badRequest("invalid_request", "prompt=none goes with nothing else.")
	}
	if raw := query.Get("max_age"); raw != "" {
		seconds, err := strconv.Atoi(raw)
		if err != nil || seconds < 0 {
			return badRequest("invalid_request", "max_age is not a number of seconds.")
		}
		q.maxAge = time.Duration(seconds) * time.Second
	}
	return nil
}

// signInPage shows the people to choose from, also to who wants to be another one.
func (p *Provider) signInPage(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("request")
	if q, ok := p.underWay(w, r, id); ok {
		p.showSignIn(w, id, q)
	}
}

func (p *Provider) signIn(w http.ResponseWriter, r *http.Request) {
	id, q, ok := p.formOf(w, r)
	if !ok {
		return
	}
	if r.PostForm.Get("decision") == "deny" {
		p.finish(w, r, id, q, false)
		return
	}
	person, known := p.person(r.PostForm.Get("person"))
	if !known {
		p.problemPage(w, http.StatusBadRequest, "Nobody by that name", "Go back and choose one of the demo people.")
		return
	}
	now := p.now()
	key := random() // a new one at each sign-in, so that nobody can plant theirs
	p.mu.Lock()
	p.sessions.put(key, session{person.ID, now}, now, now.Add(sessionLifetime))
	// The request itself is left as it is and replaced: other handlers may be reading it.
	signed := *q
	signed.person, signed.authTime = person.ID, now
	p.requests.put(id, &signed, now, now.Add(requestLifetime))
	p.mu.Unlock()
	p.setCookie(w, "session", key, sessionLifetime)
	if q.client.SignIn && !q.prompts("consent") {
		p.finish(w, r, id, &signed, true)
		return
	}
	http.Redirect(w, r, "/consent?request="+url.QueryEscape(id), http.StatusSeeOther)
}

func (p *Provider) consentPage(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("request")
	q, ok := p.underWay(w, r, id)
	if !ok {
		return
	}
	if q.person == "" {
		p.showSignIn(w, id, q)
		return
	}
	p.showConsent(w, id, q)
}

func (p *Provider) consent(w http.ResponseWriter, r *http.Request) {
	id, q, ok := p.formOf(w, r)
	if !ok {
		return
	}
	switch decision := r.PostForm.Get("decision"); {
	case decision == "deny":
		p.finish(w, r, id, q, false)
	case decision == "allow" && q.person != "":
		p.finish(w, r, id, q, true)
	default:
		p.problemPage(w, http.StatusBadRequest, "Nothing was decided", "Go back, sign in, and choose Allow or Deny.")
	}
}

// finish ends a request, once, and sends the browser back to the client.
func (p *Provider) finish(w http.ResponseWriter, r *http.Request, id string, q *request, allowed bool) {
	p.mu.Lock()
	_, ok := p.requests.get(id, p.now())
	p.requests.drop(id)
	p.mu.Unlock()
	if !ok {
		p.goneWrong(w)
		return
	}
	if !allowed {
		p.back(w, r, q, url.Values{"error": {"access_denied"}, "error_description": {"The person did not allow it."}})
		return
	}
	p.grant(w, r, q)
}

// grant sends the browser back with a code.
func (p *Provider) grant(w http.ResponseWriter, r *http.Request, q *request) {
	now, value := p.now(), random()
	c := &code{
		clientID: q.client.ID, redirect: q.redirect, challenge: q.challenge, offline: q.offline, expires: now.Add(codeLifetime),
		family: &family{ID: random(), ClientID: q.client.ID, Person: q.person, Scopes: q.scopes, Nonce: q.nonce, AuthTime: q.authTime},
	}
	p.mu.Lock()
	p.codes.put(value, c, now, now.Add(codeMemory))
	p.mu.Unlock()
	p.back(w, r, q, url.Values{"code": {value}})
}

// back redirects to the client, which is told who answers (RFC 9207).
func (p *Provider) back(w http.ResponseWriter, r *http.Request, q *request, answer url.Values) {
	if q.state != "" {
		answer.Set("state", q.state)
	}
	answer.Set("iss", p.issuer)
	target, err := url.Parse(q.redirect)
	if err != nil { // Register parsed it
		p.problemPage(w, http.StatusInternalServerError, "Something went wrong", "The redirect URI cannot be read.")
		return
	}
	// What the client registered stays as it is, byte for byte, and ours comes behind it.
	if target.RawQuery != "" {
		target.RawQuery += "&"
	}
	target.RawQuery += answer.Encode()
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, target.String(), http.StatusSeeOther)
}

// formOf reads a posted form and finds the request it belongs to.
func (p *Provider) formOf(w http.ResponseWriter, r *http.Request) (string, *request, bool) {
	if p.sentFromElsewhere(r) {
		p.problemPage(w, http.StatusForbidden, "Not from here", "This form was sent by another site, so nothing was done.")
		return "", nil, false
	}
	if err := r.ParseForm(); err != nil {
		p.problemPage(w, http.StatusBadRequest, "This form is damaged", "Go back and try again.")
		return "", nil, false
	}
	id := r.PostForm.Get("request")
	q, ok := p.underWay(w, r, id)
	return id, q, ok
}

// sentFromElsewhere refuses what browsers say comes from another site. It is a
// second lock: the first is that the form names a request of this very browser.
// So a browser too old for Sec-Fetch-Site, to which our own no-referrer makes
// the Origin "null", gets through to the first.
func (p *Provider) sentFromElsewhere(r *http.Request) bool {
	if r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == "null" {
		return false
	}
	return p.crossSite.Check(r) != nil
}

func (p *Provider) underWay(w http.ResponseWriter, r *http.Request, id string) (*request, bool) {
	p.mu.Lock()
	q, ok := p.requests.get(id, p.now())
	p.mu.Unlock()
	if ok {
		cookie, err := r.Cookie(p.cookies + "browser")
		ok = err == nil && cookie.Value == q.browser
	}
	if !ok {
		p.goneWrong(w)
		return nil, false
	}
	return q, true
}

func (p *Provider) goneWrong(w http.ResponseWriter) {
	p.problemPage(w, http.StatusBadRequest, "This sign-in has ended", "It is finished, too old, or began in another browser. Go back to the application and start again.")
}

// browser names this browser, for as long as it is open.
func (p *Provider) browser(w http.ResponseWriter, r *http.Request) string {
	if cookie, err := r.Cookie(p.cookies + "browser"); err == nil && len(cookie.Value) == len(random()) {
		return cookie.Value
	}
	name := random()
	p.setCookie(w, "browser", name, 0)
	return name
}

func (p *Provider) sessionOf(r *http.Request, now time.Time) (session, bool) {
	cookie, err := r.Cookie(p.cookies + "session")
	if errors.Is(err, http.ErrNoCookie) {
		return session{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions.get(cookie.Value, now)
}

func (p *Provider) setCookie(w http.ResponseWriter, name, value string, age time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: p.cookies + name, Value: value, Path: "/", MaxAge: int(age / time.Second),
		HttpOnly: true, Secure: p.secure, SameSite: http.SameSiteLaxMode,
	})
}
