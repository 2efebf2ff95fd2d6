package agent_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/agent"
)

// logged is an App's log, safe to read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// serve serves fn as an agent.
func serve(t *testing.T, fn any) (url string, log *logged) {
	t.Helper()
	app, log := agent.New(), &logged{}
	app.Logger = slog.New(agent.NewLogHandler(log))
	if fn != nil {
		app.Entrypoint(fn)
	}
	server := httptest.NewServer(app)
	t.Cleanup(server.Close)
	return server.URL, log
}

type answer struct {
	Status      int
	ContentType string
	Body        string
}

func post(t *testing.T, url, body string, headers ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "POST", url+"/invocations", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header.Get("Content-Type"), string(text)}
}

type prompted struct {
	Prompt string `json:"prompt"`
}

func seq(fail error) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		_ = yield(1, nil) && yield(2, nil) && fail != nil && yield(0, fail)
	}
}

func TestEntrypointShapes(t *testing.T) {
	t.Parallel()
	const asked = `{"prompt":"2x2 < 5?"}`
	for name, test := range map[string]struct {
		fn   any
		want answer
	}{
		"typed": {func(_ context.Context, q prompted) (map[string]string, error) {
			return map[string]string{"a": q.Prompt}, nil
		}, answer{200, "application/json", `{"a":"2x2 < 5?"}`}},
		"pointer":         {func(q *prompted) string { return q.Prompt }, answer{200, "application/json", `"2x2 < 5?"`}},
		"any":             {func(q any) any { return q }, answer{200, "application/json", asked}},
		"map":             {func(q map[string]any) (any, error) { return q["prompt"], nil }, answer{200, "application/json", `"2x2 < 5?"`}},
		"bytes":           {func(b []byte) (int, error) { return len(b), nil }, answer{200, "application/json", fmt.Sprint(len(asked))}},
		"raw JSON":        {func(b json.RawMessage) json.RawMessage { return b }, answer{200, "application/json", asked}},
		"reader":          {func(r io.Reader) (string, error) { b, err := io.ReadAll(r); return string(b), err }, answer{200, "application/json", `"{\"prompt\":\"2x2 < 5?\"}"`}},
		"request":         {func(r *http.Request) string { return r.Method }, answer{200, "application/json", `"POST"`}},
		"nothing in":      {func() string { return "hello" }, answer{200, "application/json", `"hello"`}},
		"nothing out":     {func(prompted) {}, answer{200, "application/json", `null`}},
		"nil":             {func(prompted) (any, error) { return nil, nil }, answer{200, "application/json", `null`}},
		"error":           {func(prompted) (any, error) { return nil, errors.New("no luck") }, answer{500, "application/json", `{"error":"no luck"}` + "\n"}},
		"status":          {func(prompted) error { return fmt.Errorf("asked: %w", &agent.HTTPError{Status: 422, Message: "empty"}) }, answer{422, "application/json", `{"error":"asked: empty"}` + "\n"}},
		"strange status":  {func(prompted) error { return &agent.HTTPError{Status: 99, Message: "empty"} }, answer{500, "application/json", `{"error":"empty"}` + "\n"}},
		"panic":           {func(prompted) string { panic("out of paper") }, answer{500, "application/json", `{"error":"panic: out of paper"}` + "\n"}},
		"no JSON":         {func(prompted) (any, error) { return func() {}, nil }, answer{500, "application/json", `{"error":"the result has no JSON: json: unsupported type: func()"}` + "\n"}},
		"reply":           {func(prompted) agent.Reply { return agent.Reply{201, "image/png", strings.NewReader("pixels")} }, answer{201, "image/png", "pixels"}},
		"handler":         {func(prompted) http.Handler { return http.NotFoundHandler() }, answer{404, "text/plain; charset=utf-8", "404 page not found\n"}},
		"sequence":        {func(prompted) iter.Seq2[int, error] { return seq(nil) }, answer{200, "text/event-stream", "data: 1\n\ndata: 2\n\n"}},
		"plain sequence":  {func(prompted) iter.Seq[string] { return func(y func(string) bool) { _ = y("a") && y("b\nc") } }, answer{200, "text/event-stream", "data: \"a\"\n\ndata: \"b\\nc\"\n\n"}},
		"sequence as any": {func(prompted) any { return seq(nil) }, answer{200, "text/event-stream", "data: 1\n\ndata: 2\n\n"}},
		"broken sequence": {func(prompted) (iter.Seq2[int, error], error) { return seq(errors.New("tired")), nil },
			answer{200, "text/event-stream", "data: 1\n\ndata: 2\n\ndata: {\"error\":\"tired\",\"error_type\":\"*errors.errorString\",\"message\":\"An error occurred during streaming\"}\n\n"}},
		"panicking sequence": {func(prompted) iter.Seq[int] { return func(y func(int) bool) { y(1); panic("tired") } },
			answer{200, "text/event-stream", "data: 1\n\ndata: {\"error\":\"panic: tired\",\"error_type\":\"panic\",\"message\":\"An error occurred during streaming\"}\n\n"}},
		"channel": {func(prompted) <-chan string {
			c := make(chan string, 2)
			c <- "a"
			c <- "b"
			close(c)
			return c
		}, answer{200, "text/event-stream", "data: \"a\"\n\ndata: \"b\"\n\n"}},
		"channel with an error": {func(prompted) (chan any, error) {
			c := make(chan any, 2)
			c <- 1
			c <- errors.New("tired")
			return c, nil
		}, answer{200, "text/event-stream", "data: 1\n\ndata: {\"error\":\"tired\",\"error_type\":\"*errors.errorString\",\"message\":\"An error occurred during streaming\"}\n\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, _ := serve(t, test.fn)
			if diff := cmp.Diff(test.want, post(t, url, asked)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBadPayloads(t *testing.T) {
	t.Parallel()
	called := false
	url, log := serve(t, func(prompted) { called = true })
	for name, body := range map[string]string{"no JSON": "hello", "nothing": "", "another type": `{"prompt":1}`, "more behind it": `{} {}`} {
		got := post(t, url, body)
		var told struct{ Error, Details string }
		if err := json.Unmarshal([]byte(got.Body), &told); err != nil || got.Status != 400 || told.Error != "Invalid JSON" || told.Details == "" {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	if got := post(t, url, "{\"prompt\":\"gr\xfc\xdfe\"}"); got.Status != 400 || !strings.Contains(got.Body, `"error":"Invalid encoding"`) {
		t.Errorf("Latin-1: %+v", got) // and not with other characters in the place of those
	}
	if called || strings.Contains(log.String(), "ERROR") {
		t.Errorf("called %v; log:\n%s", called, log)
	}
	if got := post(t, url, `{}`, "Content-Type", "text/plain"); got.Status != 200 {
		t.Errorf("any content type is JSON: %+v", got)
	}

	app := agent.New().Entrypoint(func([]byte) {})
	app.MaxPayload, app.Logger = 10, slog.New(slog.DiscardHandler)
	server := httptest.NewServer(app)
	defer server.Close()
	if got := post(t, server.URL, "01234567890"); got.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("too much: %+v", got)
	}
	if url, _ := serve(t, nil); post(t, url, "{}").Body != `{"error":"No entrypoint defined"}`+"\n" {
		t.Error("an agent without entrypoint does not say so")
	}
	if got := post(t, url, `{}`, "Sec-Fetch-Site", "cross-site"); got.Status != 403 {
		t.Errorf("a page of another site: %+v", got)
	}
}

func TestEntrypointRefuses(t *testing.T) {
	t.Parallel()
	for name, fn := range map[string]any{
		"nil": nil, "no function": 5, "nil function": (func())(nil), "two payloads": func(a, b int) {}, "two results": func() (int, int) { return 0, 0 },
		"variadic": func(...string) {}, "error first": func() (error, int) { return nil, 0 }, //lint:ignore ST1008 that is what is refused
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if text := fmt.Sprint(recover()); !strings.HasPrefix(text, "agent: Entrypoint: ") {
					t.Errorf("panic: %v", text)
				}
			}()
			agent.New().Entrypoint(fn)
		})
	}
}

// What the runtime tells in headers is in the context, and the token nowhere else.
func TestContextOfACall(t *testing.T) {
	t.Parallel()
	url, log := serve(t, func(ctx context.Context) (map[string]string, error) {
		token, err := agent.WorkloadToken(ctx)
		text, _ := json.Marshal(agent.Headers(ctx))
		slog.New(agent.NewLogHandler(io.Discard)).InfoContext(ctx, "ignored")
		return map[string]string{"request": agent.RequestID(ctx), "session": agent.SessionID(ctx), "callback": agent.CallbackURL(ctx), "token": token.Reveal(), "headers": string(text)}, err
	})
	ask := func(headers ...string) (out map[string]string) {
		if got := post(t, url, "{}", headers...); got.Status != 200 {
			t.Fatalf("%+v", got)
		} else if err := json.Unmarshal([]byte(got.Body), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	got := ask("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id", "s-1", "X-Amzn-Bedrock-AgentCore-Runtime-Request-Id", "r-1", "OAuth2CallbackUrl", "http://localhost/back",
		"WorkloadAccessToken", "older-token", "X-Amz-Bedrock-AgentCore-Identity-WAT", "newer-token", "Authorization", "Bearer b", "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Team", "red")
	if got["request"] != "r-1" || got["session"] != "s-1" || got["callback"] != "http://localhost/back" || got["token"] != "newer-token" {
		t.Error(got)
	}
	if h := got["headers"]; !strings.Contains(h, "Bearer b") || !strings.Contains(h, "red") || strings.Contains(h, "-token") {
		t.Error(h)
	}
	if got := ask("WorkloadAccessToken", "older-token"); got["token"] != "older-token" || len(got["request"]) != 36 || got["session"] != "" {
		t.Error(got)
	}
	if got := post(t, url, "{}"); got.Status != 500 || !strings.Contains(got.Body, "there is no workload token") {
		t.Errorf("without a token: %+v", got)
	}
	if strings.Contains(log.String(), "newer-token") {
		t.Error("the log has the token")
	}
}

func TestFailuresAreLoggedWithTheirCall(t *testing.T) {
	t.Parallel()
	url, log := serve(t, func(prompted) error { panic("out of paper") })
	post(t, url, "{}", "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id", "s-1", "X-Amzn-Bedrock-AgentCore-Runtime-Request-Id", "r-1")
	var line map[string]string
	if err := json.Unmarshal([]byte(log.String()), &line); err != nil {
		t.Fatalf("%v in %s", err, log)
	}
	if line["level"] != "ERROR" || line["requestId"] != "r-1" || line["sessionId"] != "s-1" || line["errorMessage"] != "panic: out of paper" ||
		!strings.Contains(line["stackTrace"], "app_test.go") || line["timestamp"] == "" || line["message"] == "" {
		t.Errorf("%v", line)
	}
}

// The first event arrives before the second is made; a caller who leaves ends the work.
func TestStreaming(t *testing.T) {
	t.Parallel()
	next, ended := make(chan bool), make(chan error, 1)
	url, _ := serve(t, func(ctx context.Context) iter.Seq[int] {
		return func(yield func(int) bool) {
			for i := 0; ; i++ {
				if !yield(i) {
					ended <- context.Cause(ctx)
					return
				}
				select {
				case <-next:
				case <-ctx.Done():
				}
			}
		}
	})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	request, _ := http.NewRequestWithContext(ctx, "POST", url+"/invocations", strings.NewReader("{}"))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for i := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprintf("data: %d", i) || !lines.Scan() {
			t.Fatalf("event %d: %q %v", i, lines.Text(), lines.Err())
		}
		next <- true
	}
	leave()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the agent works on for nobody")
	}
}

func ping(t *testing.T, app http.Handler) (status string, since int64) {
	t.Helper()
	w := httptest.NewRecorder()
	app.ServeHTTP(w, httptest.NewRequest("GET", "/ping", nil))
	var told struct {
		Status string `json:"status"`
		Since  *int64 `json:"time_of_last_update"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil || w.Code != 200 || told.Since == nil {
		t.Fatalf("%d %s %v", w.Code, w.Body, err)
	}
	return told.Status, *told.Since
}

func TestPing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		app := agent.New()
		app.Logger = slog.New(slog.DiscardHandler)
		want := func(status string, since int64) {
			t.Helper()
			if got, at := ping(t, app); got != status || at != since {
				t.Errorf("%s since %d, want %s since %d", got, at, status, since)
			}
		}
		start := time.Now().Unix()
		want("Healthy", start)
		time.Sleep(5 * time.Second)
		want("Healthy", start) // the time is that of the change, not of the ping
		one, two := app.Track("one"), app.Track("two")
		if tasks := app.Tasks(); len(tasks) != 2 || tasks[0].Name != "one" || tasks[1].Name != "two" {
			t.Error(tasks)
		}
		want("HealthyBusy", start+5)
		one()
		one()
		want("HealthyBusy", start+5)
		two()
		time.Sleep(time.Second)
		want("Healthy", start+6)

		app.Ping(func() agent.PingStatus { return agent.HealthyBusy })
		want("HealthyBusy", start+6)
		app.ForcePing(agent.Healthy)
		want("Healthy", start+6)
		app.ClearForcedPing()
		want("HealthyBusy", start+6)
		app.Ping(func() agent.PingStatus { panic("unwell") })
		want("Healthy", start+6)
		app.Ping(func() agent.PingStatus { return "so-so" })
		want("Healthy", start+6)
	})
}

func TestTasksOutliveTheirCall(t *testing.T) {
	t.Parallel()
	proceed, seen := make(chan bool), make(chan string, 1)
	app := agent.New()
	app.Logger = slog.New(slog.DiscardHandler)
	app.Entrypoint(func(ctx context.Context) string {
		app.Go(ctx, "index", func(ctx context.Context) error {
			<-proceed
			seen <- fmt.Sprint(agent.SessionID(ctx), ctx.Err())
			panic("and the agent goes on")
		})
		return "begun"
	})
	server := httptest.NewServer(app)
	defer server.Close()
	if got := post(t, server.URL, "", "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id", "s-1"); got.Body != `"begun"` {
		t.Fatal(got)
	}
	if status, _ := ping(t, app); status != "HealthyBusy" {
		t.Error(status)
	}
	proceed <- true
	if got := <-seen; got != "s-1<nil>" {
		t.Error(got)
	}
	for deadline := time.Now().Add(time.Minute); len(app.Tasks()) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the task does not end")
		}
		time.Sleep(time.Millisecond)
	}
}

// A stop lets the call under way and its task come to an end.
func TestServeStops(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := false
	app := agent.New()
	app.Logger = slog.New(slog.DiscardHandler)
	app.Entrypoint(func(ctx context.Context) string {
		stop()
		app.Go(ctx, "tidy up", func(context.Context) error { time.Sleep(50 * time.Millisecond); done = true; return nil })
		return "done"
	})
	ended := make(chan error, 1)
	go func() { ended <- app.Serve(ctx, listener) }()
	if got := post(t, "http://"+listener.Addr().String(), ""); got.Body != `"done"` {
		t.Error(got)
	}
	if err := <-ended; err != nil || !done {
		t.Errorf("ended with %v, task done: %v", err, done)
	}
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	app := agent.New().WebSocket(func(ctx context.Context, c *websocket.Conn) error {
		for {
			kind, message, err := c.Read(ctx)
			if err != nil {
				return err
			}
			if string(message) == "fail" {
				return errors.New("no luck")
			}
			if err := c.Write(ctx, kind, []byte(agent.SessionID(ctx)+" "+string(message))); err != nil {
				return err
			}
		}
	})
	app.Logger = slog.New(slog.DiscardHandler)
	server := httptest.NewServer(app)
	defer server.Close()
	header := http.Header{"X-Amzn-Bedrock-Agentcore-Runtime-Session-Id": {"s-1"}}
	c, _, err := websocket.Dial(t.Context(), server.URL+"/ws", &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	say := func(text string) (string, error) {
		if err := c.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		_, answer, err := c.Read(t.Context())
		return string(answer), err
	}
	if got, err := say("hello"); err != nil || got != "s-1 hello" {
		t.Errorf("%q %v", got, err)
	}
	if _, err := say("fail"); websocket.CloseStatus(err) != websocket.StatusInternalError || strings.Contains(err.Error(), "no luck") {
		t.Errorf("after a failure: %v", err)
	}

	url, _ := serve(t, nil)
	c, _, err = websocket.Dial(t.Context(), url+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusInternalError {
		t.Errorf("without a handler: %v", err)
	}
	if _, response, err := websocket.Dial(t.Context(), url+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://evil.example"}}}); err == nil || response.StatusCode != 403 {
		t.Errorf("a page of another origin: %v", err)
	}
}
