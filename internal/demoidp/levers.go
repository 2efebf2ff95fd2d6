package demoidp

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// levers are what a test pulls to see how the other side takes it. Each is
// something that real providers do.
type levers struct {
	lifetime    time.Duration
	longest     time.Duration // the longest lifetime that there has been
	failTokens  int
	failPeople  int
	retryAfter  time.Duration
	requests    map[string]int
	peopleCalls int
}

// SetLifetime changes how long the access tokens live that are issued from now on.
func (p *Provider) SetLifetime(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.levers.longest = max(p.levers.longest, p.levers.lifetime, d)
	p.levers.lifetime = d
}

// FailTokens makes the token endpoint answer every request with this status until
// FailTokens(0), before it looks at the request: nothing is spent by a failure.
func (p *Provider) FailTokens(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.levers.failTokens = status
}

// FailPeople makes the People API answer every request with this status until
// FailPeople(0, 0); a 429 or 503 carries Retry-After when it is over 0.
func (p *Provider) FailPeople(status int, retryAfter time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.levers.failPeople, p.levers.retryAfter = status, retryAfter
}

// RevokeAll takes back everything the person allowed, as they would on their
// account page: refresh tokens answer invalid_grant, access tokens 401. It
// returns how many grants that were.
func (p *Provider) RevokeAll(person string) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, ended := p.now(), 0
	for _, f := range p.families {
		if f.Person == person {
			p.end(f, now)
			ended++
		}
	}
	return ended, p.save()
}

// TokenRequests counts the requests that named this grant type, the failed ones included.
func (p *Provider) TokenRequests(grantType string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.levers.requests[grantType]
}

// PeopleRequests counts the calls of the People API, the failed ones included.
func (p *Provider) PeopleRequests() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.levers.peopleCalls
}

// Issue gives what a sign-in that has just finished would have given, for
// benchmarks and tests that are not about signing in.
func (p *Provider) Issue(person, clientID string, scopes ...string) (Tokens, error) {
	p.mu.Lock()
	c, ok := p.clients[clientID]
	p.mu.Unlock()
	if _, known := p.person(person); !ok || !known {
		return Tokens{}, fmt.Errorf("demoidp: no client %q or no person %q", clientID, person)
	}
	now := p.now()
	f := &family{ID: random(), ClientID: c.ID, Person: person, Scopes: scopes, AuthTime: now}
	p.mu.Lock()
	p.keep(f, now)
	refresh := p.addRefresh(f, now)
	err := p.save()
	p.mu.Unlock()
	if err != nil {
		return Tokens{}, err
	}
	return p.mint(c, f, scopes, refresh, now)
}

func (p *Provider) fail(w http.ResponseWriter, status int) {
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(1))
	}
	writeJSON(w, status, map[string]string{"error": "temporarily_unavailable", "error_description": "Asked to fail, for a test."})
}
