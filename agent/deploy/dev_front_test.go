//go:build unix

package deploy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
	"github.com/coder/websocket"
)

// doorTo is Dev's front door before a server that is the agent.
func doorTo(t *testing.T, agentHere *httptest.Server) (*Client, *front, *httptest.Server) {
	t.Helper()
	c, a := clientOf(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"workloadAccessToken": "wat"}`) })
	f := &front{client: c, agent: a, who: developer{Workload: "dev", User: "ada"}, runner: &runner{agent: a, port: agentHere.Listener.Addr().(*net.TCPAddr).Port}, session: uuid()}
	door := httptest.NewServer(f.handler())
	t.Cleanup(door.Close)
	return c, f, door
}

// Whatever a caller's request line looks like, the user's token goes to the agent of this machine and nowhere else.
func TestDevForwardsToItsAgentAlone(t *testing.T) {
	t.Parallel()
	tokens := make(chan string, 10)
	agentHere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		tokens <- r.URL.Path + " " + r.Header.Get(headerToken)
	}))
	t.Cleanup(agentHere.Close)
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the thief gets %q with the token %q", r.URL, r.Header.Get(headerToken))
	}))
	t.Cleanup(thief.Close)
	_, _, door := doorTo(t, agentHere)
	elsewhere := thief.Listener.Addr().String()
	for target, want := range map[string]string{
		"/invocations":               "/invocations wat",
		"http:@" + elsewhere + "/x":  "", // a name and a password before the host, if it were glued to one
		"http://" + elsewhere + "/y": "/y wat",
		"//" + elsewhere + "/z":      "//" + elsewhere + "/z wat",
	} {
		connection, err := net.Dial("tcp", door.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", target)
		response, err := http.ReadResponse(bufio.NewReader(connection), nil)
		_ = connection.Close()
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		got := ""
		select {
		case got = <-tokens:
		default:
		}
		if want != "" && got != want {
			t.Errorf("%s: the agent gets %q, want %q; status %d", target, got, want, response.StatusCode)
		}
	}
}

// Who calls an agent of this machine reads what the agent says of an error, once, and is told at once where there is no agent.
func TestErrorsOfDev(t *testing.T) {
	t.Parallel()
	calls := 0
	agentHere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls++
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"error":"no luck"}`)
	}))
	t.Cleanup(agentHere.Close)
	refuses := false
	c, a := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
		if refuses {
			w.Header().Set(headerErrorType, "AccessDeniedException")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"message":"not you"}`)
			return
		}
		fmt.Fprint(w, `{"workloadAccessToken": "wat"}`)
	})
	r := &runner{agent: a, port: agentHere.Listener.Addr().(*net.TCPAddr).Port}
	door := httptest.NewServer((&front{client: c, agent: a, who: developer{Workload: "dev", User: "ada"}, runner: r, session: uuid()}).handler())
	t.Cleanup(door.Close)
	ask := func(code, message string) {
		t.Helper()
		_, err := c.Invoke(t.Context(), a, Invocation{Payload: []byte("{}"), Dev: door.URL + "/invocations"})
		var said smithy.APIError
		if !errors.As(err, &said) || said.ErrorCode() != code || said.ErrorMessage() != message {
			t.Errorf("got %v, want %s: %s", err, code, message)
		}
	}
	ask(runtimeClientError, `Received error (503) from runtime. {"error":"no luck"}`)
	if calls != 1 {
		t.Errorf("one call was delivered %d times", calls)
	}
	r.setDown("the agent has ended: exit status 1")
	ask(runtimeClientError, "the agent has ended: exit status 1")
	refuses = true
	ask("AccessDeniedException", "not you")
	c.endpoint = door.URL + ":none" // no platform: that is no error of the agent's
	_, err := c.Invoke(t.Context(), a, Invocation{Payload: []byte("{}"), Dev: door.URL + "/invocations"})
	if code := codeOf(err); code != "ServiceUnavailableException" || !strings.Contains(err.Error(), "the platform gives no workload token") {
		t.Errorf("without a platform: %v", err)
	}
}

// A websocket goes through the door to the agent, with the user's token; a page of another origin has none.
func TestWebSocketOfDev(t *testing.T) {
	t.Parallel()
	agentHere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connection, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer connection.CloseNow()
		_, said, err := connection.Read(r.Context())
		if err == nil {
			_ = connection.Write(r.Context(), websocket.MessageText, append([]byte(r.Header.Get(headerToken)+" "), said...))
		}
		_ = connection.Close(4000, "enough")
	}))
	t.Cleanup(agentHere.Close)
	_, f, door := doorTo(t, agentHere)
	connection, response, err := websocket.Dial(t.Context(), door.URL+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.CloseNow()
	if response.Header.Get(headerSession) != f.session {
		t.Errorf("the session is %q", response.Header.Get(headerSession))
	}
	if err := connection.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, said, err := connection.Read(t.Context()); err != nil || string(said) != "wat hello" {
		t.Errorf("%q %v", said, err)
	}
	if _, _, err := connection.Read(t.Context()); websocket.CloseStatus(err) != 4000 {
		t.Errorf("it closes with %v", err)
	}
	_, response, err = websocket.Dial(t.Context(), door.URL+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"http://evil.example"}}})
	if err == nil || response == nil || response.StatusCode != http.StatusForbidden {
		t.Errorf("a page of another origin: %v", err)
	}
}

// No page of another origin has the door ask for the user's token, whatever it asks for.
func TestPagesOfOtherOrigins(t *testing.T) {
	t.Parallel()
	agentHere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get(headerToken)) }))
	t.Cleanup(agentHere.Close)
	_, _, door := doorTo(t, agentHere)
	for _, test := range []struct {
		method, header, value string
		want                  int
	}{
		{http.MethodGet, "", "", http.StatusOK},
		{http.MethodGet, "Sec-Fetch-Site", "none", http.StatusOK}, // typed by the developer
		{http.MethodPost, "Origin", door.URL, http.StatusOK},
		{http.MethodGet, "Sec-Fetch-Site", "cross-site", http.StatusForbidden}, // an image
		{http.MethodGet, "Sec-Fetch-Site", "same-site", http.StatusForbidden},
		{http.MethodGet, "Origin", "http://evil.example", http.StatusForbidden},
		{http.MethodOptions, "Origin", "http://evil.example", http.StatusForbidden},
		{http.MethodPost, "Origin", "null", http.StatusForbidden},
		{http.MethodPost, "Sec-Fetch-Site", "cross-site", http.StatusForbidden},
		{http.MethodGet, "Host", "evil.example:8090", http.StatusForbidden}, // whose address became this machine's
	} {
		request, err := http.NewRequestWithContext(t.Context(), test.method, door.URL+"/tasks", nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.header == "Host" {
			request.Host = test.value
		} else if test.header != "" {
			request.Header.Set(test.header, test.value)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != test.want || (string(body) == "wat") != (test.want == http.StatusOK) {
			t.Errorf("%+v: %d %q %v", test, response.StatusCode, body, err)
		}
	}
}

// An answer that breaks off is not taken for a whole one.
func TestHalfAnAnswerOfDev(t *testing.T) {
	t.Parallel()
	agentHere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(agentHere.Close)
	c, f, door := doorTo(t, agentHere)
	answer, err := c.Invoke(t.Context(), f.agent, Invocation{Payload: []byte("{}"), Dev: door.URL + "/invocations"})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if got, err := io.ReadAll(answer.Body); err == nil || string(got) != "half" {
		t.Errorf("%q %v", got, err)
	}
}
