package broker

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// actionExchange is what an intent calls the trade of a user's token.
const actionExchange = "onbehalf:ExchangeToken"

// ExchangedToken trades the JWT that proved the Caller's User for a token of the
// provider (ON_BEHALF_OF_TOKEN_EXCHANGE): nobody is asked, since the user has
// signed in already. What comes of it is kept for this very JWT and no longer than the JWT lives.
func (b *Broker) ExchangedToken(ctx context.Context, caller principal.Caller, r TokenRequest) (secret.Text, error) {
	if caller.Workload.IsZero() {
		return secret.Text{}, fault.New(fault.Invalid, "A token is given to a workload identity, and the caller has none.")
	}
	if caller.User.Issuer == "" {
		return secret.Text{}, fault.New(fault.Invalid, "ON_BEHALF_OF_TOKEN_EXCHANGE trades the user's sign-in token, and the workload access token was made without one. Get it with GetWorkloadAccessTokenForJWT.")
	}
	expiry := expiryOf(caller.UserToken)
	if !b.db.Now().Before(expiry) { // one that was too large to travel has been swept by now: the same answer
		return secret.Text{}, fault.New(fault.Unauthenticated, "The user's sign-in token has expired. Let the user sign in again, and get a new workload access token with GetWorkloadAccessTokenForJWT.")
	}
	q, err := newQuestion(caller, r)
	if err != nil {
		return secret.Text{}, err
	}
	return b.obtain(ctx, caller, r, q, obtaining{
		kind: kindExchanged, action: actionExchange, subject: subjectOf(caller), user: caller.User, until: expiry,
		check: func(p *Provider) error {
			if p.OnBehalfOf == nil && presetOf(p).GrantType == "" {
				return fault.New(fault.Invalid, "The credential provider %s has no onBehalfOfTokenExchangeConfig, and its vendor has none by itself.", p.Name)
			}
			return nil
		},
		send: func(ctx context.Context, p *Provider, s oauth.Server) (oauth.Token, error) {
			return b.trade(ctx, caller, p, s, q)
		},
	})
}

// kindExchanged is what traded tokens are called in lookups and records.
const kindExchanged = "on-behalf-of"

// subjectOf tells tokens that were traded for one sign-in token from those for another.
func subjectOf(caller principal.Caller) []byte {
	sum := sha256.Sum256([]byte(caller.UserToken.Reveal()))
	return sum[:]
}

// presetOf is the trade that a vendor does without being configured for it.
func presetOf(p *Provider) oauth.OnBehalfOf {
	row, _ := oauth.VendorOf(p.Vendor)
	return row.OnBehalfOf
}

// trade asks in the way that the provider is configured for.
func (b *Broker) trade(ctx context.Context, caller principal.Caller, p *Provider, s oauth.Server, q question) (oauth.Token, error) {
	grantType, actor := presetOf(p).GrantType, api.ActorTokenContentTypeNone
	var actorScopes []string
	if c := p.OnBehalfOf; c != nil {
		grantType = oauth.GrantTokenExchange
		if c.GrantType == api.OnBehalfOfTokenExchangeGrantTypeTypeJwtAuthorizationGrant {
			grantType = oauth.GrantJWTBearer
		}
		if c.TokenExchangeGrantTypeConfig != nil {
			actor, actorScopes = c.TokenExchangeGrantTypeConfig.ActorTokenContent, c.TokenExchangeGrantTypeConfig.ActorTokenScopes
		}
		if c.OnBehalfOfAuthenticationConfig != nil { // NO_CLIENT is its only value
			s.AuthMethod, s.ClientID, s.ClientSecret = oauth.AuthOmitted, "", secret.Text{}
		}
	}
	if grantType == oauth.GrantJWTBearer {
		return b.oauth.JWTBearer(ctx, s, caller.UserToken, q.scopes, q.key.Resources, q.key.Audiences, q.parameters)
	}
	x := oauth.TokenExchange{Subject: caller.UserToken, Scopes: q.scopes, Resources: q.key.Resources, Audiences: q.key.Audiences, Parameters: q.parameters}
	if actor == api.ActorTokenContentTypeM2m {
		var err error
		if x.Actor, err = b.ClientToken(ctx, caller, TokenRequest{ProviderARN: p.ARN, Scopes: actorScopes}); err != nil {
			return oauth.Token{}, err
		}
		x.ActorType = oauth.TypeAccessToken
	}
	return b.oauth.ExchangeToken(ctx, s, x)
}

// expiryOf reads the end of a JWT that has been verified when it came in; the
// zero time, which is over, where there is none.
func expiryOf(token secret.Text) time.Time {
	parts := strings.Split(token.Reveal(), ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Expiry float64 `json:"exp"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil || claims.Expiry <= 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(math.Min(claims.Expiry, 1e11) * 1e6)).UTC()
}

// checkOnBehalfOf says what cannot be done of a configuration.
func checkOnBehalfOf(c *api.OnBehalfOfTokenExchangeConfigType) error {
	const member = memberCustom + ".onBehalfOfTokenExchangeConfig.tokenExchangeGrantTypeConfig"
	exchange := c.TokenExchangeGrantTypeConfig
	switch {
	case exchange == nil:
		return nil
	case c.GrantType != api.OnBehalfOfTokenExchangeGrantTypeTypeTokenExchange:
		return fault.InvalidField(member, "tokenExchangeGrantTypeConfig belongs to the grantType TOKEN_EXCHANGE.")
	case exchange.ActorTokenContent == api.ActorTokenContentTypeAwsIamIdTokenJwt:
		return notBuilt("actorTokenContent AWS_IAM_ID_TOKEN_JWT", "Use M2M or NONE.")
	case len(exchange.ActorTokenScopes) > 0 && exchange.ActorTokenContent != api.ActorTokenContentTypeM2m:
		return fault.InvalidField(member+".actorTokenScopes", "actorTokenScopes belong to the actorTokenContent M2M.")
	}
	return nil
}

// needsNoClient reports whether a provider serves trades that name no client, and nothing else.
func needsNoClient(c *api.OnBehalfOfTokenExchangeConfigType) bool {
	return c != nil && c.OnBehalfOfAuthenticationConfig != nil &&
		(c.TokenExchangeGrantTypeConfig == nil || c.TokenExchangeGrantTypeConfig.ActorTokenContent != api.ActorTokenContentTypeM2m)
}
