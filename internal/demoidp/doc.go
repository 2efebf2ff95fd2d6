// Package demoidp is a small, honest OpenID provider and a People API: what
// stands in for Google in the demo and in the tests. It is reached over HTTP
// like any other provider, imports nothing of ours, and is no back door.
//
//	browser ── /authorize ── /signin ── /consent ──▶ redirect URI?code&state&iss
//	client  ── /par (what it will ask) ──▶ request_uri for /authorize
//	client  ── /token (code + PKCE, refresh_token, client_credentials) ──▶ tokens
//	anybody ── /v1/people/me, /userinfo with a bearer token ──▶ the person
//
// Invariant: it enforces what it advertises. PKCE S256 is always required, a
// redirect URI matches exactly or not at all, a code works once, a refresh token
// that comes back kills its family, and a token opens only what its scope and
// audience say. The one thing it leaves out is the proof of who the person is:
// anybody may choose to be any of the demo people, and each page says so.
//
// # Playing a person over HTTP
//
// The pages are ordinary HTML forms, so a program with a cookie jar can play the
// person. Cookies must be kept between the steps; redirects to the client may
// have to be stopped at.
//
//	GET  authorization URL
//	       200: the sign-in page, one form, action "/signin"
//	POST /signin    request=<hidden field of the form>  person=ada-lovelace
//	       303: to /consent?request=…, which shows one form, action "/consent"
//	            (for clients with SignIn: straight to the redirect URI)
//	POST /consent   request=<hidden field of the form>  decision=allow
//	       303: to the redirect URI with code, state and iss
//
// "person" takes the ID of a person. "decision" is allow or deny; /signin accepts
// decision=deny too. A browser that is signed in already sees the consent
// page at once, unless the request has prompt=login or prompt=select_account.
package demoidp
