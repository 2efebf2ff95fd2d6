package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	datatypes "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

const returnURL = "http://localhost:9090/oauth2/callback"

// stage is a platform process with a provider beside it, set up through the official clients.
type stage struct {
	dir         string
	database    string   // URL of PostgreSQL; empty is SQLite
	allow       []string // addresses that egress may reach
	platform    *child
	provider    *demoidp.Provider
	http        *httptest.Server
	credentials aws.Credentials
	control     *bedrockagentcorecontrol.Client
	data        *bedrockagentcore.Client
	userToken   string
	providerARN string
}

// newStage starts the platform; allow names further addresses that its egress may reach.
func newStage(ctx context.Context, allow ...string) (*stage, error) {
	return newStageOn(ctx, "", allow...)
}

// newStageOn is newStage on a database of one's own.
func newStageOn(ctx context.Context, database string, allow ...string) (*stage, error) {
	dir, err := os.MkdirTemp("", "onbehalf-bench-")
	if err != nil {
		return nil, err
	}
	s := &stage{dir: dir, database: database, http: httptest.NewUnstartedServer(nil)}
	if s.provider, err = demoidp.New(demoidp.Options{Address: s.http.Listener.Addr(), TokenLifetime: 2 * time.Hour}); err != nil {
		return nil, err
	}
	s.http.Config.Handler = s.provider
	s.http.Start()
	s.allow = append(allow, s.http.Listener.Addr().String())
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	loaded, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"), config.WithBaseEndpoint(s.platform.url),
		config.WithSharedCredentialsFiles([]string{filepath.Join(dir, "data", "credentials")}), config.WithSharedConfigFiles(nil), config.WithSharedConfigProfile("onbehalf"))
	if err != nil {
		return nil, err
	}
	if s.credentials, err = loaded.Credentials.Retrieve(ctx); err != nil {
		return nil, err
	}
	s.control, s.data = bedrockagentcorecontrol.NewFromConfig(loaded), bedrockagentcore.NewFromConfig(loaded)
	tokens, err := s.provider.Issue(demoidp.Ada, demoidp.SignInClientID, "openid", "profile")
	if err != nil {
		return nil, err
	}
	s.userToken = tokens.ID
	return s, s.makeProvider(ctx)
}

// start starts the platform on the stage's folder; again on the same address.
func (s *stage) start(ctx context.Context) (err error) {
	s.platform, err = startChild(ctx, "child-platform", "-data", filepath.Join(s.dir, "data"), "-database", s.database, "-profile", filepath.Join(s.dir, "cpu.pprof"),
		"-trust", s.http.URL+"="+demoidp.SignInClientID, "-allow", strings.Join(s.allow, ","))
	return err
}

func (s *stage) close() {
	s.platform.stop()
	s.http.Close()
	_ = os.RemoveAll(s.dir)
}

func (s *stage) makeProvider(ctx context.Context) error {
	const clientSecret = "bench-client-secret"
	made, err := s.control.CreateOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: aws.String("bench"), CredentialProviderVendor: types.CredentialProviderVendorTypeCustomOauth2,
		Oauth2ProviderConfigInput: &types.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig{Value: types.CustomOauth2ProviderConfigInput{
			ClientId: aws.String("bench"), ClientSecret: aws.String(clientSecret),
			OauthDiscovery: &types.Oauth2DiscoveryMemberDiscoveryUrl{Value: s.provider.DiscoveryURL()},
		}},
	})
	if err != nil {
		return err
	}
	s.providerARN = *made.CredentialProviderArn
	return s.provider.Register(demoidp.Client{ID: "bench", Secret: clientSecret, RedirectURIs: []string{*made.CallbackUrl}})
}

// consent plays Ada and completes her session, so that a grant is stored.
func (s *stage) consent(ctx context.Context, link string) error {
	arrival, err := servertest.NewPerson(s.http.URL, demoidp.Ada).Visit(ctx, link, "allow")
	if err != nil {
		return err
	}
	u, err := url.Parse(arrival)
	if err != nil {
		return err
	}
	session := u.Query().Get("session_id")
	_, err = s.data.CompleteResourceTokenAuth(ctx, &bedrockagentcore.CompleteResourceTokenAuthInput{
		SessionUri: &session, UserIdentifier: &datatypes.UserIdentifierMemberUserToken{Value: s.userToken},
	})
	return err
}

// signed is a request to path, signed anew with the official signer for whichever side it goes to.
func (s *stage) signed(ctx context.Context, base, path string, body []byte) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	sum := sha256.Sum256(body)
	return r, signer.SignHTTP(ctx, s.credentials, r, hex.EncodeToString(sum[:]), "bedrock-agentcore", "us-east-1", time.Now())
}

var signer = v4.NewSigner()

// tool makes a gateway with one tool on the target and returns the gateway's URL.
func (s *stage) tool(ctx context.Context, targetURL string) (string, error) {
	name, role := "bench", "arn:aws:iam::000000000000:role/onbehalf-default"
	made, err := s.control.CreateGateway(ctx, &bedrockagentcorecontrol.CreateGatewayInput{
		Name: &name, RoleArn: &role, ProtocolType: types.GatewayProtocolTypeMcp, AuthorizerType: types.AuthorizerTypeCustomJwt,
		AuthorizerConfiguration: &types.AuthorizerConfigurationMemberCustomJWTAuthorizer{Value: types.CustomJWTAuthorizerConfiguration{
			DiscoveryUrl: aws.String(s.provider.DiscoveryURL()), AllowedAudience: []string{demoidp.SignInClientID},
		}},
	})
	if err != nil {
		return "", err
	}
	document, err := json.Marshal(map[string]any{
		"openapi": "3.0.3", "info": map[string]any{"title": "bench", "version": "1"},
		"servers": []any{map[string]any{"url": targetURL}},
		"paths": map[string]any{"/v1/people/me": map[string]any{"get": map[string]any{
			"operationId": "get_profile",
			"parameters":  []any{map[string]any{"name": "personFields", "in": "query", "required": true, "schema": map[string]any{"type": "string"}}},
			"responses":   map[string]any{"200": map[string]any{"description": "ok", "content": map[string]any{"application/json": map[string]any{}}}},
		}}},
	})
	if err != nil {
		return "", err
	}
	_, err = s.control.CreateGatewayTarget(ctx, &bedrockagentcorecontrol.CreateGatewayTargetInput{
		GatewayIdentifier: made.GatewayId, Name: &name,
		TargetConfiguration: &types.TargetConfigurationMemberMcp{Value: &types.McpTargetConfigurationMemberOpenApiSchema{
			Value: &types.ApiSchemaConfigurationMemberInlinePayload{Value: string(document)},
		}},
		CredentialProviderConfigurations: []types.CredentialProviderConfiguration{{
			CredentialProviderType: types.CredentialProviderTypeOauth,
			CredentialProvider: &types.CredentialProviderMemberOauthCredentialProvider{Value: types.OAuthCredentialProvider{
				ProviderArn: &s.providerARN, Scopes: []string{"openid", "profile"}, GrantType: types.OAuthGrantTypeAuthorizationCode, DefaultReturnUrl: aws.String(returnURL),
			}},
		}},
	})
	if err != nil {
		return "", err
	}
	return *made.GatewayUrl, nil
}

var errNoLink = fmt.Errorf("no consent link where one was expected")
