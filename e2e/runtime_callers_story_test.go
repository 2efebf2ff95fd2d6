package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/smithy-go"

	"github.com/onbehalf/onbehalf/internal/demoidp"
)

// raw calls the runtime as a program without an AWS SDK does.
func (a *hosted) raw(t *testing.T, method, below string, header map[string]string, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, a.url+"/runtimes/"+url.QueryEscape(a.arn)+below, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

const (
	sessionHeader = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
	userHeader    = "X-Amzn-Bedrock-AgentCore-Runtime-User-Id"
)

// A runtime with a JWT authorizer: its callers are people, the agent acts for
// whoever the token is about, and nothing else opens it.
func TestRuntimeForBearersOfTokens(t *testing.T) {
	t.Parallel()
	idp := startProvider(t)
	h := startHosting(t, idp.flags()...)
	a := h.host("people", goAgent(t, "agents/hostile"), func(r *createRuntime) {
		r.AuthorizerConfiguration = &control.AuthorizerConfigurationMemberCustomJWTAuthorizer{Value: control.CustomJWTAuthorizerConfiguration{
			DiscoveryUrl: aws.String(idp.DiscoveryURL()), AllowedAudience: []string{demoidp.SignInClientID},
		}}
	})
	if err := idp.Register(demoidp.Client{ID: "somebody-else", Secret: "of somebody else", RedirectURIs: []string{returnURL}}); err != nil {
		t.Fatal(err)
	}
	token := func(person, audience string) string {
		t.Helper()
		issued, err := idp.Issue(person, audience, "openid", "profile")
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + issued.ID
	}
	ada, grace := token(demoidp.Ada, demoidp.SignInClientID), token(demoidp.Grace, demoidp.SignInClientID)
	one := session("adas")

	response, text := a.raw(t, "POST", "/invocations", map[string]string{"Authorization": ada, sessionHeader: one}, `{"do":"take the key"}`)
	if response.StatusCode != 200 || !strings.Contains(text, "a key of") || response.Header.Get(sessionHeader) != one {
		t.Errorf("Ada's call: %d %s, session %q", response.StatusCode, text, response.Header.Get(sessionHeader))
	}
	response, text = a.raw(t, "POST", "/invocations", map[string]string{"Authorization": ada}, `{"do":"count"}`)
	if id := response.Header.Get(sessionHeader); response.StatusCode != 200 || len(id) < 33 {
		t.Errorf("without a session id: %d %s, session %q", response.StatusCode, text, id)
	}
	if response, text := a.raw(t, "POST", "/invocations", map[string]string{"Authorization": grace, sessionHeader: one}, `{"do":"count"}`); response.StatusCode != 403 {
		t.Errorf("Grace in Ada's session: %d %s", response.StatusCode, text)
	}
	if response, text := a.raw(t, "POST", "/invocations", map[string]string{"Authorization": ada, userHeader: "grace"}, `{"do":"count"}`); response.StatusCode/100 != 4 {
		t.Errorf("Ada, who names another user: %d %s", response.StatusCode, text)
	}
	for what, header := range map[string]string{
		"no token": "", "a token for another audience": token(demoidp.Ada, "somebody-else"), "a token that was altered": ada[:len(ada)-6] + "AAAAAA",
	} {
		response, text := a.raw(t, "POST", "/invocations", map[string]string{"Authorization": header}, `{}`)
		if response.StatusCode != 401 {
			t.Errorf("%s: %d %s, want 401", what, response.StatusCode, text)
			continue
		}
		a.checkChallenge(t, what, response.Header.Get("Www-Authenticate"), idp.url)
	}
	said := a.refused(call{session: session("signed"), payload: map[string]any{}}, denied)
	if !strings.Contains(said, "method mismatch") {
		t.Errorf("a signed request is told %q", said)
	}

	signed := h.host("signed", goAgent(t, "agents/hostile"))
	if response, text := signed.raw(t, "POST", "/invocations", map[string]string{"Authorization": ada}, `{}`); response.StatusCode != 403 || response.Header.Get("Www-Authenticate") != "" {
		t.Errorf("a token at a runtime for signed requests: %d %s", response.StatusCode, text)
	}
}

// checkChallenge: the answer names a document, which names who issues tokens.
func (a *hosted) checkChallenge(t *testing.T, what, challenge, issuer string) {
	t.Helper()
	found := regexp.MustCompile(`^Bearer .*resource_metadata="([^"]+)"`).FindStringSubmatch(challenge)
	if found == nil {
		t.Errorf("%s: WWW-Authenticate: %q", what, challenge)
		return
	}
	response, err := http.Get(found[1])
	if err != nil {
		t.Error(err)
		return
	}
	defer response.Body.Close()
	var document struct {
		Resource             string
		AuthorizationServers []string `json:"authorization_servers"`
	}
	if err := json.NewDecoder(response.Body).Decode(&document); err != nil || len(document.AuthorizationServers) != 1 || document.AuthorizationServers[0] != issuer || !strings.Contains(document.Resource, "/invocations") {
		t.Errorf("%s: the resource's metadata: %d %+v, %v", what, response.StatusCode, document, err)
	}
}

// Who may invoke: what the principal's policies say, what the runtime's own says,
// and for a user only who may act for users.
func TestWhoMayInvoke(t *testing.T) {
	t.Parallel()
	h := startHosting(t)
	a := h.host("guarded", goAgent(t, "agents/hostile"))
	eve := h.issue("keys", "create", "--principal", "user/eve")
	_, data := h.as(eve)
	invoke := func(user string) func(context.Context) error {
		return func(context.Context) error {
			_, err := a.try(call{session: session("eve-" + user), user: user, client: data})
			return err
		}
	}
	wantCode(t, "without a policy", denied, invoke(""))
	policy := func(action string) {
		t.Helper()
		h.operate(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":`+action+`,"Resource":"`+a.arn+`*"}}`, "policies", "put", "invoke", "--principal", "user/eve", "--document", "-")
	}
	policy(`"bedrock-agentcore:InvokeAgentRuntime"`)
	wantCode(t, "who may invoke", "", invoke(""))
	err := wantCode(t, "who may invoke, for a user", denied, invoke("ada"))
	if err != nil && !strings.Contains(err.Error(), "InvokeAgentRuntimeForUser") {
		t.Errorf("the refusal does not name the action: %v", err)
	}
	policy(`["bedrock-agentcore:InvokeAgentRuntime","bedrock-agentcore:InvokeAgentRuntimeForUser"]`)
	wantCode(t, "who may invoke for users", "", invoke("ada"))

	put := func(arn, effect string) {
		t.Helper()
		document := `{"Version":"2012-10-17","Statement":[{"Effect":"` + effect + `","Principal":{"AWS":"arn:aws:iam::000000000000:user/eve"},"Action":["bedrock-agentcore:InvokeAgentRuntime"],"Resource":"` + arn + `"}]}`
		if _, err := h.control.PutResourcePolicy(t.Context(), &bedrockagentcorecontrol.PutResourcePolicyInput{ResourceArn: &arn, Policy: &document}); err != nil {
			t.Fatalf("PutResourcePolicy: %v", err)
		}
	}
	put(a.arn, "Deny")
	wantCode(t, "whom the runtime's policy denies", denied, invoke(""))
	put(a.arn, "Allow")
	wantCode(t, "whom it allows", "", invoke(""))

	// What callers send under the platform's own names never reaches the agent.
	answer, err := a.try(call{session: session("forged"), payload: map[string]any{"do": "token"}})
	var problem smithy.APIError
	if err == nil || !errors.As(err, &problem) || problem.ErrorCode() != "RuntimeClientError" {
		t.Errorf("without a user the agent has a token: %d characters, %v", len(answer), err)
	}
}
