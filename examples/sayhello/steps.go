package main

import (
	"context"
	"os"
	"path/filepath"
)

// startCallbackServer is step 2.
func (s *story) startCallbackServer(ctx context.Context) error {
	s.callback = NewOAuth2CallbackServer(s.Region, s.backend.Data, CallbackOptions{
		Port: s.CallbackPort, BaseURL: s.CallbackBaseURL, Certificate: s.CallbackTLS[0], Key: s.CallbackTLS[1], Allow: s.CallbackAllow,
		WithoutSignIn: s.withoutSignIn(), ExactToken: s.Backend == backendAWS, Log: s.log,
	})
	s.callback.UseSignIn(s.signIn)
	return s.callback.Start(ctx)
}

// makeIdentity is step 3. An identity that an earlier run kept is removed as
// well, as its gateway and its provider are, unless it is to be kept.
func (s *story) makeIdentity(ctx context.Context) error {
	_, ours, err := s.backend.CreateWorkloadIdentity(ctx, s.Name, s.callback.CallbackURL())
	s.onCleanUp(ours, "workload identity "+s.Name, func(ctx context.Context) error { return s.backend.DeleteWorkloadIdentity(ctx, s.Name) })
	return err
}

// makeGateway is step 4. Google's provider stays: its callback URL is registered there.
func (s *story) makeGateway(ctx context.Context, source *ProfileSource) (*Gateway, error) {
	gateway, err := s.backend.CreateGateway(ctx, s.Name, source, s.callback.CallbackURL(), GatewayOptions{
		Inbound: s.signIn, RoleARN: or(s.RoleARN, "arn:aws:iam::000000000000:role/onbehalf-default"),
	})
	s.onCleanUp(gateway.ProviderOurs && source.Register != nil, "credential provider "+gateway.ProviderName, func(ctx context.Context) error {
		return s.backend.DeleteProvider(ctx, gateway.ProviderName)
	})
	s.onCleanUp(gateway.Ours, "gateway "+s.Name, func(ctx context.Context) error {
		if gateway.ARN == "" { // the answer that names it never came
			return s.backend.deleteGatewayNamed(ctx, s.Name)
		}
		return s.backend.DeleteGateway(ctx, gateway.ARN)
	})
	return gateway, err
}

// showRedirectURIs tells the person what to register at Google, and waits for
// Enter when there is something in it that was not there the last time. Without
// a terminal nobody can say that it is done, so it will be shown again.
func (s *story) showRedirectURIs(ctx context.Context, source *ProfileSource, gateway *Gateway) error {
	if source.Register != nil {
		return nil
	}
	uris := []string{gateway.CallbackURL}
	if s.Inbound.ClientID != "" && s.UserToken == "" {
		uris = append(uris, s.callback.SignInURL())
	}
	folder := or(s.Data, fixedFolder)
	missing, remember := seen(filepath.Join(folder, "redirect-uris-shown"), uris)
	if len(missing) == 0 {
		return nil
	}
	s.more("Register this redirect URI at %s, character by character:", source.Title)
	s.more("  %s", uris[0])
	if len(uris) > 1 {
		s.more("and this one at your sign-in provider:")
		s.more("  %s", uris[1])
	}
	if !s.Terminal {
		return nil
	}
	pressed := s.keyboard.listen()
	s.begin("Then press Enter. ")
	if err := s.enter(ctx, pressed); err != nil {
		return err
	}
	_ = os.MkdirAll(folder, 0o700)
	if err := remember(); err != nil {
		s.log.Warn("that the redirect URIs were shown cannot be remembered", "error", err)
	}
	return nil
}

// makeAgent is step 5.
func (s *story) makeAgent(ctx context.Context, gateway *Gateway, userToken string) (*Agent, error) {
	agent, err := s.backend.CreateAgent(ctx, gateway.ARN, userToken, s.MCPVersion)
	if err != nil {
		return nil, err
	}
	agent.Timeout = s.Timeout
	agent.Expect = func(session string) *Consent { return s.callback.Expect(session, "") }
	agent.Pausing = func(pause string) { s.more("the provider limits requests: waiting for %s", pause) }
	return agent, nil
}
