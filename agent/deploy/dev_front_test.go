//go:build unix

package deploy

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/smithy-go"
)

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
	c, a := clientOf(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"workloadAccessToken": "wat"}`) })
	f := &front{client: c, agent: a, who: developer{Workload: "dev", User: "ada"}, runner: &runner{agent: a, port: agentHere.Listener.Addr().(*net.TCPAddr).Port}, session: uuid()}
	door := httptest.NewServer(f.handler())
	t.Cleanup(door.Close)
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
}
