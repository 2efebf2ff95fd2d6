package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/smithy-go"
)

const (
	googlePeople = "https://people.googleapis.com"
	targetName   = "google"
	toolName     = targetName + "___get_profile"

	// ourMark is the description of the gateways that this example made, and may therefore change and delete.
	ourMark = "Made by the sayhello example"

	// readyTime bounds the wait for what AWS makes after it has answered.
	readyTime = 5 * time.Minute
)

var (
	googleScopes = []string{"openid", "profile"}
	// Google answers with a refresh token only to these parameters.
	googleParameters = map[string]string{"access_type": "offline", "prompt": "consent"}
	mcpVersions      = []string{"2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"}
)

// ProfileSource is where the name comes from: Google, or the demo provider in its place.
type ProfileSource struct {
	Title        string // for people
	PeopleURL    string
	DiscoveryURL string // empty: Google's own, by its vendor preset
	ClientID     string
	ClientSecret string
	// Register tells the provider the platform's callback URL and returns the
	// client it made; nil where a person does that (Google's console).
	Register func(ctx context.Context, callbackURL string) (clientID, clientSecret string, err error)
}

// GatewayOptions is what a gateway needs besides its source.
type GatewayOptions struct {
	Inbound *SignIn // whose tokens open it
	RoleARN string  // AWS runs it under this role; elsewhere any will do
}

// Gateway is what CreateGateway made or found, as far as it came.
type Gateway struct {
	ARN, URL     string
	ProviderName string
	ProviderARN  string
	CallbackURL  string // the platform's, to be registered at the provider
	// Ours, ProviderOurs: there may be one now that this example made.
	Ours, ProviderOurs bool
}

// CreateGateway makes the three things that stand between the agent and the
// profile: the credential provider (client id and secret of source), the gateway
// (people's tokens from the inbound sign-in open it), and its target, whose
// consents end at callbackURL. What an earlier run kept is found and brought up
// to date. The gateway is never nil: where there is an error, it says what may
// have been made.
func (p *Platform) CreateGateway(ctx context.Context, name string, source *ProfileSource, callbackURL string, o GatewayOptions) (*Gateway, error) {
	g := &Gateway{ProviderName: source.providerName(name)}
	if err := p.ensureProvider(ctx, g, source); err != nil {
		return g, err
	}
	id, err := p.findGateway(ctx, name)
	if err != nil {
		return g, err
	}
	if id, err = p.ensureGateway(ctx, g, id, name, o); err != nil {
		return g, err
	}
	if err := p.waitForGateway(ctx, id, g); err != nil {
		return g, err
	}
	return g, p.ensureTarget(ctx, id, g, source, callbackURL)
}

// ensureGateway makes the gateway, or brings the found one up to date.
func (p *Platform) ensureGateway(ctx context.Context, g *Gateway, id, name string, o GatewayOptions) (string, error) {
	mark := ourMark
	authorizer := &types.AuthorizerConfigurationMemberCustomJWTAuthorizer{Value: types.CustomJWTAuthorizerConfiguration{
		DiscoveryUrl: &o.Inbound.DiscoveryURL, AllowedAudience: []string{o.Inbound.ClientID},
	}}
	protocol := &types.GatewayProtocolConfigurationMemberMcp{Value: types.MCPGatewayConfiguration{SupportedVersions: mcpVersions}}
	if id == "" {
		making, done := toItsEnd(ctx)
		defer done()
		made, err := p.Control.CreateGateway(making, &bedrockagentcorecontrol.CreateGatewayInput{
			Name: &name, Description: &mark, RoleArn: &o.RoleARN, ProtocolType: types.GatewayProtocolTypeMcp, ProtocolConfiguration: protocol,
			AuthorizerType: types.AuthorizerTypeCustomJwt, AuthorizerConfiguration: authorizer,
		})
		g.Ours = err == nil || mayExist(err)
		if err != nil {
			return "", fromAWS(err, gatewayProblem, "the gateway cannot be created", "Is the role that GATEWAY_ROLE_ARN names one that AgentCore may assume? aws bedrock-agentcore-control list-gateways shows what there is.")
		}
		g.ARN = value(made.GatewayArn)
		return value(made.GatewayId), nil
	}
	found, err := p.Control.GetGateway(ctx, &bedrockagentcorecontrol.GetGatewayInput{GatewayIdentifier: &id})
	switch {
	case err != nil:
		return "", fromAWS(err, gatewayProblem, "the gateway is not found", hintNoGateway)
	case value(found.Description) != ourMark:
		return "", notOurs("gateway", name)
	}
	g.Ours, g.ARN = true, value(found.GatewayArn)
	_, err = p.Control.UpdateGateway(ctx, &bedrockagentcorecontrol.UpdateGatewayInput{
		GatewayIdentifier: &id, Name: &name, Description: &mark, RoleArn: &o.RoleARN, ProtocolType: types.GatewayProtocolTypeMcp, ProtocolConfiguration: protocol,
		AuthorizerType: types.AuthorizerTypeCustomJwt, AuthorizerConfiguration: authorizer,
	})
	return id, fromAWS(err, gatewayProblem, "the gateway of an earlier run cannot be updated", hintNoGateway)
}

func (p *Platform) findGateway(ctx context.Context, name string) (id string, err error) {
	pages := bedrockagentcorecontrol.NewListGatewaysPaginator(p.Control, &bedrockagentcorecontrol.ListGatewaysInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", fromAWS(err, gatewayProblem, "the gateways cannot be listed", hintNoGateway)
		}
		for _, item := range page.Items {
			if value(item.Name) == name {
				return value(item.GatewayId), nil
			}
		}
	}
	return "", nil
}

// waitForGateway waits until the gateway is READY (at once here, some seconds at AWS) and fills in its ARN and URL.
func (p *Platform) waitForGateway(ctx context.Context, id string, g *Gateway) error {
	return untilReady(ctx, "the gateway", func(ctx context.Context) (bool, error) {
		got, err := p.Control.GetGateway(ctx, &bedrockagentcorecontrol.GetGatewayInput{GatewayIdentifier: &id})
		if err != nil {
			return false, fromAWS(err, gatewayProblem, "the gateway is not found", hintNoGateway)
		}
		g.ARN, g.URL = value(got.GatewayArn), value(got.GatewayUrl)
		switch got.Status {
		case types.GatewayStatusFailed, types.GatewayStatusUpdateUnsuccessful:
			return false, &GatewayError{Problem{What: "the gateway failed: " + strings.Join(got.StatusReasons, "; "), Hint: hintNoGateway}}
		}
		return got.Status == types.GatewayStatusReady, nil
	})
}

// untilReady asks every two seconds, for at most five minutes.
func untilReady(ctx context.Context, what string, ready func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		if done, err := ready(ctx); err != nil || done {
			return err
		}
		if err := pause(ctx, 2*time.Second); errors.Is(err, context.DeadlineExceeded) {
			return &GatewayError{Problem{What: what + " is not ready after " + minutes(readyTime), Cause: errTimedOut, Hint: hintNoGateway}}
		} else if err != nil {
			return stopped()
		}
	}
}

// DeleteGateway removes a gateway, named by its ARN, and its targets first. One that is gone already is fine.
func (p *Platform) DeleteGateway(ctx context.Context, arn string) error {
	id := arn[strings.LastIndex(arn, "/")+1:]
	const hint = "aws bedrock-agentcore-control list-gateway-targets and delete-gateway-target, then delete-gateway, finish by hand."
	targets, err := p.targetsOf(ctx, id)
	if isNotFound(err) {
		return nil
	} else if err != nil {
		return fromAWS(err, gatewayProblem, "the gateway's targets cannot be listed", hint)
	}
	for _, target := range targets {
		if _, err := p.Control.DeleteGatewayTarget(ctx, &bedrockagentcorecontrol.DeleteGatewayTargetInput{GatewayIdentifier: &id, TargetId: target.TargetId}); err != nil && !isNotFound(err) {
			return fromAWS(err, gatewayProblem, "the gateway's target cannot be deleted", hint)
		}
	}
	// AWS removes targets after it has answered: the gateway goes once they are gone.
	for {
		_, err := p.Control.DeleteGateway(ctx, &bedrockagentcorecontrol.DeleteGatewayInput{GatewayIdentifier: &id})
		var api smithy.APIError
		switch {
		case err == nil || isNotFound(err):
			return nil
		case errors.As(err, &api) && (api.ErrorCode() == "ConflictException" || api.ErrorCode() == "ValidationException") && pause(ctx, time.Second) == nil:
			continue
		}
		return fromAWS(err, gatewayProblem, "the gateway cannot be deleted", hint)
	}
}

// deleteGatewayNamed removes the gateway of this name, if there is one and it is ours.
func (p *Platform) deleteGatewayNamed(ctx context.Context, name string) error {
	id, err := p.findGateway(ctx, name)
	if err != nil || id == "" {
		return err
	}
	found, err := p.Control.GetGateway(ctx, &bedrockagentcorecontrol.GetGatewayInput{GatewayIdentifier: &id})
	if err != nil || value(found.Description) != ourMark {
		return fromAWS(err, gatewayProblem, "the gateway cannot be looked up", hintNoGateway)
	}
	return p.DeleteGateway(ctx, id)
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// toItsEnd is for a call that makes something: Ctrl-C does not break it off, so
// that what was made is known and can be removed.
func toItsEnd(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
}

// pause waits, or returns early with the context's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
