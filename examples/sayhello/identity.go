package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	datatypes "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Platform is AgentCore as this program sees it, ours or Amazon's: the two
// official clients. Nothing else in the example knows which one it talks to.
type Platform struct {
	Control *bedrockagentcorecontrol.Client
	Data    *bedrockagentcore.Client
	Region  string
	Log     *slog.Logger
}

// CreateWorkloadIdentity makes the agent's own identity, or finds the one of an
// earlier run, with callbackURL as the one place where consents may end. One
// that is not this example's is left alone. ours says whether there may be one
// now that is to be cleaned up, also where there is an error.
func (p *Platform) CreateWorkloadIdentity(ctx context.Context, name, callbackURL string) (arn string, ours bool, err error) {
	const listThem = "aws bedrock-agentcore-control list-workload-identities shows what there is."
	urls := []string{callbackURL}
	found, err := p.Control.GetWorkloadIdentity(ctx, &bedrockagentcorecontrol.GetWorkloadIdentityInput{Name: &name})
	switch {
	case isNotFound(err):
	case err != nil:
		return "", false, fromAWS(err, identityProblem, "the workload identity "+name+" cannot be looked up", listThem)
	case slices.ContainsFunc(found.AllowedResourceOauth2ReturnUrls, func(u string) bool { return !strings.HasSuffix(u, pathCallback) }):
		return "", false, notOurs("workload identity", name)
	case slices.Equal(found.AllowedResourceOauth2ReturnUrls, urls):
		return value(found.WorkloadIdentityArn), true, nil
	default:
		updated, err := p.Control.UpdateWorkloadIdentity(ctx, &bedrockagentcorecontrol.UpdateWorkloadIdentityInput{Name: &name, AllowedResourceOauth2ReturnUrls: urls})
		if err != nil {
			return "", true, fromAWS(err, identityProblem, "the workload identity "+name+" cannot be updated", "aws bedrock-agentcore-control get-workload-identity --name "+name+" shows it.")
		}
		return value(updated.WorkloadIdentityArn), true, nil
	}
	making, done := toItsEnd(ctx)
	defer done()
	made, err := p.Control.CreateWorkloadIdentity(making, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: &name, AllowedResourceOauth2ReturnUrls: urls})
	if err != nil {
		return "", mayExist(err), fromAWS(err, identityProblem, "the workload identity "+name+" cannot be created", listThem)
	}
	return value(made.WorkloadIdentityArn), true, nil
}

// notOurs is for what has the example's name and is somebody else's.
func notOurs(kind, name string) error {
	return &ConfigurationError{Problem{What: fmt.Sprintf("there is a %s named %s that this example did not make", kind, name), Hint: "Choose another name with --name; what is there stays as it is."}}
}

// DeleteWorkloadIdentity removes it, with all that it was granted. One that is gone already is fine.
func (p *Platform) DeleteWorkloadIdentity(ctx context.Context, name string) error {
	_, err := p.Control.DeleteWorkloadIdentity(ctx, &bedrockagentcorecontrol.DeleteWorkloadIdentityInput{Name: &name})
	if err != nil && !isNotFound(err) {
		return fromAWS(err, identityProblem, "the workload identity "+name+" cannot be deleted", "aws bedrock-agentcore-control delete-workload-identity --name "+name)
	}
	return nil
}

// SeesGrantOf reports whether the named workload identity gets the user's token
// from the provider. The grant was given to the gateway, so it must not: one
// agent's consent is no other agent's.
func (p *Platform) SeesGrantOf(ctx context.Context, workload, provider, returnURL, userToken string) (bool, error) {
	const what = "the agent's own view of the grant cannot be read"
	const hint = "Is the issuer of your sign-in trusted by the platform (--trusted-issuer)?"
	token, err := p.Data.GetWorkloadAccessTokenForJWT(ctx, &bedrockagentcore.GetWorkloadAccessTokenForJWTInput{WorkloadName: &workload, UserToken: &userToken})
	if err != nil {
		return false, fromAWS(err, identityProblem, what, hint)
	}
	answer, err := p.Data.GetResourceOauth2Token(ctx, &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken:          token.WorkloadAccessToken,
		ResourceCredentialProviderName: &provider,
		Oauth2Flow:                     datatypes.Oauth2FlowTypeUserFederation,
		Scopes:                         googleScopes,
		ResourceOauth2ReturnUrl:        &returnURL,
	})
	if err != nil {
		return false, fromAWS(err, identityProblem, what, hint)
	}
	return answer.AccessToken != nil, nil
}

// SignIn is the provider at which people sign in to this application.
type SignIn struct {
	Provider     *oidc.Provider
	Issuer       string
	DiscoveryURL string
	ClientID     string
	ClientSecret string // empty for a public client
}

var signInClient = &http.Client{Timeout: 15 * time.Second}

// NewSignIn reads the provider's discovery document. Some issuers end in a slash
// that their document's URL does not show.
func NewSignIn(ctx context.Context, discoveryURL, clientID, clientSecret string) (*SignIn, error) {
	ctx = oidc.ClientContext(ctx, signInClient)
	issuer := strings.TrimSuffix(discoveryURL, discoveryPath)
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil && ctx.Err() == nil {
		if slashed, again := oidc.NewProvider(ctx, issuer+"/"); again == nil {
			provider, issuer, err = slashed, issuer+"/", nil
		}
	}
	if ctx.Err() != nil {
		return nil, stopped()
	}
	if err != nil {
		return nil, &ConfigurationError{Problem{What: "the sign-in provider does not answer as an OpenID provider", Cause: err, Hint: "INBOUND_DISCOVERY_URL ends in " + discoveryPath + " and can be opened in a browser."}}
	}
	return &SignIn{Provider: provider, Issuer: issuer, DiscoveryURL: discoveryURL, ClientID: clientID, ClientSecret: clientSecret}, nil
}

// UserTokenIdentifierOf verifies an ID token (signature, issuer, audience,
// expiry) and returns the person's subject in it.
func (s *SignIn) UserTokenIdentifierOf(ctx context.Context, idToken string) (string, error) {
	verified, err := s.verify(ctx, idToken)
	if err != nil {
		return "", err
	}
	return verified.Subject, nil
}

func (s *SignIn) verify(ctx context.Context, idToken string) (*oidc.IDToken, error) {
	if idToken == "" {
		return nil, &IdentityError{Problem{What: "there is no user token", Hint: hintNoIdentifier}}
	}
	verified, err := s.Provider.Verifier(&oidc.Config{ClientID: s.ClientID}).Verify(oidc.ClientContext(ctx, signInClient), idToken)
	var expired *oidc.TokenExpiredError
	switch {
	case errors.As(err, &expired):
		return nil, &IdentityError{Problem{What: "the user token has expired", Hint: hintFreshToken}}
	case err != nil:
		return nil, &IdentityError{Problem{What: "the user token is not valid", Cause: err, Hint: "It must be an ID token of " + s.Issuer + " for client " + s.ClientID + "."}}
	case verified.Subject == "":
		return nil, &IdentityError{Problem{What: "the user token names nobody", Hint: hintNoIdentifier}}
	}
	return verified, nil
}

func (s *SignIn) config(redirectURL string) *oauth2.Config {
	endpoint := s.Provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams // never try twice: a code is good for one request
	var offered struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	_ = s.Provider.Claims(&offered) // without it, the default of OAuth holds
	if s.ClientSecret != "" && (len(offered.Methods) == 0 || slices.Contains(offered.Methods, "client_secret_basic")) {
		endpoint.AuthStyle = oauth2.AuthStyleInHeader
	}
	return &oauth2.Config{ClientID: s.ClientID, ClientSecret: s.ClientSecret, Endpoint: endpoint, RedirectURL: redirectURL, Scopes: []string{oidc.ScopeOpenID, "profile"}}
}

// redeem exchanges the code for an ID token and verifies that it answers this sign-in.
func (s *SignIn) redeem(ctx context.Context, redirectURL, code string, p *pendingSignIn) (*signedInPerson, error) {
	ctx = oidc.ClientContext(ctx, signInClient)
	token, err := s.config(redirectURL).Exchange(ctx, code, oauth2.VerifierOption(p.verifier))
	if err != nil {
		return nil, err
	}
	raw, _ := token.Extra("id_token").(string)
	verified, err := s.verify(ctx, raw)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(verified.Nonce), []byte(p.nonce)) != 1 {
		return nil, &IdentityError{Problem{What: "the ID token answers another sign-in", Hint: hintAgain}}
	}
	var claims struct {
		Name  string `json:"name"`
		Email string `json:"email"`
	}
	if err := verified.Claims(&claims); err != nil {
		return nil, err
	}
	until := verified.Expiry
	if limit := time.Now().Add(time.Hour); until.After(limit) {
		until = limit
	}
	return &signedInPerson{subject: verified.Subject, name: or(or(claims.Name, claims.Email), verified.Subject), idToken: raw, until: until}, nil
}
