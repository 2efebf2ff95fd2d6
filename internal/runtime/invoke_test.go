package runtime

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/audit"
)

// echo answers what it was asked, with the headers that matter.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	w.Header().Set("Traceparent", r.Header.Get("Traceparent"))
	w.Header().Set("Set-Cookie", "no=way")
	fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, body)
}

func TestInvokeIsRawBothWays(t *testing.T) {
	t.Parallel()
	h := serving(t, echo)
	made := h.create(t, "echo", nil)
	response, body := h.invokes(t, made.AgentRuntimeArn, "\x00\xff raw", "Content-Type", "application/x-thing", "Traceparent", "00-a-b-01")
	if response.StatusCode != 200 || body != "POST /invocations \x00\xff raw" {
		t.Fatalf("%d %q", response.StatusCode, body)
	}
	header := response.Header
	if header.Get("Content-Type") != "application/x-thing" || header.Get("Traceparent") != "00-a-b-01" || header.Get("Set-Cookie") != "" {
		t.Errorf("headers %v", header)
	}
	first := header.Get(headerSession)
	if len(first) != 36 {
		t.Errorf("session %q", first)
	}

	// The same session again: no second agent.
	response, _ = h.invokes(t, made.AgentRuntimeArn, "{}", headerSession, first)
	if response.StatusCode != 200 || response.Header.Get(headerSession) != first || h.agents.count() != 1 {
		t.Errorf("%d, session %q, %d agents", response.StatusCode, response.Header.Get(headerSession), h.agents.count())
	}
	// By id, beside the account, and with an endpoint's ARN for a qualifier.
	r := h.request(t, "POST", "/runtimes/"+made.AgentRuntimeId+"/invocations?accountId="+testAccount+"&qualifier="+made.AgentRuntimeArn+"/runtime-endpoint/DEFAULT", "x", headerSession, first)
	if response, body := answer(t, h.sign(t, r, "x")); response.StatusCode != 200 {
		t.Errorf("%d %s", response.StatusCode, body)
	}
	if response, body := h.invokes(t, made.AgentRuntimeArn, ""); response.StatusCode != 200 || body != "POST /invocations " {
		t.Errorf("an empty body: %d %q", response.StatusCode, body)
	}
}

func TestTargets(t *testing.T) {
	t.Parallel()
	h := serving(t, echo)
	made := h.create(t, "echo", nil)
	arn, id := made.AgentRuntimeArn, made.AgentRuntimeId
	for name, c := range map[string]struct {
		path   string
		status int
		says   string
	}{
		"no runtime":          {invocationsPath(strings.Replace(arn, id, "echo-0123456789", 1)), 404, "was not found"},
		"no endpoint":         {invocationsPath(arn) + "?qualifier=prod", 404, "no endpoint prod"},
		"another region":      {invocationsPath(strings.Replace(arn, testRegion, "eu-west-1", 1)), 404, "was not found"},
		"a gateway":           {invocationsPath(strings.Replace(arn, ":runtime/", ":gateway/", 1)), 404, "was not found"},
		"no account":          {"/runtimes/" + id + "/invocations", 400, "accountId"},
		"bad account":         {"/runtimes/" + id + "/invocations?accountId=12", 400, "12 digits"},
		"another account":     {"/runtimes/" + id + "/invocations?accountId=111111111111", 403, "not authorized"},
		"accounts that clash": {invocationsPath(arn) + "?accountId=111111111111", 400, "not the one"},
		"no ARN":              {"/runtimes/arn%3Aaws/invocations", 400, "not an ARN"},
		"escapes":             {"/runtimes/a%2F..%2Fb/invocations?accountId=" + testAccount, 404, "was not found"},
		"bad qualifier":       {invocationsPath(arn) + "?qualifier=a%00b", 404, "no endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			response, body := answer(t, h.sign(t, h.request(t, "POST", c.path, "{}"), "{}"))
			if response.StatusCode != c.status || !strings.Contains(body, c.says) {
				t.Errorf("%d %s, want %d %s", response.StatusCode, body, c.status, c.says)
			}
		})
	}
	// Without a signature nobody learns which there are.
	known, _ := answer(t, h.request(t, "POST", invocationsPath(arn), "{}"))
	unknown, _ := answer(t, h.request(t, "POST", invocationsPath(strings.Replace(arn, id, "echo-0123456789", 1)), "{}"))
	if known.StatusCode != 403 || unknown.StatusCode != 403 {
		t.Errorf("unsigned: %d and %d", known.StatusCode, unknown.StatusCode)
	}
	if malformed, _ := answer(t, h.request(t, "POST", "/runtimes/x/invocations", "{}")); malformed.StatusCode != 403 {
		t.Errorf("unsigned and malformed: %d", malformed.StatusCode)
	}
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "DELETE"} {
		if response, _ := answer(t, h.request(t, method, invocationsPath(arn), "")); response.StatusCode != 405 || response.Header.Get("Allow") != "POST" || response.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %d %v", method, response.StatusCode, response.Header)
		}
	}
}

func TestSessionIDs(t *testing.T) {
	t.Parallel()
	h := serving(t, echo)
	made := h.create(t, "echo", nil)
	for name, id := range map[string]string{"short": "abcde", "long": strings.Repeat("a", 257), "begins badly": "-" + strings.Repeat("a", 40), "a space": strings.Repeat("a", 40) + " b"} {
		response, body := h.invokes(t, made.AgentRuntimeArn, "{}", headerSession, id)
		if response.StatusCode != 400 || !strings.Contains(body, "runtimeSessionId") {
			t.Errorf("%s: %d %s", name, response.StatusCode, body)
		}
	}
	if h.agents.count() != 0 {
		t.Error("an agent was started")
	}
	// The id comes back with an error as well.
	id := strings.Repeat("s", 33)
	r := h.request(t, "POST", invocationsPath(made.AgentRuntimeArn), "{}", headerSession, id)
	if response, _ := answer(t, r); response.StatusCode != 403 || response.Header.Get(headerSession) != id {
		t.Errorf("%d %v", response.StatusCode, response.Header)
	}
}

// TestAgentsOwnError: 424, with what the agent said and what it printed, the
// latter for who may read logs alone.
func TestAgentsOwnError(t *testing.T) {
	t.Parallel()
	h := serving(t, nil)
	h.agents.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(h.agents.newest().output, "Traceback: the cause")
		w.Header().Set("X-Internal", "yes")
		if r.Header.Get("Accept") == "redirect" {
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
			return
		}
		http.Error(w, "it hurts", http.StatusServiceUnavailable)
	})
	made := h.create(t, "sick", nil)
	response, body := h.invokes(t, made.AgentRuntimeArn, "{}")
	if response.StatusCode != 424 || !strings.Contains(body, "Received error (503) from runtime. it hurts") || !strings.Contains(body, "Traceback: the cause") || response.Header.Get("X-Internal") != "" {
		t.Errorf("%d %s %v", response.StatusCode, body, response.Header)
	}
	if response.Header.Get(headerSession) == "" {
		t.Error("no session in the error")
	}
	if response, body := h.invokes(t, made.AgentRuntimeArn, "{}", "Accept", "redirect", headerSession, response.Header.Get(headerSession)); response.StatusCode != 424 || !strings.Contains(body, "(302)") {
		t.Errorf("a redirect: %d %s", response.StatusCode, body)
	}
	key := h.user(t, "caller", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"bedrock-agentcore:InvokeAgentRuntime","Resource":"`+made.AgentRuntimeArn+`*"}]}`)
	response, body = answer(t, h.signWith(t, key, h.request(t, "POST", invocationsPath(made.AgentRuntimeArn), "{}"), "{}"))
	if response.StatusCode != 424 || !strings.Contains(body, "it hurts") || strings.Contains(body, "Traceback") {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

// TestStreamComesAtOnce: the first event is there while the agent is still at it,
// and an agent whose caller has left hears of it within a second.
func TestStreamComesAtOnce(t *testing.T) {
	t.Parallel()
	left := make(chan time.Time, 1)
	h := serving(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: one\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		left <- time.Now()
	})
	made := h.create(t, "slow", nil)
	calls, took := 0, time.Hour
	for took > time.Second && calls < 20 { // a busy machine may be late once
		calls++
		response, err := http.DefaultTransport.RoundTrip(h.sign(t, h.request(t, "POST", invocationsPath(made.AgentRuntimeArn), "{}", "Accept-Encoding", "gzip"), "{}"))
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(response.Body).ReadString('\n')
		if err != nil || line != "data: one\n" || response.Header.Get("Content-Encoding") != "" {
			t.Fatalf("%q %v %v", line, err, response.Header)
		}
		gone := time.Now()
		_ = response.Body.Close()
		took = (<-left).Sub(gone)
	}
	if took > time.Second {
		t.Errorf("the agent heard of it after %v", took)
	}
	h.eventually(t, func() bool {
		records := h.records(t, actionInvoke)
		left := slices.DeleteFunc(slices.Clone(records), func(r audit.Record) bool { return r.Phase != "done" || r.Detail["outcome"] != "caller-left" })
		return len(records) == 2*calls && records[0].Phase == "intent" && len(left) == calls
	})
}

// TestAnswerThatBreaksOff is no whole answer to the caller.
func TestAnswerThatBreaksOff(t *testing.T) {
	t.Parallel()
	h := serving(t, nil)
	read := make(chan struct{})
	h.agents.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: half an ev")
		_ = http.NewResponseController(w).Flush()
		<-read
		h.agents.newest().end("The agent's process ended with status 3.")
	})
	stream := func(arn string) (string, error) {
		response, err := http.DefaultTransport.RoundTrip(h.sign(t, h.request(t, "POST", invocationsPath(arn), "{}"), "{}"))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		read <- struct{}{}
		body, err := io.ReadAll(response.Body)
		return string(body), err
	}
	if body, err := stream(h.create(t, "breaks", nil).AgentRuntimeArn); err == nil {
		t.Errorf("it came whole: %q", body)
	}
	// AG-UI says it in an event.
	body, err := stream(h.create(t, "ui", speaking(api.ServerProtocolAgui)).AgentRuntimeArn)
	if err != nil || !strings.HasPrefix(body, "data: half an ev\n\ndata: {\"type\":\"RUN_ERROR\"") || !strings.Contains(body, `"code":"AGENT_ERROR"`) {
		t.Errorf("%q %v", body, err)
	}
}

// TestLargeBodies: beyond a megabyte a body lies in a file until its signature is
// checked, and the agent gets it whole or not at all.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	var reached int64
	h := serving(t, func(w http.ResponseWriter, r *http.Request) {
		reached, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, reached, " ", r.ContentLength)
	})
	made := h.create(t, "large", nil)
	large := strings.Repeat("0123456789abcdef", 5<<20/16)
	if response, body := h.invokes(t, made.AgentRuntimeArn, large); response.StatusCode != 200 || body != "5242880 5242880" {
		t.Errorf("%d %s", response.StatusCode, body)
	}
	reached = 0
	r := h.sign(t, h.request(t, "POST", invocationsPath(made.AgentRuntimeArn), large[1:]+"x"), large)
	if response, _ := answer(t, r); response.StatusCode != 403 || reached != 0 {
		t.Errorf("another body than was signed: %d, the agent got %d", response.StatusCode, reached)
	}
	r = h.request(t, "POST", invocationsPath(made.AgentRuntimeArn), "")
	r.Body, r.ContentLength = io.NopCloser(io.LimitReader(zeros{}, maxPayload+1)), maxPayload+1
	r.Header.Set("Expect", "100-continue")
	patient := &http.Transport{ExpectContinueTimeout: time.Minute} // else it begins to send, and may find the connection closed
	defer patient.CloseIdleConnections()
	response, err := patient.RoundTrip(h.sign(t, r, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != 400 {
		t.Errorf("too long: %d", response.StatusCode)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestEarlyAnswer: an agent may answer without reading the body.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	h := serving(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	made := h.create(t, "early", nil)
	for range 20 {
		if response, body := h.invokes(t, made.AgentRuntimeArn, strings.Repeat("x", 900<<10)); response.StatusCode != 204 {
			t.Fatalf("%d %s", response.StatusCode, body)
		}
	}
}

func TestRecordsOfACall(t *testing.T) {
	t.Parallel()
	h := serving(t, echo)
	made := h.create(t, "recorded", nil)
	response, _ := h.invokes(t, made.AgentRuntimeArn, "the secret payload", headerUser, "alice")
	h.eventually(t, func() bool { return len(h.records(t, actionInvoke)) == 2 }) // the last one follows the answer
	records := h.records(t, actionInvoke)
	for i, phase := range []string{"intent", "done"} {
		r := records[i]
		if r.Phase != phase || r.User != "id:alice" || r.Detail["session"] != response.Header.Get(headerSession) || r.Detail["endpoint"] != "DEFAULT" || r.Detail["version"] != "1" ||
			r.Resources[0] != made.AgentRuntimeArn || strings.Contains(fmt.Sprint(r), "secret payload") {
			t.Errorf("record %+v", r)
		}
	}
	if records[1].Detail["status"] != "200" || records[1].Outcome != "ok" {
		t.Errorf("record %+v", records[1])
	}
}

// eventually waits for what follows a call.
func (h *hosted) eventually(t testing.TB, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Error("it did not come to that")
}
