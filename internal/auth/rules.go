package auth

import (
	"errors"
	"slices"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// ErrInsufficientScope is in the chain of the Denied error for a token that is
// good in every way but lacks a scope: the door answers 403 with
// error="insufficient_scope", and the client can ask for more.
var ErrInsufficientScope = errors.New("insufficient scope")

// admit holds verified claims against the rules. Scopes come last: a client is
// only told to ask for more when more would help.
func (z Authorizer) admit(claims oauth.Claims) error {
	if err := z.Check(); err != nil {
		return fault.New(fault.Unauthenticated, "This authorizer has no rule and takes no token.").Because(err)
	}
	if len(z.Audiences) > 0 && !overlap(z.Audiences, claims.Audience) {
		return mismatch("aud")
	}
	if len(z.Clients) > 0 && !slices.Contains(z.Clients, claims.ClientID) {
		return mismatch("client_id")
	}
	for _, rule := range z.Claims {
		if !rule.holds(claims.Raw) {
			return mismatch(rule.Name)
		}
	}
	if len(z.Scopes) > 0 && !overlap(z.Scopes, claims.Scopes) {
		return fault.New(fault.Denied, "The token lacks a scope that is needed here.").Because(ErrInsufficientScope)
	}
	return nil
}

// mismatch is AWS's text. It names the claim, which the client can read in its
// own token anyway, and never the value that was wanted.
func mismatch(claim string) error {
	return fault.New(fault.Unauthenticated, "Claim '%s' value mismatch with configuration.", claim)
}

func (c ClaimRule) holds(claims map[string]any) bool {
	if c.complaint() != "" {
		return false
	}
	if c.Operator == ClaimEquals {
		text, ok := claims[c.Name].(string)
		return ok && text == c.Value
	}
	list, ok := stringList(claims[c.Name])
	if !ok {
		return false
	}
	if c.Operator == ClaimContains {
		return slices.Contains(list, c.Value)
	}
	return overlap(c.Values, list)
}

// stringList is a claim that is an array of strings and nothing but strings.
func stringList(claim any) ([]string, bool) {
	switch list := claim.(type) {
	case []string:
		return list, true
	case []any:
		texts := make([]string, len(list))
		for i, item := range list {
			text, ok := item.(string)
			if !ok {
				return nil, false
			}
			texts[i] = text
		}
		return texts, true
	}
	return nil, false
}

// user is the person whom a verified token names; zero where it names none. A
// token that a client got for itself often has a subject all the same: the
// client (RFC 9068, section 2.2), or a service account of it. Taken for a
// person, whoever runs the client would be one and could be asked for consent.
func user(claims oauth.Claims) principal.User {
	if claims.Issuer == "" || claims.Subject == "" || claims.Subject == claims.ClientID ||
		claims.Raw["gty"] == "client-credentials" || // Auth0
		claims.Raw["idtyp"] == "app" { // Entra ID
		return principal.User{}
	}
	return principal.User{Issuer: claims.Issuer, Subject: claims.Subject}
}

func overlap(wanted, given []string) bool {
	return slices.ContainsFunc(given, func(s string) bool { return slices.Contains(wanted, s) })
}
