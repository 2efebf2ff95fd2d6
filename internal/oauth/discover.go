package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
)

const (
	metadataLifetime = time.Hour
	metadataStale    = 2 * time.Hour   // the age up to which it is used while the issuer cannot be reached
	failureLifetime  = 5 * time.Second // long enough for a stampede, short enough for a person who has mended it
)

// The documents of OpenID Connect Discovery and of RFC 8414.
var wellKnown = []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"}

// discovered is a cached outcome of one discovery URL.
type discovered struct {
	metadata Metadata
	fetched  time.Time
	err      error
	until    time.Time
	size     int // bytes of the document
}

// Discover fetches what the authorization server behind a discovery URL says of
// itself. The URL ends in one of the well-known names, or has it before the
// issuer's path as RFC 8414 puts it; the issuer in the document must be the one
// that the URL implies (a trailing slash apart), else anybody could publish keys
// for anybody's issuer. Answers are kept for an hour, failures for 5 seconds; an
// answer's lists are shared: read only.
//
// Errors: fault.Invalid for a URL that cannot be one, fault.Upstream for a
// document that is none or names endpoints that egress would refuse,
// fault.Unavailable.
func (c *Client) Discover(ctx context.Context, discoveryURL string) (Metadata, error) {
	if hit, ok := c.metadata.GetIfPresent(discoveryURL); ok && c.now().Before(hit.until) {
		return hit.metadata, unshared(hit.err)
	}
	issuer, err := impliedIssuer(discoveryURL)
	if err != nil {
		return Metadata{}, err
	}
	if err := c.egress.CheckURL(discoveryURL); err != nil {
		return Metadata{}, err
	}
	found, err := c.shared(ctx, "metadata "+discoveryURL, func(ctx context.Context) (any, error) {
		now := c.now()
		hit, ok := c.metadata.GetIfPresent(discoveryURL) // again: another flight may just have landed
		if ok && now.Before(hit.until) {
			return hit, nil
		}
		entry := discovered{fetched: now, until: now.Add(metadataLifetime)}
		body, err := c.fetch(ctx, discoveryURL)
		if err == nil {
			entry.size = len(body)
			entry.metadata, err = c.readMetadata(body, issuer)
		}
		retry := c.now().Add(failureLifetime) // from now on: a provider that hangs takes longer than that to fail
		switch stale := ok && hit.err == nil && now.Sub(hit.fetched) < metadataStale; {
		case err == nil:
		case stale && fault.Is(err, fault.Unavailable):
			entry = hit
			entry.until = retry
		default:
			entry = discovered{err: err, until: retry}
		}
		c.metadata.Set(discoveryURL, entry)
		return entry, nil
	})
	if err != nil {
		return Metadata{}, err
	}
	entry := found.(discovered)
	return entry.metadata, unshared(entry.err)
}

// impliedIssuer turns a discovery URL back into the issuer it stands for, without a trailing slash.
func impliedIssuer(discoveryURL string) (string, error) {
	u, err := url.Parse(discoveryURL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(discoveryURL, "#") {
		return "", fault.New(fault.Invalid, "The discovery URL is not a plain https URL.")
	}
	origin, path := strings.ToLower(u.Scheme+"://"+u.Host), u.EscapedPath()
	for _, document := range wellKnown {
		if issuerPath, ok := strings.CutSuffix(path, document); ok {
			return origin + strings.TrimSuffix(issuerPath, "/"), nil
		}
		if issuerPath, ok := strings.CutPrefix(path, document+"/"); ok {
			return origin + strings.TrimSuffix("/"+issuerPath, "/"), nil
		}
	}
	return "", fault.New(fault.Invalid, "The discovery URL must end in %s or %s.", wellKnown[0], wellKnown[1])
}

func (c *Client) readMetadata(body []byte, issuer string) (Metadata, error) {
	var m Metadata
	if json.Unmarshal(body, &m) != nil {
		return Metadata{}, fault.New(fault.Upstream, "The discovery document of %s is not what RFC 8414 describes.", issuer)
	}
	if strings.TrimSuffix(m.Issuer, "/") != issuer {
		return Metadata{}, fault.New(fault.Upstream, "The discovery document of %s is for another issuer.", issuer)
	}
	for _, endpoint := range []string{m.TokenEndpoint, m.JWKSURI, m.RevocationEndpoint, m.PushedAuthorizationRequestEndpoint} {
		if endpoint == "" {
			continue
		}
		if err := c.egress.CheckURL(endpoint); err != nil {
			return Metadata{}, fault.New(fault.Upstream, "The discovery document of %s names an endpoint that cannot be used. %s", issuer, fault.Of(err).Message)
		}
	}
	if m.AuthorizationEndpoint != "" {
		if u, err := url.Parse(m.AuthorizationEndpoint); err != nil || !forBrowsers(u) {
			return Metadata{}, fault.New(fault.Upstream, "The discovery document of %s has an authorization endpoint that is not an https URL.", issuer)
		}
	}
	return m, nil
}

// shared runs fn once for all who ask for the same key at the same time. It goes
// on when one of them gives up, for the others' sake, but no longer than an
// exchange may take.
func (c *Client) shared(ctx context.Context, key string, fn func(context.Context) (any, error)) (any, error) {
	flight := c.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exchangeTimeout)
		defer cancel()
		return fault.ContainValue("asking a provider", func() (any, error) { return fn(ctx) })
	})
	select {
	case result := <-flight:
		return result.Val, unshared(result.Err)
	case <-ctx.Done():
		return nil, fault.New(fault.Unavailable, "The request was cancelled.").Because(ctx.Err())
	}
}

// fetch GETs a JSON document. What may pass is tried three times in all.
func (c *Client) fetch(ctx context.Context, address string) ([]byte, error) {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = 100 * time.Millisecond
	body, err := backoff.Retry(ctx, func() ([]byte, error) {
		body, err := c.fetchOnce(ctx, address)
		if err != nil && !fault.Is(err, fault.Unavailable) {
			return nil, backoff.Permanent(err)
		}
		return body, err
	}, backoff.WithMaxTries(3), backoff.WithBackOff(pauses))
	var known *fault.Error
	if err != nil && !errors.As(err, &known) { // the context ended during a pause
		return nil, fault.New(fault.Unavailable, "The provider did not answer in time.").Because(err)
	}
	return body, err
}

func (c *Client) fetchOnce(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fault.New(fault.Upstream, "A URL of the provider cannot be read.")
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	req.Header.Set("User-Agent", "onbehalf")
	resp, err := c.egress.Do(req)
	if err != nil {
		return nil, err
	}
	body, err := egress.ReadAll(resp, bodyLimit)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusTooManyRequests: // asking at once again would only make it worse
		limited := fault.New(fault.Throttled, "%s answered with status %d. Try again later.", req.URL.Host, resp.StatusCode)
		limited.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), c.now())
		return nil, limited
	case resp.StatusCode >= 500:
		return nil, fault.New(fault.Unavailable, "%s answered with status %d. Try again later.", req.URL.Host, resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		return nil, fault.New(fault.Upstream, "%s answered with status %d where a JSON document was expected.", req.URL.Host, resp.StatusCode)
	}
	return body, nil
}
