package e2e

import (
	"context"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/onbehalf/onbehalf/internal/demoidp"
)

// An MCP server as an agent: the official client talks to it through the
// platform, as whoever its token is about.
func TestHostedMCPAgent(t *testing.T) {
	t.Parallel()
	idp := startProvider(t)
	h := startHosting(t, idp.flags()...)
	a := h.host("mcp", goAgent(t, "agents/mcp"), speaking(control.ServerProtocolMcp), func(r *createRuntime) {
		r.AuthorizerConfiguration = &control.AuthorizerConfigurationMemberCustomJWTAuthorizer{Value: control.CustomJWTAuthorizerConfiguration{
			DiscoveryUrl: aws.String(idp.DiscoveryURL()), AllowedAudience: []string{demoidp.SignInClientID},
		}}
	})
	issued, err := idp.Issue(demoidp.Ada, demoidp.SignInClientID, "openid")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	session, err := mcp.NewClient(&mcp.Implementation{Name: "story", Version: "1"}, nil).Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: a.url + "/runtimes/" + url.QueryEscape(a.arn) + "/invocations?qualifier=DEFAULT", DisableStandaloneSSE: true,
		HTTPClient: &http.Client{Transport: bearerTransport(issued.ID)},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	tools, err := session.ListTools(ctx, nil)
	if err != nil || len(tools.Tools) != 1 || tools.Tools[0].Name != "weather" {
		t.Fatalf("tools/list: %+v, %v", tools, err)
	}
	answer, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "weather", Arguments: map[string]string{"place": "London"}})
	if err != nil || len(answer.Content) != 1 || answer.Content[0].(*mcp.TextContent).Text != "sunny in London, for somebody" {
		t.Errorf("tools/call: %+v, %v", answer, err)
	}
}

// bearerTransport presents a token with each request.
type bearerTransport string

func (b bearerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}
