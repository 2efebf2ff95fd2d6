package broker

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// Hosted completion: the return URL is a page of the platform itself, so that an
// application needs none. It learns who sits at the browser by a sign-in at the
// issuer of the user who was asked.
//
//	provider ─▶ Callback (cookie of the attempt) ─▶ /connect/done ─ Connect ─▶ issuer
//	issuer ─▶ /connect/callback/{issuer's id} ─ SignedIn: same person? ─▶ code redeemed ─▶ /connect/done: done
//
// Both pages ask for the attempt's cookie: only the browser that went through the
// provider finishes, and only with the person who was asked.

// Paths of hosted completion, below the public URL.
const (
	ConnectPath  = "/connect/"
	DonePath     = ConnectPath + "done"
	SignedInPath = ConnectPath + "callback/" // and the issuer's id
)

// backParameter names the address that the last page links to. It is part of
// the return URL that the workload has registered, and never read from a request.
const backParameter = "back"

// SignIn is the platform's own client at an issuer.
type SignIn struct {
	Issuer       string // as in the issuer's tokens
	ClientID     string
	ClientSecret secret.Text // empty: a public client
}

// SignInRedirectURL is what an operator registers for the client at the issuer.
// Each issuer has its own, so that an answer of one is not taken for another's.
func SignInRedirectURL(publicURL, issuer string) string {
	return publicURL + SignedInPath + issuerID(issuer)
}

func issuerID(issuer string) string {
	sum := sha256.Sum256([]byte(issuer))
	return hex.EncodeToString(sum[:8])
}

// hosted reports whether a return URL is the platform's own page, and where that
// page links to; an error where it nearly is.
func (b *Broker) hosted(returnURL string) (back string, ours bool, err error) {
	rest, ours := strings.CutPrefix(returnURL, b.options.PublicURL+DonePath)
	if !ours || rest == "" {
		return "", ours, nil
	}
	wrong := fault.InvalidField("resourceOauth2ReturnUrl", "The hosted page is %s, with nothing behind it but ?%s= and the https URL of a page to go back to.", b.options.PublicURL+DonePath, backParameter)
	query, isQuery := strings.CutPrefix(rest, "?")
	values, err := url.ParseQuery(query)
	if !isQuery || err != nil || strings.Contains(query, "#") || len(values) != 1 || len(values[backParameter]) != 1 {
		return "", true, wrong
	}
	back = values.Get(backParameter)
	page, err := url.Parse(back)
	if err != nil || page.Host == "" || page.User != nil || page.Scheme != "https" && !(page.Scheme == "http" && loopback(page.Hostname())) {
		return "", true, wrong
	}
	return back, true, nil
}

// checkHosted refuses, before anybody is asked, a session that could not be
// completed on the hosted page.
func (b *Broker) checkHosted(q question) error {
	_, ours, err := b.hosted(q.returnURL)
	switch {
	case err != nil || !ours:
		return err
	case q.key.User.ID != "":
		return fault.InvalidField("resourceOauth2ReturnUrl", "The return URL %s signs the user in, and a user id is known to your application alone. Get the workload access token with GetWorkloadAccessTokenForJWT, or use a return page of your own.", b.options.PublicURL+DonePath)
	}
	_, err = b.signInAt(q.key.User.Issuer)
	return err
}

func (b *Broker) signInAt(issuer string) (SignIn, error) {
	for _, client := range b.options.SignIns {
		if client.Issuer == issuer {
			return client, nil
		}
	}
	return SignIn{}, fault.InvalidField("resourceOauth2ReturnUrl", "The return URL %s signs the user in at %s, where the platform has no client. An operator can name one with --sign-in.", b.options.PublicURL+DonePath, issuer)
}

// signInServer is the issuer as the protocol sees it.
func (b *Broker) signInServer(client SignIn, metadata oauth.Metadata) oauth.Server {
	server := oauth.Server{Metadata: metadata, ClientID: client.ClientID, ClientSecret: client.ClientSecret, RedirectURL: SignInRedirectURL(b.options.PublicURL, client.Issuer)}
	if client.ClientSecret.Empty() {
		server.AuthMethod = oauth.AuthNone
	}
	return server
}

func signInDiscovery(issuer string) string {
	return strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
}

// connectCookieName is of the cookie that follows the attempt's own from the
// callback to the hosted page. It has the same value.
func connectCookieName(attemptID string) string { return "onbehalf-connect-" + attemptID[:16] }
