package demoidp

import (
	"net/http"
	"net/url"
	"time"
)

// pushLifetime is short, as real providers have it: whoever pushes long before
// the browser leaves finds out.
const pushLifetime = 60 * time.Second

const pushedPrefix = "urn:ietf:params:oauth:request_uri:"

// pushed is an authorization request that waits for its browser.
type pushed struct {
	clientID string
	query    url.Values
}

// push is RFC 9126: the client says over its own connection, and with its own
// proof, what the browser will ask for, and gets a reference for one use.
func (p *Provider) push(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if !parseForm(w, r) {
		return
	}
	p.mu.Lock()
	fail := p.levers.failTokens
	p.levers.requests["pushed"]++
	p.mu.Unlock()
	if fail != 0 {
		p.fail(w, fail)
		return
	}
	client, problem := p.authenticate(r)
	if problem != nil {
		problem.write(w)
		return
	}
	query := url.Values{}
	for name, values := range r.PostForm {
		if name != "client_secret" {
			query[name] = values
		}
	}
	query.Set("client_id", client.ID)
	switch {
	case query.Has("request_uri"):
		problem = badRequest("invalid_request", "A pushed request has no request_uri of its own.")
	case !client.returnsTo(query.Get("redirect_uri")):
		problem = badRequest("invalid_request", "The redirect_uri is not registered for this client.")
	default:
		problem = p.read(&request{client: client}, query)
	}
	if problem != nil {
		problem.write(w)
		return
	}
	reference, now := pushedPrefix+random(), p.now()
	p.mu.Lock()
	p.pushed.put(reference, pushed{client.ID, query}, now, now.Add(pushLifetime))
	p.mu.Unlock()
	writeJSON(w, http.StatusCreated, map[string]any{"request_uri": reference, "expires_in": int(pushLifetime / time.Second)})
}

// takePushed is the request that a browser's query stands for, once; the query
// itself where nothing was pushed and nothing has to be.
func (p *Provider) takePushed(query url.Values) (url.Values, bool) {
	reference := query.Get("request_uri")
	if reference == "" {
		return query, !p.requirePush
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	found, ok := p.pushed.get(reference, p.now())
	if !ok || found.clientID != query.Get("client_id") {
		return nil, false
	}
	p.pushed.drop(reference)
	return found.query, true
}
