package main

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// office is a platform with a demo provider, and an operator at the command line.
type office struct {
	*servertest.Platform
	t *testing.T
}

// says runs a command in this process and returns what it prints and its exit code.
func (o *office) says(args ...string) (out, errOut string, code int) {
	o.t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(append(args, "--data", o.Config.Data), strings.NewReader(""), &stdout, &stderr)
	return stdout.String(), stderr.String(), code
}

// does is says for what must succeed.
func (o *office) does(args ...string) string {
	o.t.Helper()
	out, errOut, code := o.says(args...)
	if code != 0 {
		o.t.Fatalf("onbehalf %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errOut)
	}
	return out
}

// wants checks that every text is in what was printed.
func wants(t *testing.T, printed string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(printed, text) {
			t.Errorf("%q is not in\n%s", text, printed)
		}
	}
}

const returnURL = "http://localhost:9090/oauth2/callback"

// token asks as an agent does. It is a link where the user has not consented.
func (o *office) token(user string) *bedrockagentcore.GetResourceOauth2TokenOutput {
	o.t.Helper()
	workload, err := o.Data.GetWorkloadAccessTokenForUserId(o.t.Context(), &bedrockagentcore.GetWorkloadAccessTokenForUserIdInput{WorkloadName: aws.String("greeter"), UserId: &user})
	if err != nil {
		o.t.Fatal(err)
	}
	answer, err := o.Data.GetResourceOauth2Token(o.t.Context(), &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken: workload.WorkloadAccessToken, ResourceCredentialProviderName: aws.String("people"), Scopes: []string{"openid", "profile"},
		Oauth2Flow: types.Oauth2FlowTypeUserFederation, ResourceOauth2ReturnUrl: aws.String(returnURL),
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return answer
}

func (o *office) consent(user string) {
	o.t.Helper()
	arrival, err := servertest.NewPerson(o.DemoURL(), demoidp.Ada).Visit(o.t.Context(), aws.ToString(o.token(user).AuthorizationUrl), "allow")
	if err != nil {
		o.t.Fatal(err)
	}
	page, err := url.Parse(arrival)
	if err != nil {
		o.t.Fatal(err)
	}
	if _, err := o.Data.CompleteResourceTokenAuth(o.t.Context(), &bedrockagentcore.CompleteResourceTokenAuthInput{
		SessionUri: aws.String(page.Query().Get("session_id")), UserIdentifier: &types.UserIdentifierMemberUserId{Value: user},
	}); err != nil {
		o.t.Fatal(err)
	}
}

// An operator's day: an agent and its provider are made, two people consent, one leaves.
func TestOperatorsDay(t *testing.T) {
	t.Parallel()
	o := &office{servertest.Start(t), t}
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	o.does("workloads", "create", "greeter", "--return-url", returnURL)
	var made struct{ CallbackURL, ClientID string }
	if err := json.Unmarshal([]byte(o.does("providers", "create", "custom", "--name", "people", "--discovery-url", o.Demo().DiscoveryURL(), "--output", "json")), &made); err != nil {
		t.Fatal(err)
	}
	if made.CallbackURL == "" || made.ClientID != "" {
		t.Fatalf("%+v", made)
	}
	app := demoidp.Client{ID: "platform", Secret: "secret-of-the-platform", RedirectURIs: []string{made.CallbackURL}}
	if err := o.Demo().Register(app); err != nil {
		t.Fatal(err)
	}
	wants(t, o.does("providers", "update", "people", "--client-id", app.ID, "--client-secret-file", file("secret", app.Secret+"\n")), "platform", o.Demo().DiscoveryURL())

	const strange = "eve \x1b[2K\n fake ACTIVE"
	wants(t, o.does("grants", "state", "--workload", "greeter", "--user", "ada", "--provider", "people", "--scope", "openid"), "NONE")
	o.consent("ada")
	o.consent(strange)
	wants(t, o.does("grants", "state", "--workload", "greeter", "--user", "ada", "--provider", "people", "--scope", "openid"), "ACTIVE", "Token until:  20", "(in ")
	wants(t, o.does("grants", "state", "--workload", "greeter", "--user", "ada", "--provider", "people", "--scope", "email"), "NEEDS_CONSENT", "email")
	jwt := file("jwt", o.UserToken(t, demoidp.Grace))
	wants(t, o.does("grants", "state", "--workload", "greeter", "--token-file", jwt, "--provider", "people", "--scope", "openid", "--output", "json"), `"state": "NONE"`)

	table := o.does("grants", "list")
	wants(t, table, "GRANT ", "ada  ", `eve \x1b[2K\x0a fake ACTIVE  greeter`, "  ACTIVE  ")
	if lines := strings.Count(table, "\n"); lines != 3 {
		t.Errorf("%d lines:\n%s", lines, table)
	}
	var grants []grant
	list := func(args ...string) []grant {
		t.Helper()
		grants = nil
		if err := json.Unmarshal([]byte(o.does(append([]string{"grants", "list", "--output", "json"}, args...)...)), &grants); err != nil {
			t.Fatal(err)
		}
		return grants
	}
	for _, c := range []struct {
		args []string
		want int
	}{
		{nil, 2}, {[]string{"--limit", "1"}, 1}, {[]string{"--user", "ada"}, 1}, {[]string{"--user", "nobody"}, 0}, {[]string{"--user", "ada", "--issuer", "https://id.example"}, 0},
		{[]string{"--workload", "greeter", "--provider", "people"}, 2}, {[]string{"--state", "needs-consent"}, 0}, {[]string{"--state", "active"}, 2},
	} {
		if got := list(c.args...); len(got) != c.want {
			t.Errorf("%q: %+v", c.args, got)
		}
	}
	g := list("--user", "ada")[0]
	if g.Workload != "greeter" || g.Provider != "people" || g.User.UserID != "ada" || strings.Join(g.RequestedScopes, " ") != "openid profile" || g.Created == nil || g.Expires == nil {
		t.Errorf("%+v", g)
	}
	wants(t, o.does("grants", "show", g.ID), "State:", "ACTIVE", "Asked for:", "openid", "Last used:")

	// The wrong ways.
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"grants", "revoke"}, 2, "--user X --all"},
		{[]string{"grants", "revoke", "--all"}, 2, "--user is missing"},
		{[]string{"grants", "revoke", "--user", "ada"}, 2, "--user X --all"},
		{[]string{"grants", "revoke", g.ID, "--user", "ada", "--all"}, 2, "not both"},
		{[]string{"grants", "revoke", "--user", "ada", "--all"}, 2, "hint: add --yes"},
		{[]string{"grants", "list", "--issuer", "https://id.example"}, 2, "--issuer goes with --user"},
		{[]string{"grants", "list", "--state", "lost"}, 2, "must be one of"},
		{[]string{"grants", "show", "NOSUCHGRANT"}, 1, "hint: onbehalf grants list"},
		{[]string{"grants", "revoke", "NOSUCHGRANT"}, 1, "hint: onbehalf grants list"},
		{[]string{"grants", "state", "--workload", "greeter", "--provider", "people"}, 2, "whose?"},
		{[]string{"grants", "state", "--workload", "nobody", "--user", "a", "--provider", "people"}, 1, "hint: onbehalf workloads list"},
		{[]string{"grants", "state", "--workload", "greeter", "--user", "a", "--provider", "people", "--flow", "on-behalf-of"}, 2, "--token-file"},
		{[]string{"workloads", "revoke-tokens", "greeter"}, 2, "whose tokens?"},
		{[]string{"workloads", "update", "greeter", "--trusted-issuer", "https://id.example"}, 2, "URL=AUD[,AUD]"},
	} {
		out, errOut, code := o.says(c.args...)
		if code != c.code || !strings.Contains(errOut, c.says) || out != "" {
			t.Errorf("%q: exit code %d\n%s%s", c.args, code, out, errOut)
		}
	}
	if len(list()) != 2 {
		t.Errorf("a wrong way took something: %+v", grants)
	}

	// One goes by its id, all of one user's by --all.
	out := o.does("grants", "revoke", g.ID)
	wants(t, out, "REVOKED", g.ID, "greeter", "people", "revoked there, too")
	if o.token("ada").AccessToken != nil {
		t.Error("a revoked grant still gives a token")
	}
	wants(t, o.does("grants", "revoke", "--user", strange, "--all", "--yes", "--output", "json"), `"providerRevocation": "REVOKED"`)
	if o.does("grants", "revoke", "--user", strange, "--all", "--yes", "--output", "json") != "[]\n" || len(list()) != 0 {
		t.Errorf("%+v", grants)
	}

	// Whose sign-in tokens count for a workload identity, and the end of its tokens.
	issuer := o.DemoURL() + "=my-app,another"
	wants(t, o.does("workloads", "show", "greeter"), "those of the operator")
	wants(t, o.does("workloads", "update", "greeter", "--trusted-issuer", issuer), o.DemoURL()+" for my-app, another", returnURL)
	wants(t, o.does("workloads", "show", "greeter", "--output", "json"), `"issuer": "`+o.DemoURL(), `"another"`)
	wants(t, o.does("workloads", "update", "greeter", "--no-trusted-issuers"), "those of the operator", returnURL)
	wants(t, o.does("workloads", "create", "second", "--trusted-issuer", issuer), "my-app, another")
	wants(t, o.does("workloads", "revoke-tokens", "greeter", "--user", "ada"), "ended: tokens made before 20")
	wants(t, o.does("workloads", "revoke-tokens", "greeter", "--no-user", "--output", "json"), `"revokedBefore": "20`)
}
