package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// gatewayTransport adds the user's token to each request to the gateway, and to
// no other host, and remembers how the gateway answered: the MCP SDK tells that
// in words only.
type gatewayTransport struct {
	token   atomic.Pointer[string]
	gateway *url.URL
	log     *slog.Logger
	refused atomic.Pointer[refusal] // of the last request; nil where it was answered
}

// refusal is an HTTP status that is no success.
type refusal struct {
	status     int
	retryAfter string
}

func newGatewayTransport(gatewayURL, userToken string, log *slog.Logger) (*gatewayTransport, error) {
	u, err := url.Parse(gatewayURL)
	if err != nil {
		return nil, err
	}
	if u.Host == "" {
		return nil, errors.New("it names no host")
	}
	t := &gatewayTransport{gateway: u, log: log}
	t.token.Store(&userToken)
	return t, nil
}

// RoundTrip never follows anybody elsewhere with the token.
func (t *gatewayTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == t.gateway.Host && r.URL.Scheme == t.gateway.Scheme {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+*t.token.Load())
	}
	started := time.Now()
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.log.Debug("gateway", "duration", time.Since(started).Round(time.Millisecond), "error", err)
		return nil, err
	}
	t.log.Debug("gateway", "status", response.StatusCode, "request_id", response.Header.Get("X-Amzn-Requestid"), "duration", time.Since(started).Round(time.Millisecond))
	if response.StatusCode >= 400 {
		t.refused.Store(&refusal{response.StatusCode, response.Header.Get("Retry-After")})
	} else {
		t.refused.Store(nil)
	}
	return response, nil
}

// problem sorts an error of the MCP SDK by the status behind it.
func (t *gatewayTransport) problem(ctx context.Context, what string, err error) error {
	var network *net.OpError
	refused := t.refused.Load()
	switch {
	case ctx.Err() != nil:
		return stopped()
	case refused != nil && refused.status == http.StatusUnauthorized:
		return &IdentityError{Problem{What: what + ": it does not accept your sign-in's token", Cause: err, Hint: hintFreshToken}}
	case refused != nil && refused.status == http.StatusForbidden:
		return &IdentityError{Problem{What: what + ": your sign-in's token may not do this", Cause: err, Hint: "The gateway acts for users only. Is the token one of a person, with a sub?"}}
	case refused != nil && refused.status == http.StatusNotFound:
		return &GatewayError{Problem{What: "the gateway is not found", Cause: err, Hint: hintNoGateway}}
	case errors.As(err, &network):
		return &GatewayError{Problem{What: what, Cause: network, Hint: hintUnreachable}}
	}
	return &GatewayError{Problem{What: what, Cause: err, Hint: hintNoGateway}}
}
