package servertest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// From within a session, set up by nothing but its environment: AWS's SDK signs with
// the session's credentials and fetches a key with the caller's workload token, and the
// official MCP client uses a gateway with the token that the caller brought.
func TestOfficialClientsWithinASession(t *testing.T) {
	p := servertest.Start(t)
	authorizer := &control.AuthorizerConfigurationMemberCustomJWTAuthorizer{Value: control.CustomJWTAuthorizerConfiguration{
		DiscoveryUrl: aws.String(p.DemoURL() + "/.well-known/openid-configuration"), AllowedAudience: []string{demoidp.SignInClientID},
	}}
	gateway, err := p.Control.CreateGateway(t.Context(), &bedrockagentcorecontrol.CreateGatewayInput{
		Name: aws.String("within"), RoleArn: aws.String("arn:aws:iam::" + server.DefaultAccount + ":role/onbehalf-default"),
		ProtocolType: control.GatewayProtocolTypeMcp, AuthorizerType: control.AuthorizerTypeCustomJwt, AuthorizerConfiguration: authorizer,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Control.CreateApiKeyCredentialProvider(t.Context(), &bedrockagentcorecontrol.CreateApiKeyCredentialProviderInput{
		Name: aws.String("models"), ApiKey: aws.String("the-key-of-the-test"),
	}); err != nil {
		t.Fatal(err)
	}
	h := host(t, p, "insider", build(t, "./insider"), func(in *bedrockagentcorecontrol.CreateAgentRuntimeInput) {
		in.AuthorizerConfiguration = authorizer
		in.RequestHeaderConfiguration = &control.RequestHeaderConfigurationMemberRequestHeaderAllowlist{Value: []string{"Authorization"}}
	})
	order, err := json.Marshal(map[string]string{"Provider": "models", "Gateway": *gateway.GatewayId})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL()+"/runtimes/"+url.QueryEscape(h.arn)+"/invocations", strings.NewReader(string(order)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.UserToken(t, demoidp.Ada))
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%d %s %v", response.StatusCode, body, err)
	}
	var out struct{ Key, Gateway string }
	if err := json.Unmarshal(body, &out); err != nil || out.Key != "the-key-of-the-test" || out.Gateway == "" {
		t.Errorf("%s %v", body, err)
	}
}
