package runtime

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/store"
)

// sdk is AWS's own client, with the root key.
func (h *hosted) sdk() *bedrockagentcore.Client {
	return bedrockagentcore.New(bedrockagentcore.Options{BaseEndpoint: aws.String(h.door.URL), Region: testRegion,
		Credentials: credentials.NewStaticCredentialsProvider(h.root.AccessKeyID, h.root.Secret.Reveal(), ""), RetryMaxAttempts: 1})
}

// ran is what a command's stream said.
type ran struct {
	stdout, stderr string
	stop           *types.ContentStopEvent
	err            error
}

func (h *hosted) command(t testing.TB, ctx context.Context, arn, session, line string, timeout int32) (out ran, err error) {
	t.Helper()
	answered, err := h.sdk().InvokeAgentRuntimeCommand(ctx, &bedrockagentcore.InvokeAgentRuntimeCommandInput{
		AgentRuntimeArn: &arn, RuntimeSessionId: &session, Body: &types.InvokeAgentRuntimeCommandRequestBody{Command: &line, Timeout: &timeout}})
	if err != nil {
		return out, err
	}
	stream := answered.GetStream()
	defer stream.Close()
	for event := range stream.Events() {
		chunk := event.(*types.InvokeAgentRuntimeCommandStreamOutputMemberChunk).Value
		if delta := chunk.ContentDelta; delta != nil {
			out.stdout += aws.ToString(delta.Stdout)
			out.stderr += aws.ToString(delta.Stderr)
		}
		if chunk.ContentStop != nil {
			out.stop = chunk.ContentStop
		}
	}
	if out.err = stream.Err(); strings.Contains(fmt.Sprint(out.err), "https response error") {
		err = out.err
	}
	return out, err
}

func TestCommand(t *testing.T) {
	t.Parallel()
	h := serving(t, echo)
	made := h.create(t, "commands", nil)
	arn := made.AgentRuntimeArn
	runs, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	h.agents.run = func(ctx context.Context, c Command) (int, error) {
		switch c.Line {
		case "greet":
			// One byte at a time: characters come whole all the same.
			_, _ = io.Copy(c.Stdout, iotest.OneByteReader(strings.NewReader("grüße 🌍")))
			fmt.Fprint(c.Stderr, "warn\xff")
			return 3, nil
		case "much":
			_, _ = io.WriteString(c.Stdout, strings.Repeat("ü", 200_000))
			return 0, nil
		case "slow":
			return -1, context.DeadlineExceeded
		case "cannot":
			return -1, fmt.Errorf("no shell")
		}
		runs <- struct{}{}
		<-ctx.Done()
		gone <- struct{}{}
		return -1, ctx.Err()
	}
	session := api.NewUUID()
	_, err := h.command(t, t.Context(), arn, session, "greet", 10)
	if !strings.Contains(fmt.Sprint(err), "404") {
		t.Errorf("a session that is not there: %v", err)
	}
	if h.agents.count() != 0 {
		t.Error("a command began a session")
	}
	if response, _ := h.invokes(t, arn, "{}", headerSession, session); response.StatusCode != 200 {
		t.Fatal(response.Status)
	}
	got, err := h.command(t, t.Context(), arn, session, "greet", 10)
	if err != nil || got.err != nil || got.stdout != "grüße 🌍" || got.stderr != "warn\ufffd" || got.stop == nil || *got.stop.ExitCode != 3 || got.stop.Status != types.CommandExecutionStatusCompleted {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := h.command(t, t.Context(), arn, session, "much", 10); err != nil || got.stdout != strings.Repeat("ü", 200_000) {
		t.Errorf("%d bytes, %v, %v", len(got.stdout), err, got.err)
	}
	if got, err := h.command(t, t.Context(), arn, session, "slow", 1); err != nil || got.stop == nil || got.stop.Status != types.CommandExecutionStatusTimedOut || *got.stop.ExitCode != -1 {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := h.command(t, t.Context(), arn, session, "cannot", 1); err != nil || got.stop == nil || *got.stop.ExitCode != -1 || strings.Contains(got.stdout+got.stderr, "shell") {
		t.Errorf("%+v %v", got, err)
	}
	for name, body := range map[string]string{"no command": `{}`, "empty": `{"command":""}`, "timeout": `{"command":"x","timeout":0}`, "long timeout": `{"command":"x","timeout":3601}`, "no JSON": `x`, "long": `{"command":"` + strings.Repeat("x", 65537) + `"}`} {
		r := h.sign(t, h.request(t, "POST", strings.TrimSuffix(invocationsPath(arn), pathInvocations)+pathCommands, body, headerSession, session), body)
		if response, _ := answer(t, r); response.StatusCode != 400 {
			t.Errorf("%s: %d", name, response.StatusCode)
		}
	}

	// Who leaves ends his command.
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = h.command(t, ctx, arn, session, "wait", 60)
	}()
	select {
	case <-runs:
	case <-done:
		t.Fatal("the command was not run")
	}
	leave()
	<-gone
	<-done

	// A session that is stopped says so in the stream.
	answered := make(chan ran, 1)
	go func() {
		got, _ := h.command(t, t.Context(), arn, session, "wait", 60)
		answered <- got
	}()
	select {
	case <-runs:
	case got := <-answered:
		t.Fatalf("the command was not run: %+v", got)
	}
	if _, err := h.sdk().StopRuntimeSession(t.Context(), &bedrockagentcore.StopRuntimeSessionInput{AgentRuntimeArn: &arn, RuntimeSessionId: &session}); err != nil {
		t.Fatal(err)
	}
	if got := <-answered; got.stop != nil || got.err == nil || !strings.Contains(got.err.Error(), "was ended") {
		t.Errorf("%+v", got)
	}
}

// busy reports whether a call of some session is under way.
func (h *hosted) busy() bool {
	for _, n := range h.those(func(*session) bool { return true }) {
		n.mu.Lock()
		calls := n.calls
		n.mu.Unlock()
		if calls > 0 {
			return true
		}
	}
	return false
}

// TestSessionsOfUsers: who opened a session for a person may stop it and run
// commands in it without naming the person, which SDKs cannot.
func TestSessionsOfUsers(t *testing.T) {
	t.Parallel()
	h := serving(t, echo)
	made := h.create(t, "theirs", nil)
	arn := made.AgentRuntimeArn
	h.agents.run = func(context.Context, Command) (int, error) { return 0, nil }
	response, _ := h.invokes(t, arn, "{}", headerUser, "alice")
	session := response.Header.Get(headerSession)
	if got, err := h.command(t, t.Context(), arn, session, "x", 1); err != nil || got.stop == nil {
		t.Errorf("%+v %v", got, err)
	}
	allowed := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"bedrock-agentcore:*","Resource":"*"}]}`
	stranger := h.user(t, "stranger", allowed)
	path := strings.TrimSuffix(invocationsPath(arn), pathInvocations)
	for _, rest := range []string{pathCommands, pathStop} {
		body := `{"command":"x"}`
		if response, _ := answer(t, h.signWith(t, stranger, h.request(t, "POST", path+rest, body, headerSession, session), body)); response.StatusCode != 403 {
			t.Errorf("%s by a stranger: %d", rest, response.StatusCode)
		}
	}
	for range 2 { // the second time it is stopping, or gone
		_, err := h.sdk().StopRuntimeSession(t.Context(), &bedrockagentcore.StopRuntimeSessionInput{AgentRuntimeArn: &arn, RuntimeSessionId: &session})
		if err != nil && !strings.Contains(err.Error(), "404") {
			t.Error(err)
		}
	}
	if _, err := h.sdk().StopRuntimeSession(t.Context(), &bedrockagentcore.StopRuntimeSessionInput{AgentRuntimeArn: &arn, RuntimeSessionId: aws.String(api.NewUUID())}); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("an unknown session: %v", err)
	}
	if response, _ := answer(t, h.sign(t, h.request(t, "POST", path+pathStop, "{}"), "{}")); response.StatusCode != 400 {
		t.Errorf("no session: %d", response.StatusCode)
	}
}

// TestCommandsOfUsers: whom a runtime's authorizer admits runs commands in the
// session that is his, as at AWS, unless the runtime has a policy that lets users do other things alone.
func TestCommandsOfUsers(t *testing.T) {
	t.Parallel()
	h := serving(t, echo)
	h.agents.run = func(context.Context, Command) (int, error) { return 0, nil }
	made := h.create(t, "people", func(r *api.CreateAgentRuntimeRequest) { r.AuthorizerConfiguration = h.jwt() })
	path, session := invocationsPath(made.AgentRuntimeArn), api.NewUUID()
	call := func(path, body string) int {
		response, _ := answer(t, h.request(t, "POST", path, body, "Authorization", "Bearer "+h.token(t, demoidp.Ada), headerSession, session))
		return response.StatusCode
	}
	commands := strings.TrimSuffix(path, pathInvocations) + pathCommands
	if first, status := call(path, "{}"), call(commands, `{"command":"true"}`); first != 200 || status != 200 {
		t.Errorf("%d, %d", first, status)
	}
	document := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"bedrock-agentcore:InvokeAgentRuntime","Resource":"` + made.AgentRuntimeArn + `"}]}`
	if err := h.db.Update(t.Context(), func(tx *store.Tx) error {
		return h.policies.PutResource(tx, testAccount, made.AgentRuntimeArn, document)
	}); err != nil {
		t.Fatal(err)
	}
	if again, status := call(path, "{}"), call(commands, `{"command":"true"}`); again != 200 || status != 403 {
		t.Errorf("%d, %d", again, status)
	}
}

// TestStopCutsAtOnce: a stream of a stopped session ends now, and not when its
// agent has put its things away.
func TestStopCutsAtOnce(t *testing.T) {
	t.Parallel()
	h := serving(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	made := h.create(t, "stops", nil)
	session := api.NewUUID()
	response, err := http.DefaultTransport.RoundTrip(h.sign(t, h.request(t, "POST", invocationsPath(made.AgentRuntimeArn), "{}", headerSession, session), "{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	began := time.Now()
	if _, err := h.sdk().StopRuntimeSession(t.Context(), &bedrockagentcore.StopRuntimeSessionInput{AgentRuntimeArn: &made.AgentRuntimeArn, RuntimeSessionId: &session}); err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); err == nil || time.Since(began) > stopGrace {
		t.Errorf("%q, %v after %v", body, err, time.Since(began))
	}
	// What ends with the session, or with the agent, is no failure of the platform's.
	if records := h.records(t, actionInvoke); len(records) != 2 || records[1].Outcome != "runtime-client" || records[1].Detail["outcome"] != "session-ended" {
		t.Errorf("records: %+v", records)
	}
}
