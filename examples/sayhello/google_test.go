package main

import (
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/google/go-cmp/cmp"

	platform "github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// Google cannot be reached from a test. What can be seen without it: what the
// platform is told, what the person is told, and where the link would lead.
var googleEnv = map[string]string{"GOOGLE_CLIENT_ID": "123-abc.apps.googleusercontent.com", "GOOGLE_CLIENT_SECRET": "GOCSPX-a-secret-of-the-test"}

func TestGoogleKeepsWhatIsRegistered(t *testing.T) {
	t.Parallel()
	s, err := read(t, "", googleEnv)
	if err != nil {
		t.Fatal(err)
	}
	c := embeddedConfig(s, s.Data, nil)
	if s.Addr != "127.0.0.1:7080" || s.Data != ".sayhello" || s.AutoConsent || c.Addr != "127.0.0.1:7080" || filepath.Base(c.Data) != ".sayhello" || !filepath.IsAbs(c.Data) {
		t.Errorf("%+v, %+v", s, c)
	}
	s, err = read(t, "", googleEnv, "--addr", "127.0.0.1:7090", "--data", "elsewhere")
	if err != nil || s.Addr != "127.0.0.1:7090" || s.Data != "elsewhere" {
		t.Errorf("%+v, %v", s, err)
	}
	kept, err := read(t, "", nil, "--keep")
	if err != nil || kept.Data != ".sayhello" || kept.Addr != "" {
		t.Errorf("%+v, %v", kept, err)
	}
	demo, err := read(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c := embeddedConfig(demo, "x", nil); c.Addr != "127.0.0.1:0" || c.DemoAddr != "127.0.0.1:0" || !c.Dev || c.TrustedIssuers != nil || c.EgressAllow != nil {
		t.Errorf("%+v", c)
	}
	c = embeddedConfig(demo, "x", &SignIn{Issuer: "https://login.example.com/tenant", ClientID: "app"})
	if diff := cmp.Diff([]string{"https://login.example.com/tenant=app"}, c.TrustedIssuers); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"login.example.com:443"}, c.EgressAllow); diff != "" {
		t.Error(diff)
	}
}

// The provider is Google's by preset, is found again with its callback URL, and
// gets a new secret; the target asks for what Google gives refresh tokens to.
func TestGoogleProviderAndTarget(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	g := newConsentRig(t, p, CallbackOptions{})
	source := &ProfileSource{Title: "Google", PeopleURL: googlePeople, ClientID: googleEnv["GOOGLE_CLIENT_ID"], ClientSecret: "the first"}
	create := func() *Gateway {
		t.Helper()
		made, err := g.mine.CreateGateway(t.Context(), "hello", source, g.callback.CallbackURL(), GatewayOptions{Inbound: g.signIn, RoleARN: testRole})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	made := create()
	if made.ProviderName != "hello-google" || !strings.HasPrefix(made.CallbackURL, p.URL()+"/identities/oauth2/callback/") {
		t.Errorf("%+v", made)
	}
	found, err := p.Control.GetOauth2CredentialProvider(t.Context(), &bedrockagentcorecontrol.GetOauth2CredentialProviderInput{Name: &made.ProviderName})
	if err != nil {
		t.Fatal(err)
	}
	config, ok := found.Oauth2ProviderConfigOutput.(*types.Oauth2ProviderConfigOutputMemberGoogleOauth2ProviderConfig)
	if !ok || found.CredentialProviderVendor != types.CredentialProviderVendorTypeGoogleOauth2 || *config.Value.ClientId != source.ClientID {
		t.Errorf("the provider is a %s, %+v", found.CredentialProviderVendor, found.Oauth2ProviderConfigOutput)
	}

	targets, err := g.mine.targetsOf(t.Context(), made.ARN[strings.LastIndex(made.ARN, "/")+1:])
	if err != nil || len(targets) != 1 || *targets[0].Name != "google" {
		t.Fatalf("%v, %v", targets, err)
	}
	target, err := p.Control.GetGatewayTarget(t.Context(), &bedrockagentcorecontrol.GetGatewayTargetInput{GatewayIdentifier: aws.String(made.ARN[strings.LastIndex(made.ARN, "/")+1:]), TargetId: targets[0].TargetId})
	if err != nil {
		t.Fatal(err)
	}
	oauth := target.CredentialProviderConfigurations[0].CredentialProvider.(*types.CredentialProviderMemberOauthCredentialProvider).Value
	if diff := cmp.Diff(map[string]string{"access_type": "offline", "prompt": "consent"}, oauth.CustomParameters); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"openid", "profile"}, oauth.Scopes); diff != "" {
		t.Error(diff)
	}
	if oauth.GrantType != types.OAuthGrantTypeAuthorizationCode || *oauth.DefaultReturnUrl != g.callback.CallbackURL() || *oauth.ProviderArn != made.ProviderARN {
		t.Errorf("the target gets its token by %+v", oauth)
	}
	document := target.TargetConfiguration.(*types.TargetConfigurationMemberMcp).Value.(*types.McpTargetConfigurationMemberOpenApiSchema).Value.(*types.ApiSchemaConfigurationMemberInlinePayload).Value
	if !strings.Contains(document, `"url": "https://people.googleapis.com"`) || !strings.Contains(document, `"/v1/people/me"`) {
		t.Errorf("the document is %s", document)
	}
	gateway, err := p.Control.GetGateway(t.Context(), &bedrockagentcorecontrol.GetGatewayInput{GatewayIdentifier: aws.String(made.ARN[strings.LastIndex(made.ARN, "/")+1:])})
	if err != nil {
		t.Fatal(err)
	}
	authorizer := gateway.AuthorizerConfiguration.(*types.AuthorizerConfigurationMemberCustomJWTAuthorizer).Value
	if gateway.AuthorizerType != types.AuthorizerTypeCustomJwt || *authorizer.DiscoveryUrl != p.DemoURL()+discoveryPath || !cmp.Equal(authorizer.AllowedAudience, []string{demoSignInName}) {
		t.Errorf("it is opened by %+v", authorizer)
	}
	if versions := gateway.ProtocolConfiguration.(*types.GatewayProtocolConfigurationMemberMcp).Value.SupportedVersions; !cmp.Equal(versions, mcpVersions) {
		t.Errorf("it speaks %v", versions)
	}

	before := found.LastUpdatedTime
	source.ClientSecret = "the second"
	again := create()
	if *again != *made {
		t.Errorf("the second time: %+v instead of %+v", again, made)
	}
	if found, err = p.Control.GetOauth2CredentialProvider(t.Context(), &bedrockagentcorecontrol.GetOauth2CredentialProviderInput{Name: &made.ProviderName}); err != nil || !found.LastUpdatedTime.After(*before) {
		t.Errorf("the provider has not got the new secret: %v", err)
	}
	// And from scratch: what is registered at Google still fits.
	if err := g.mine.DeleteGateway(t.Context(), made.ARN); err != nil {
		t.Fatal(err)
	}
	if err := g.mine.DeleteProvider(t.Context(), made.ProviderName); err != nil {
		t.Fatal(err)
	}
	if anew := create(); anew.CallbackURL != made.CallbackURL {
		t.Errorf("the callback URL was %s and is %s", made.CallbackURL, anew.CallbackURL)
	}
}

// The redirect URI is printed and Enter is waited for, until it was pressed once.
func TestGoogleFirstRun(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	args := []string{"--addr", "127.0.0.1:0", "--data", data}
	marked := func() bool {
		_, err := os.Stat(filepath.Join(data, "redirect-uris-shown"))
		return err == nil
	}
	const asks = `\n      Register this redirect URI at Google, character by character:\n        (http://127\.0\.0\.1:\d+/identities/oauth2/callback/[0-9a-f-]+)\n`

	unattended := situation{env: googleEnv}.play(t, args...) // nobody is there to press Enter
	uri := unattended.await(asks)
	unattended.link()
	unattended.interrupt()
	unattended.fails(exitCancelled, "stopped", "")
	if marked() {
		t.Fatal("it is remembered as shown, and nobody has seen it")
	}

	left := situation{env: googleEnv, terminal: true}.play(t, args...)
	left.await("Then press Enter")
	left.interrupt()
	left.fails(exitCancelled, "stopped", "")
	if marked() {
		t.Fatal("it is remembered as shown before Enter")
	}
	hungUp := situation{env: googleEnv, terminal: true}.play(t, args...)
	hungUp.await("Then press Enter")
	_ = hungUp.keys.Close()
	hungUp.fails(exitMisuse, "nobody can press Enter", "terminal")

	debug := maps.Clone(googleEnv)
	debug["LOG_LEVEL"] = "DEBUG"
	first := situation{env: debug, terminal: true}.play(t, args...)
	if again := first.await(asks + `      Then press Enter\. `); again != uri {
		t.Errorf("the redirect URI was %s and is %s", uri, again)
	}
	first.press("\n")
	link := first.link()
	checkGoogleLink(t, link, uri)
	if <-first.browsed != link {
		t.Error("another link is opened on the display")
	}
	first.interrupt()
	if code := first.wait(); code != exitCancelled {
		t.Errorf("exit code %d", code)
	}
	if !marked() || !strings.Contains(first.out.String(), "but for the credential provider") {
		t.Error("it is not remembered as shown")
	}

	second := situation{env: googleEnv, terminal: true}.play(t, args...)
	second.link()
	if strings.Contains(second.out.String(), "Register this") {
		t.Error("it asks again")
	}
	second.interrupt()
	second.wait()
	if text := second.out.String() + first.out.String() + first.errOut.String(); strings.Contains(text, googleEnv["GOOGLE_CLIENT_SECRET"]) {
		t.Error("the secret is printed")
	}
	if logs := first.errOut.String(); !strings.Contains(logs, "operation=CreateGateway") && !strings.Contains(logs, "operation=UpdateGateway") || strings.Contains(logs, "request_uri:") {
		t.Error("the log is not one, or says too much")
	}

	// What is registered elsewhere as well is shown once more.
	own := map[string]string{"INBOUND_DISCOVERY_URL": servertest.Start(t).DemoURL() + discoveryPath, "INBOUND_CLIENT_ID": demoSignInName}
	for name, value := range googleEnv {
		own[name] = value
	}
	other := situation{env: own, terminal: true}.play(t, args...)
	other.await(`and this one at your sign-in provider:\n        http://localhost:\d+/oauth2/signin\n      Then press Enter`)
	other.interrupt()
	other.wait()

	// The provider is still there, for the next run.
	s, err := platform.Start(t.Context(), platform.Config{Addr: "127.0.0.1:0", Data: data, LogLevel: "error"}, platform.Logger(platform.Config{LogLevel: "error"}, &screen{}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	b, err := OpenBackend(t.Context(), &Settings{Backend: s.URL(), Region: "us-east-1", AWS: map[string]string{"AWS_SHARED_CREDENTIALS_FILE": s.CredentialsFile(), "AWS_PROFILE": platform.Profile}}, nil, slog.New(slog.DiscardHandler), logWriter{})
	if err != nil {
		t.Fatal(err)
	}
	if kept := inventory(t, b.Control); !cmp.Equal(kept, []string{"provider sayhello-google"}) {
		t.Errorf("kept is %v", kept)
	}
}

// checkGoogleLink follows the link as far as it leads without Google.
func checkGoogleLink(t *testing.T, link, uri string) {
	t.Helper()
	person := servertest.NewPerson("http://no.provider.invalid", "")
	arrival, err := person.Visit(t.Context(), link, "")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(arrival)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	if u.Scheme+"://"+u.Host+u.Path != "https://accounts.google.com/o/oauth2/v2/auth" {
		t.Errorf("it leads to %s://%s%s", u.Scheme, u.Host, u.Path)
	}
	for name, want := range map[string]string{
		"access_type": "offline", "prompt": "consent", "client_id": googleEnv["GOOGLE_CLIENT_ID"], "redirect_uri": uri, "response_type": "code", "code_challenge_method": "S256", "scope": "openid profile",
	} {
		if got := query.Get(name); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
}
