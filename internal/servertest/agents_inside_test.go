package servertest_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"errors"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/smithy-go"

	"github.com/onbehalf/onbehalf/client"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
	"github.com/onbehalf/onbehalf/internal/sigv4"
)

const witness = "./witness"

type report struct {
	Status      int
	Body        string
	Environment []string
}

// asks has the witness do something within its session.
func (h hosted) asks(t *testing.T, session *string, what map[string]any) report {
	t.Helper()
	payload, err := json.Marshal(what)
	if err != nil {
		t.Fatal(err)
	}
	body, err := h.invoke(t, session, string(payload))
	if err != nil {
		t.Fatal(err)
	}
	var out report
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return out
}

// fetched is what an URL answers.
func fetched(t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func variable(environment []string, name string) string {
	for _, line := range environment {
		if value, found := strings.CutPrefix(line, name+"="); found {
			return value
		}
	}
	return ""
}

// What a session reaches of the platform: the API, with credentials that are good
// from there alone, and nothing that is for people or operators.
func TestWhatASessionReaches(t *testing.T) {
	p := servertest.Start(t, func(c *server.Config) { c.MetricsAddr = "127.0.0.1:0" })
	h := host(t, p, "witness", build(t, witness), func(in *bedrockagentcorecontrol.CreateAgentRuntimeInput) {
		in.EnvironmentVariables = map[string]string{"PLACE": "of-the-test"}
	})
	a := session("a")
	environment := h.asks(t, a, nil).Environment
	endpoint, token := variable(environment, "AWS_CONTAINER_CREDENTIALS_FULL_URI"), variable(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN")
	if endpoint != "http://127.0.0.1:7079/credentials" || token == "" || variable(environment, "PLACE") != "of-the-test" {
		t.Fatalf("%q", environment)
	}
	for _, line := range environment {
		if name, _, _ := strings.Cut(line, "="); strings.HasPrefix(name, "AWS_ACCESS") || strings.HasPrefix(name, "AWS_SECRET") || strings.HasPrefix(name, "ONBEHALF_") {
			t.Errorf("the session has %s", name)
		}
	}
	for wrong, headers := range map[string]map[string]string{"none": nil, "wrong": {"Authorization": token + "x"}, "another's": {"Authorization": variable(h.asks(t, session("b"), nil).Environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN")}} {
		if got := h.asks(t, a, map[string]any{"Fetch": endpoint, "Headers": headers}); got.Status != http.StatusForbidden || strings.Contains(got.Body, "SecretAccessKey") {
			t.Errorf("token %s: %+v", wrong, got)
		}
	}
	got := h.asks(t, a, map[string]any{"Fetch": endpoint, "Headers": map[string]string{"Authorization": token}})
	var c struct{ AccessKeyId, SecretAccessKey, Token, Expiration string }
	if err := json.Unmarshal([]byte(got.Body), &c); err != nil || got.Status != http.StatusOK {
		t.Fatalf("%+v, %v", got, err)
	}
	if ends, err := time.Parse(time.RFC3339, c.Expiration); err != nil || time.Until(ends) > time.Hour || time.Until(ends) < 50*time.Minute {
		t.Errorf("credentials until %s", c.Expiration)
	}

	if again := h.asks(t, a, map[string]any{"Fetch": endpoint, "Headers": map[string]string{"Authorization": token}}); again.Body != got.Body {
		t.Error("whoever asks again at once is given others")
	}

	// The same credentials, in a request of the session, of another session, and from outside.
	key := sigv4.Key{AccessKeyID: c.AccessKeyId, Secret: secret.New(c.SecretAccessKey), SessionToken: secret.New(c.Token)}
	signed := func(base string) (*http.Request, map[string]string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/identities/GetWorkloadAccessToken", strings.NewReader(`{"workloadName":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if err := sigv4.Sign(r, key, "us-east-1", "bedrock-agentcore", sha256.Sum256([]byte(`{"workloadName":"x"}`)), time.Now()); err != nil {
			t.Fatal(err)
		}
		headers := map[string]string{}
		for name := range r.Header {
			headers[name] = r.Header.Get(name)
		}
		return r, headers
	}
	const inside = "http://127.0.0.1:7079"
	_, headers := signed(inside)
	ask := map[string]any{"Fetch": inside + "/identities/GetWorkloadAccessToken", "Method": "POST", "Headers": headers, "Body": `{"workloadName":"x"}`}
	if got := h.asks(t, a, ask); got.Status == http.StatusForbidden && strings.Contains(got.Body, "UnrecognizedClient") || strings.Contains(got.Body, "Signature") {
		t.Errorf("in its own session: %+v", got)
	}
	if got := h.asks(t, session("b"), ask); got.Status != http.StatusForbidden || !strings.Contains(got.Body, "UnrecognizedClientException") {
		t.Errorf("in another session: %+v", got)
	}
	r, _ := signed(p.URL())
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusForbidden || !strings.Contains(string(body), "UnrecognizedClientException") {
		t.Errorf("from outside: %d %s", response.StatusCode, body)
	}

	for path, method := range map[string]string{
		"/ping": "GET", "/": "POST", "/identities/oauth2/authorize": "GET", "/connect/done": "GET", "/identities/oauth2/callback/x": "GET", "/console": "GET", "/metrics": "GET", "/onbehalf/PutAgentCode": "POST",
	} {
		if got := h.asks(t, a, map[string]any{"Fetch": inside + path, "Method": method}); got.Status < 400 || strings.Contains(got.Body, "onbehalf_") {
			t.Errorf("%s is there for a session: %d", path, got.Status)
		}
	}
	if got := h.asks(t, a, map[string]any{"Fetch": inside + "/identities/GetWorkloadAccessToken", "Method": "POST", "Host": "evil.example"}); got.Status != http.StatusNotFound {
		t.Errorf("under another name: %+v", got)
	}
	if got := h.asks(t, a, map[string]any{"Fetch": inside + "/gateway/there-is-none-0123456789/mcp", "Method": "POST", "Body": "{}"}); strings.Contains(got.Body, "Agents reach") || strings.Contains(strings.ToLower(got.Body), "host") {
		t.Errorf("the gateways: %+v", got)
	}
	if text := fetched(t, p.MetricsURL()); !strings.Contains(text, "onbehalf_agent_sessions_running 2") || !strings.Contains(text, "onbehalf_agent_session_start_seconds_count 2") || !strings.Contains(text, `onbehalf_agent_sessions_ended_total{reason="crashed"} 0`) {
		t.Error("sessions are not counted")
	}
	// Neither does the way out lead back, whatever the name.
	for _, url := range []string{p.URL() + "/ping", p.MetricsURL(), strings.Replace(p.URL(), "127.0.0.1", "host.onbehalf.internal", 1) + "/ping"} {
		if got, err := h.invoke(t, a, `{"fetch":"`+url+`"}`); err == nil && strings.Contains(got, `"Status":200`) {
			t.Errorf("%s is reached: %s", url, got)
		}
	}
}

// What an agent prints is in its log, without what it was handed, and whoever may
// read logs follows them; a crash is told to the call and the next one starts afresh.
func TestLogsAndCrashes(t *testing.T) {
	p := servertest.Start(t)
	h := host(t, p, "crashing", build(t, witness), func(in *bedrockagentcorecontrol.CreateAgentRuntimeInput) {
		in.EnvironmentVariables = map[string]string{"KEY": "a-key-of-the-environment"}
	})
	a := session("a")
	environment := h.asks(t, a, nil).Environment
	token := variable(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN")
	credentials := h.asks(t, a, map[string]any{"Fetch": "http://127.0.0.1:7079/credentials", "Headers": map[string]string{"Authorization": token}}).Body
	var c struct{ SecretAccessKey, Token string }
	if err := json.Unmarshal([]byte(credentials), &c); err != nil {
		t.Fatal(err)
	}
	h.asks(t, a, map[string]any{"Print": "mine: a-key-of-the-environment " + token + " " + c.SecretAccessKey + " " + c.Token + " end"})
	_, err := h.invoke(t, a, `{"print":"about to fall","wait":20,"exit":3}`)
	var failed smithy.APIError
	if !errors.As(err, &failed) || failed.ErrorCode() != "RuntimeClientError" || !strings.Contains(failed.ErrorMessage(), "exit code 3") || !strings.Contains(failed.ErrorMessage(), "about to fall") {
		t.Fatal(err)
	}
	for _, value := range []string{"a-key-of-the-environment", token, c.SecretAccessKey, c.Token} {
		if strings.Contains(failed.ErrorMessage(), value) {
			t.Errorf("the error tells a secret: %s", failed.ErrorMessage())
		}
	}
	own := client.New(p.AWS)
	logs, err := own.GetAgentRuntimeLogs(t.Context(), &client.GetAgentRuntimeLogsInput{AgentRuntimeId: &h.id})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range logs.Events {
		lines = append(lines, aws.ToString(e.Message))
	}
	if text := strings.Join(lines, "\n"); !strings.Contains(text, "mine: [redacted] [redacted] [redacted] [redacted] end\n") || !strings.Contains(text, "about to fall") {
		t.Errorf("%s", text)
	}
	eventually(t, func() error { _, err := h.invoke(t, a, `{}`); return err })
	var sessions *client.ListAgentRuntimeSessionsOutput
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // an answer may be here a moment before its call is over there
		sessions, err = own.ListAgentRuntimeSessions(t.Context(), &client.ListAgentRuntimeSessionsInput{AgentRuntimeId: &h.id})
		if err != nil || len(sessions.Sessions) != 1 || sessions.Sessions[0].Status == client.AgentRuntimeSessionStatusIdle || time.Now().After(deadline) {
			break
		}
	}
	if err != nil || len(sessions.Sessions) != 1 || aws.ToString(sessions.Sessions[0].RuntimeSessionId) != *a || sessions.Sessions[0].Status != client.AgentRuntimeSessionStatusIdle {
		t.Errorf("%+v, %v", sessions, err)
	}
}

// eventually tries until a stopping session is gone: that one answers 409.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := try()
		var busy smithy.APIError
		if err == nil {
			return
		}
		if !errors.As(err, &busy) || busy.ErrorCode() != "RetryableConflictException" && busy.ErrorCode() != "ConcurrentModificationException" || ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A restart leaves no session, and they start afresh; the agents are told to end.
func TestSessionsEndWithThePlatform(t *testing.T) {
	p := servertest.Start(t)
	h := host(t, p, "ending", build(t, witness))
	for _, name := range []string{"a", "b", "c"} {
		if _, err := h.invoke(t, session(name), `{}`); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	p.Restart(t)
	if took := time.Since(began); took > 14*time.Second { // who is not willing is given 15
		t.Errorf("three willing sessions took %v to end", took)
	}
	h.Platform = p
	own := client.New(p.AWS)
	if list, err := own.ListAgentRuntimeSessions(t.Context(), nil); err != nil || len(list.Sessions) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := h.invoke(t, session("a"), `{}`); err != nil {
		t.Error(err)
	}
}

// Without isolation, by the flag that says so, an agent is a plain process that finds
// the platform all the same; the banner warns.
func TestUnsafeAgents(t *testing.T) {
	p := servertest.Start(t, func(c *server.Config) { c.UnsafeAgents = true })
	if banner := strings.Join(p.Banner(), "\n"); !strings.Contains(banner, "WITHOUT ISOLATION") {
		t.Error(banner)
	}
	h := host(t, p, "unsafe", build(t, witness))
	a := session("a")
	environment := h.asks(t, a, nil).Environment
	token := variable(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN")
	got := h.asks(t, a, map[string]any{"Fetch": variable(environment, "AWS_CONTAINER_CREDENTIALS_FULL_URI"), "Headers": map[string]string{"Authorization": token}})
	if got.Status != http.StatusOK || !strings.Contains(got.Body, "SecretAccessKey") {
		t.Errorf("%+v", got)
	}
}
