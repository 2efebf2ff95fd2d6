package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	data "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/smithy-go"

	"github.com/onbehalf/onbehalf/client"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

const callbackURL = "http://localhost:9090/oauth2/callback"

// office is a real platform on which ada has granted an agent two of her accounts.
type office struct {
	*servertest.Platform
	own   *client.Client
	token string // the agent's, for ada
}

func openOffice(t *testing.T) *office {
	t.Helper()
	o := &office{Platform: servertest.Start(t)}
	o.own = client.New(o.AWS)
	if _, err := o.Control.CreateWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: aws.String("greeter"), AllowedResourceOauth2ReturnUrls: []string{callbackURL}}); err != nil {
		t.Fatal(err)
	}
	app := demoidp.Client{ID: "platform", Secret: "secret-of-the-platform"}
	made, err := o.Control.CreateOauth2CredentialProvider(t.Context(), &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: aws.String("people"), CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2,
		Oauth2ProviderConfigInput: &control.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig{Value: control.CustomOauth2ProviderConfigInput{
			OauthDiscovery: &control.Oauth2DiscoveryMemberDiscoveryUrl{Value: o.Demo().DiscoveryURL()}, ClientId: &app.ID, ClientSecret: &app.Secret,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	app.RedirectURIs = []string{*made.CallbackUrl}
	if err := o.Demo().Register(app); err != nil {
		t.Fatal(err)
	}
	jwt := o.UserToken(t, demoidp.Ada)
	out, err := o.Data.GetWorkloadAccessTokenForJWT(t.Context(), &bedrockagentcore.GetWorkloadAccessTokenForJWTInput{WorkloadName: aws.String("greeter"), UserToken: &jwt})
	if err != nil {
		t.Fatal(err)
	}
	o.token = *out.WorkloadAccessToken
	o.consent(t, jwt, "")
	o.consent(t, jwt, "work")
	return o
}

// ask is GetResourceOauth2Token, for one of ada's accounts at the provider.
func (o *office) ask(t *testing.T, account string) *bedrockagentcore.GetResourceOauth2TokenOutput {
	t.Helper()
	request := &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken: &o.token, ResourceCredentialProviderName: aws.String("people"), Scopes: []string{"openid", "profile"},
		Oauth2Flow: data.Oauth2FlowTypeUserFederation, ResourceOauth2ReturnUrl: aws.String(callbackURL), CustomParameters: map[string]string{"access_type": "offline"},
	}
	if account != "" {
		request.CustomParameters["onbehalf_account"] = account
	}
	out, err := o.Data.GetResourceOauth2Token(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (o *office) consent(t *testing.T, jwt, account string) {
	t.Helper()
	out := o.ask(t, account)
	if out.AuthorizationUrl == nil {
		t.Fatal("no link")
	}
	arrival, err := servertest.NewPerson(o.DemoURL(), demoidp.Ada).Visit(t.Context(), *out.AuthorizationUrl, "allow")
	if err != nil {
		t.Fatal(err)
	}
	page, err := url.Parse(arrival)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Data.CompleteResourceTokenAuth(t.Context(), &bedrockagentcore.CompleteResourceTokenAuthInput{
		SessionUri: aws.String(page.Query().Get("session_id")), UserIdentifier: &data.UserIdentifierMemberUserToken{Value: jwt},
	}); err != nil {
		t.Fatal(err)
	}
}

func (o *office) all(t *testing.T, input *client.ListGrantsInput) (grants []client.Grant) {
	t.Helper()
	for pages := client.NewListGrantsPaginator(o.own, input); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		grants = append(grants, page.Grants...)
	}
	return grants
}

// An operator asks who holds what, and takes it back: one account, and then all.
func TestOperatorsSeeAndRevoke(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	unnamed, work := *o.ask(t, "").AccessToken, *o.ask(t, "work").AccessToken
	if unnamed == work {
		t.Fatal("two accounts have one token")
	}
	grants := o.all(t, &client.ListGrantsInput{WorkloadName: aws.String("greeter"), MaxResults: aws.Int32(1)})
	if len(grants) != 2 || grants[0].AccountLabel != nil || aws.ToString(grants[1].AccountLabel) != "work" {
		t.Fatalf("%d grants: %+v", len(grants), grants)
	}
	g := grants[1]
	if aws.ToString(g.ProviderName) != "people" || aws.ToString(g.WorkloadName) != "greeter" || g.State != client.GrantStateActive || !aws.ToBool(g.Refreshable) ||
		!slices.Equal(g.RequestedScopes, []string{"openid", "profile"}) || time.Since(*g.CreatedAt) > time.Minute || time.Until(*g.ExpiresAt) <= 0 || aws.ToString(g.User.Subject) == "" {
		t.Errorf("the grant is %+v", g)
	}
	one, err := o.own.GetGrant(t.Context(), &client.GetGrantInput{GrantId: g.GrantId})
	if err != nil || aws.ToString(one.Grant.GrantId) != *g.GrantId {
		t.Errorf("%+v, %v", one, err)
	}
	state := func(account *string, scopes ...string) *client.GetResourceTokenStateOutput {
		t.Helper()
		out, err := o.own.GetResourceTokenState(t.Context(), &client.GetResourceTokenStateInput{WorkloadIdentityToken: &o.token, ProviderName: aws.String("people"), Oauth2Flow: client.Oauth2FlowTypeUserFederation, Scopes: scopes, AccountLabel: account})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := state(aws.String("work"), "profile"); got.State != client.ResourceTokenStateActive || got.ExpiresAt == nil || !slices.Contains(got.GrantedScopes, "profile") {
		t.Errorf("the state is %+v", got)
	}
	if got := state(nil, []string{}...); got.State != client.ResourceTokenStateActive {
		t.Errorf("of no scope at all: %+v", got)
	}
	revoked, err := o.own.RevokeGrant(t.Context(), &client.RevokeGrantInput{GrantId: g.GrantId})
	if err != nil || revoked.ProviderRevocation != client.ProviderRevocationRevoked {
		t.Errorf("%+v, %v", revoked, err)
	}
	if got := state(aws.String("work"), "profile"); got.State != client.ResourceTokenStateNone {
		t.Errorf("afterwards: %+v", got)
	}
	if out := o.ask(t, "work"); out.AuthorizationUrl == nil {
		t.Error("the agent still gets a token of the account")
	}
	if status := o.userinfo(t, work); status != http.StatusUnauthorized {
		t.Errorf("the provider still takes the token: %d", status)
	}
	if status := o.userinfo(t, unnamed); status != http.StatusOK {
		t.Errorf("the other account's token is gone as well: %d", status)
	}
	all, err := o.own.RevokeUserGrants(t.Context(), &client.RevokeUserGrantsInput{User: g.User})
	if err != nil || len(all.RevokedGrants) != 1 || aws.ToBool(all.Remaining) || all.RevokedGrants[0].ProviderRevocation != client.ProviderRevocationRevoked {
		t.Errorf("%+v, %v", all, err)
	}
	if left := o.all(t, &client.ListGrantsInput{}); len(left) != 0 {
		t.Errorf("%d grants are left", len(left))
	}
}

func (o *office) userinfo(t *testing.T, token string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, o.DemoURL()+"/userinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// Errors are what the AWS SDK's callers expect of errors.
func TestErrorsAreTyped(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	own := client.New(p.AWS)
	_, err := own.GetGrant(t.Context(), &client.GetGrantInput{GrantId: aws.String("NOBODYS")})
	var missing *client.ResourceNotFoundException
	var api smithy.APIError
	var operation *smithy.OperationError
	var response interface{ HTTPStatusCode() int }
	var request interface{ ServiceRequestID() string }
	switch {
	case !errors.As(err, &missing) || !strings.Contains(missing.ErrorMessage(), "NOBODYS"):
		t.Errorf("got %v", err)
	case !errors.As(err, &api) || api.ErrorCode() != "ResourceNotFoundException" || api.ErrorFault() != smithy.FaultClient:
		t.Errorf("got %v", err)
	case !errors.As(err, &operation) || operation.Operation() != "GetGrant" || operation.Service() != client.ServiceID:
		t.Errorf("got %v", err)
	case !errors.As(err, &response) || response.HTTPStatusCode() != http.StatusNotFound || !errors.As(err, &request) || len(request.ServiceRequestID()) != 36:
		t.Errorf("got %v", err)
	}
	_, err = own.ListGrants(t.Context(), &client.ListGrantsInput{MaxResults: aws.Int32(1000), State: "LOST"})
	var invalid *client.ValidationException
	if !errors.As(err, &invalid) || invalid.Reason != client.ValidationExceptionReasonFieldValidationFailed || len(invalid.FieldList) != 2 {
		t.Errorf("got %v", err)
	}
	stranger := p.AWS
	stranger.Credentials = credentials.NewStaticCredentialsProvider("AKIAUNKNOWNUNKNOWN00", "secret", "")
	_, err = client.New(stranger).ListGrants(t.Context(), nil)
	if !errors.As(err, &api) || api.ErrorCode() != "UnrecognizedClientException" {
		t.Errorf("got %v", err)
	}
	if _, err := client.New(p.AWS, func(o *client.Options) { o.BaseEndpoint = "" }).ListGrants(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "AWS_ENDPOINT_URL_ONBEHALF") {
		t.Errorf("without an endpoint: %v", err)
	}
}

// A platform that fails is asked again, as the SDK does it; one that is no
// platform gives a clear error; a wrong clock is corrected.
func TestRetriesAndStrangeAnswers(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	answer := func(w http.ResponseWriter, r *http.Request) {}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1); answer(w, r) }))
	t.Cleanup(server.Close)
	own := client.New(aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(server.URL + "/behind/a/proxy/"), Credentials: credentials.NewStaticCredentialsProvider("AKIA", "secret", "token")})
	list := func() error { _, err := own.ListGrants(t.Context(), nil); return err }

	answer = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/behind/a/proxy/onbehalf/ListGrants" || r.Method != http.MethodPost || r.URL.RawQuery != "" ||
			!strings.Contains(r.Header.Get("Authorization"), "/us-east-1/bedrock-agentcore/aws4_request") || r.Header.Get("X-Amz-Security-Token") != "token" {
			t.Errorf("%s %s with %s", r.Method, r.URL, r.Header.Get("Authorization"))
		}
		if asked.Load() == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(`{"grants":[]}`))
	}
	if err := list(); err != nil || asked.Load() != 2 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
	asked.Store(0)
	answer = func(w http.ResponseWriter, r *http.Request) {
		signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		theirs := time.Now().Add(3 * time.Hour)
		w.Header().Set("Date", theirs.UTC().Format(http.TimeFormat))
		if err != nil || signed.Sub(theirs).Abs() > time.Minute {
			w.Header().Set("X-Amzn-Errortype", "InvalidSignatureException")
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = w.Write([]byte(`{"grants":[]}`))
	}
	if err := list(); err != nil || asked.Load() != 2 {
		t.Errorf("asked %d times with a wrong clock: %v", asked.Load(), err)
	}
	if err := list(); err != nil || asked.Load() != 3 {
		t.Errorf("what was learnt of the clock is forgotten: asked %d times, %v", asked.Load(), err)
	}
	for name, body := range map[string]string{"HTTP418": "<html>", "SomeError": `{"__type":"SomeError","message":"no"}`} {
		answer = func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			_, _ = w.Write([]byte(body))
		}
		var api smithy.APIError
		if err := list(); !errors.As(err, &api) || api.ErrorCode() != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	answer = func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(`<html>`)) }
	var garbled *smithy.DeserializationError
	if err := list(); !errors.As(err, &garbled) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := own.ListGrants(ctx, nil); err == nil {
		t.Error("a cancelled call went through")
	}
}

// The endpoint comes from where the SDK's own clients take theirs.
func TestEndpointVariables(t *testing.T) {
	for _, test := range []struct {
		variables map[string]string
		base      string
		want      string
	}{
		{map[string]string{"AWS_ENDPOINT_URL_ONBEHALF": "OWN", "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": "http://127.0.0.1:1"}, "", "own variable"},
		{map[string]string{"AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": "OWN"}, "", "the data plane's variable"},
		{map[string]string{"AWS_ENDPOINT_URL": "OWN"}, "", "the general variable"},
		{map[string]string{"AWS_ENDPOINT_URL_ONBEHALF": "http://127.0.0.1:1"}, "OWN", "what the program says"},
	} {
		t.Run(test.want, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"grants":[]}`)) }))
			defer server.Close()
			t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
			for name, value := range test.variables {
				t.Setenv(name, strings.ReplaceAll(value, "OWN", server.URL))
			}
			options := []func(*config.LoadOptions) error{config.WithRegion("us-east-1"), config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("AKIA", "secret", ""))}
			if test.base != "" {
				options = append(options, config.WithBaseEndpoint(strings.ReplaceAll(test.base, "OWN", server.URL)))
			}
			cfg, err := config.LoadDefaultConfig(t.Context(), options...)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.New(cfg).ListGrants(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
}
