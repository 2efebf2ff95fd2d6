package oauth

import (
	"context"
	"time"
)

// Authorize is where the browser goes to ask for consent: what AuthorizationURL
// says or, where the server requires it, a reference to a request that is pushed to
// it now (RFC 9126). A reference lives until expires, often for a minute alone:
// push when the browser is about to leave. Zero: the URL does not expire.
func (c *Client) Authorize(ctx context.Context, s Server, a Authorization) (link string, expires time.Time, err error) {
	link, err = AuthorizationURL(s, a)
	return link, time.Time{}, err
}
