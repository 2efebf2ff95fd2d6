//go:build unix

package deploy

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
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
