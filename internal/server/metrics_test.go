package server_test

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	data "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/goccy/go-yaml"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// consentStory takes Ada from the first question to a token, and returns it.
func consentStory(t *testing.T, p *servertest.Platform, decision string) (token string) {
	t.Helper()
	ctx := t.Context()
	const back = "https://app.example.com/done"
	if _, err := p.Control.CreateWorkloadIdentity(ctx, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: aws.String("canary-workload"), AllowedResourceOauth2ReturnUrls: []string{back}}); err != nil {
		t.Fatal(err)
	}
	made, err := p.Control.CreateOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: aws.String("canary-provider"), CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2,
		Oauth2ProviderConfigInput: &control.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig{Value: control.CustomOauth2ProviderConfigInput{
			OauthDiscovery: &control.Oauth2DiscoveryMemberDiscoveryUrl{Value: p.DemoURL() + "/.well-known/openid-configuration"},
			ClientId:       aws.String("canary-client"), ClientSecret: aws.String("canary-secret"),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Demo().Register(demoidp.Client{ID: "canary-client", Secret: "canary-secret", RedirectURIs: []string{*made.CallbackUrl}}); err != nil {
		t.Fatal(err)
	}
	ada := p.UserToken(t, demoidp.Ada)
	workload, err := p.Data.GetWorkloadAccessTokenForJWT(ctx, &bedrockagentcore.GetWorkloadAccessTokenForJWTInput{WorkloadName: aws.String("canary-workload"), UserToken: &ada})
	if err != nil {
		t.Fatal(err)
	}
	ask := &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken: workload.WorkloadAccessToken, ResourceCredentialProviderName: aws.String("canary-provider"), Scopes: []string{"openid"},
		Oauth2Flow: data.Oauth2FlowTypeUserFederation, ResourceOauth2ReturnUrl: aws.String(back),
	}
	asked, err := p.Data.GetResourceOauth2Token(ctx, ask)
	if err != nil {
		t.Fatal(err)
	}
	arrival, err := servertest.NewPerson(p.DemoURL(), demoidp.Ada).Visit(ctx, *asked.AuthorizationUrl, decision)
	if err != nil {
		t.Fatal(err)
	}
	if decision != "allow" {
		return ""
	}
	u, err := url.Parse(arrival)
	if err != nil {
		t.Fatal(err)
	}
	session := u.Query().Get("session_id")
	if _, err := p.Data.CompleteResourceTokenAuth(ctx, &bedrockagentcore.CompleteResourceTokenAuthInput{SessionUri: &session, UserIdentifier: &data.UserIdentifierMemberUserToken{Value: ada}}); err != nil {
		t.Fatal(err)
	}
	got, err := p.Data.GetResourceOauth2Token(ctx, ask)
	if err != nil || got.AccessToken == nil {
		t.Fatalf("no token after consent: %v", err)
	}
	return *got.AccessToken
}

func read(t *testing.T, url, host string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// What happened is counted, nobody is named, and the alert rules speak of metrics that there are.
func TestMetrics(t *testing.T) {
	p := servertest.Start(t, func(c *server.Config) { c.MetricsAddr = "127.0.0.1:0" })
	token := consentStory(t, p, "allow")
	response, err := http.Post(p.URL()+"/identities/oauth2/token", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	status, text := read(t, p.MetricsURL(), "")
	if status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	for _, line := range []string{
		`onbehalf_acts_total{action="bedrock-agentcore:CompleteResourceTokenAuth",decision="allow",outcome="ok"} 1`,
		`onbehalf_tokens_total{flow="USER_FEDERATION",outcome="consent"} 1`,
		`onbehalf_tokens_total{flow="USER_FEDERATION",outcome="issued"} 1`,
		`onbehalf_tokens_total{flow="WORKLOAD",outcome="issued"} 1`,
		`onbehalf_consents_total{outcome="asked"} 1`,
		`onbehalf_consents_total{outcome="allowed"} 1`,
		`onbehalf_consents_total{outcome="completed"} 1`,
		`onbehalf_provider_requests_total{kind="authorization_code",outcome="ok",vendor="CustomOauth2"} 1`,
		`onbehalf_authentication_failures_total{door="signature",kind="missing-signature"}`,
		`onbehalf_grants_needing_consent 0`,
		`onbehalf_database_connections_open{direction="write"} 1`,
		`onbehalf_audit_commit_failures_total 0`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("missing: %s", line)
		}
	}
	said := aNumber.ReplaceAllString(text, "") // a sum of seconds may well have twelve zeros in it
	for _, secret := range []string{token, "canary", demoidp.Ada, "000000000000", "app.example.com", p.URL()} {
		if strings.Contains(said, secret) {
			t.Errorf("metrics name %q", secret)
		}
	}
	rulesSpeakOf(t, text)

	if status, _ := read(t, p.MetricsURL(), "evil.example.com"); status != http.StatusMisdirectedRequest {
		t.Errorf("a page under a name of its own is answered with %d", status)
	}
	if status, body := read(t, p.URL()+"/metrics", ""); status != http.StatusNotFound || strings.Contains(body, "onbehalf_") {
		t.Errorf("the public listener answers /metrics with %d", status)
	}
	if _, err := p.Control.CreateOauth2CredentialProvider(t.Context(), &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: aws.String("inward"), CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2,
		Oauth2ProviderConfigInput: &control.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig{Value: control.CustomOauth2ProviderConfigInput{
			OauthDiscovery: &control.Oauth2DiscoveryMemberDiscoveryUrl{Value: p.MetricsURL() + "/.well-known/openid-configuration"},
			ClientId:       aws.String("id"), ClientSecret: aws.String("secret"),
		}},
	}); err == nil {
		t.Error("a provider may have the address of the metrics")
	}
}

var aNumber = regexp.MustCompile(`(?m) [-+.0-9eE]+$`)

func TestMetricsAreOffByDefault(t *testing.T) {
	p := servertest.Start(t)
	if got := p.MetricsURL(); got != "" {
		t.Errorf("metrics on %s", got)
	}
}

var metricName = regexp.MustCompile(`\bonbehalf_[a-z_]+`)

// rulesSpeakOf checks that each metric of the alert rules is on the page.
func rulesSpeakOf(t *testing.T, page string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/alerts/onbehalf.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	rules := 0
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			rules++
			if rule.Alert == "" || rule.Expr == "" || rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" {
				t.Errorf("the rule %+v lacks a part", rule)
			}
			for _, name := range metricName.FindAllString(rule.Expr, -1) {
				if !strings.Contains(page, "# TYPE "+name+" ") && !strings.Contains(page, "# TYPE "+strings.TrimSuffix(name, "_bucket")+" histogram") {
					t.Errorf("%s: there is no metric %s", rule.Alert, name)
				}
			}
		}
	}
	if rules < 5 {
		t.Errorf("%d rules", rules)
	}
}
