package main

import (
	"context"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	datatypes "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/smithy-go"
	"github.com/coreos/go-oidc/v3/oidc"
)

// Platform is AgentCore as this program sees it, ours or Amazon's: the two
// official clients. Nothing else in the example knows which one it talks to.
type Platform struct {
	Control *bedrockagentcorecontrol.Client
	Data    *bedrockagentcore.Client
	Region  string
}

// CreateWorkloadIdentity makes the agent's own identity, or finds the one of an
// earlier run, with callbackURL as the one place where consents may end.
func (p *Platform) CreateWorkloadIdentity(ctx context.Context, name, callbackURL string) (arn string, err error) {
	urls := []string{callbackURL}
	found, err := p.Control.GetWorkloadIdentity(ctx, &bedrockagentcorecontrol.GetWorkloadIdentityInput{Name: &name})
	switch {
	case err == nil && slices.Equal(found.AllowedResourceOauth2ReturnUrls, urls):
		return *found.WorkloadIdentityArn, nil
	case err == nil:
		updated, err := p.Control.UpdateWorkloadIdentity(ctx, &bedrockagentcorecontrol.UpdateWorkloadIdentityInput{Name: &name, AllowedResourceOauth2ReturnUrls: urls})
		if err != nil {
			return "", fromAWS(err, identityProblem, "the workload identity "+name+" cannot be updated", "aws bedrock-agentcore-control get-workload-identity --name "+name+" shows it.")
		}
		return *updated.WorkloadIdentityArn, nil
	case !isNotFound(err):
		return "", fromAWS(err, identityProblem, "the workload identity "+name+" cannot be looked up", "")
	}
	making, done := toItsEnd(ctx)
	defer done()
	made, err := p.Control.CreateWorkloadIdentity(making, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: &name, AllowedResourceOauth2ReturnUrls: urls})
	if err != nil {
		return "", fromAWS(err, identityProblem, "the workload identity "+name+" cannot be created", "aws bedrock-agentcore-control list-workload-identities shows what there is.")
	}
	return *made.WorkloadIdentityArn, nil
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
func (p *Platform) SeesGrantOf(ctx context.Context, workload, provider, returnURL, userToken, customState string) (bool, error) {
	const what = "the agent's own view of the grant cannot be read"
	token, err := p.Data.GetWorkloadAccessTokenForJWT(ctx, &bedrockagentcore.GetWorkloadAccessTokenForJWTInput{WorkloadName: &workload, UserToken: &userToken})
	if err != nil {
		return false, fromAWS(err, identityProblem, what, "Is the issuer of your sign-in trusted by the platform (--trusted-issuer)?")
	}
	answer, err := p.Data.GetResourceOauth2Token(ctx, &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken:          token.WorkloadAccessToken,
		ResourceCredentialProviderName: &provider,
		Oauth2Flow:                     datatypes.Oauth2FlowTypeUserFederation,
		Scopes:                         googleScopes,
		ResourceOauth2ReturnUrl:        &returnURL,
		CustomState:                    &customState,
	})
	if err != nil {
		return false, fromAWS(err, identityProblem, what, "")
	}
	return answer.AccessToken != nil, nil
}

// SignIn is the provider at which people sign in to this application.
type SignIn struct {
	Provider     *oidc.Provider
	Issuer       string
	ClientID     string
	ClientSecret string // empty for a public client
}

// UserTokenIdentifierOf verifies an ID token (signature, issuer, audience,
// expiry) and returns the person's subject in it.
func (s *SignIn) UserTokenIdentifierOf(ctx context.Context, idToken string) (string, error) {
	if idToken == "" {
		return "", &IdentityError{Problem{What: "there is no user token", Hint: hintNoIdentifier}}
	}
	verified, err := s.Provider.Verifier(&oidc.Config{ClientID: s.ClientID}).Verify(ctx, idToken)
	if err != nil {
		var expired *oidc.TokenExpiredError
		if errors.As(err, &expired) {
			return "", &IdentityError{Problem{What: "the user token has expired", Hint: "Sign in again, or set USER_TOKEN to a fresh ID token."}}
		}
		return "", &IdentityError{Problem{What: "the user token is not valid", Cause: err, Hint: "It must be an ID token of " + s.Issuer + " for client " + s.ClientID + "."}}
	}
	if verified.Subject == "" {
		return "", &IdentityError{Problem{What: "the user token names nobody", Hint: hintNoIdentifier}}
	}
	return verified.Subject, nil
}

func isNotFound(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == "ResourceNotFoundException"
}
