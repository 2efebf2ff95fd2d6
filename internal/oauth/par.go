package oauth

import (
	"context"
	"encoding/json"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// Authorize is where the browser goes to ask for consent: what AuthorizationURL
// says or, where the server requires it, a reference to a request that is pushed
// to it now (RFC 9126), with one request. A reference is good for one use until
// expires, often for a minute alone: push when the browser is about to leave.
// Zero: the URL does not expire.
func (c *Client) Authorize(ctx context.Context, s Server, a Authorization) (link string, expires time.Time, err error) {
	vendor, err := s.vendor()
	if err != nil {
		return "", time.Time{}, err
	}
	if !s.Metadata.RequirePushedAuthorizationRequests {
		link, err = authorizationURL(vendor, s, a)
		return link, time.Time{}, err
	}
	if s.Metadata.PushedAuthorizationRequestEndpoint == "" {
		return "", time.Time{}, fault.New(fault.Invalid, "The provider requires pushed authorization requests, and does not say where to.")
	}
	endpoint, kept, query, err := authorizationQuery(vendor, s, a)
	if err != nil {
		return "", time.Time{}, err
	}
	got, err := c.post(ctx, request{
		server: s, endpoint: pushEndpoint, address: s.Metadata.PushedAuthorizationRequestEndpoint,
		form: query, secrets: append([]secret.Text{secret.New(a.State), a.Verifier}, maskable(a.Parameters)...),
	})
	if err != nil {
		return "", time.Time{}, err
	}
	reference, expires, problem := got.reference()
	if problem != nil {
		return "", time.Time{}, refusal(got.host, problem)
	}
	return withQuery(endpoint, kept, url.Values{"client_id": {s.ClientID}, "request_uri": {reference}}), expires, nil
}

const (
	maximumReference  = 2048        // bytes; browsers and proxies have their limits
	shortestReference = time.Minute // of a server that does not say
)

// reference reads the answer to a pushed request.
func (a answer) reference() (string, time.Time, *Error) {
	fields, _ := a.members()
	problem := a.problem(fields)
	if a.status != 200 && a.status != 201 { // 201 it must be; some say 200
		return "", time.Time{}, problem
	}
	reference, ok := text(fields["request_uri"])
	if !ok || !isTokenText(reference) || len(reference) > maximumReference || !strings.Contains(reference, ":") {
		return "", time.Time{}, problem
	}
	return reference, a.started.Add(lifetime(fields["expires_in"])), nil
}

// lifetime reads whole seconds between one and a day.
func lifetime(raw json.RawMessage) time.Duration {
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.IsNaN(seconds) || seconds < 1 {
		return shortestReference
	}
	return time.Duration(math.Min(seconds, 24*3600)) * time.Second
}
