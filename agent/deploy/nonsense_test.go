//go:build unix

package deploy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// clientOf is a client of what is no platform.
func clientOf(t *testing.T, handler http.HandlerFunc) (*Client, *Agent) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c, err := NewClient(aws.Config{Region: "us-east-1", Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "s"}, nil
	})}, func(o *Options) { o.BaseEndpoint = server.URL })
	if err != nil {
		t.Fatal(err)
	}
	a := New(folder(t, map[string]string{"run.sh": ""}), "")
	a.Name, a.Language, a.Entrypoint = "weather", Command, "sh run.sh"
	return c, a
}

// What is no platform's answer is told as such, and taken for nothing.
func TestNonsense(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"<html>welcome to the hotel's network</html>", "[]", "null {", "\x1b[2J"} {
		c, a := clientOf(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
		if _, err := c.Status(t.Context(), a); codeOf(err) != "UnknownError" {
			t.Errorf("%q: got %v", text, err)
		}
		if _, err := c.Launch(t.Context(), a, LaunchOptions{}); codeOf(err) != "UnknownError" {
			t.Errorf("%q: got %v", text, err)
		}
	}
	c, a := clientOf(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	ends(t, "a launch without a runtime", func() {
		if _, err := c.put(t.Context(), a, "", object{}); codeOf(err) != "UnknownError" {
			t.Errorf("got %v", err)
		}
	})
	if s := c.remembered(a); s.Runtime != "" {
		t.Errorf("it is remembered: %+v", s)
	}
}

// What never answers is not waited for.
func TestSilence(t *testing.T) {
	t.Parallel()
	c, a := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	c.patience = 50 * time.Millisecond
	ends(t, "asking for the status", func() {
		if _, err := c.Status(t.Context(), a); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// The call after a launch reaches what was launched, and not a session that an earlier version began; a launch that failed changes nothing.
func TestNextVersionBeginsAnew(t *testing.T) {
	t.Parallel()
	status := statusUpdateFailed
	c, a := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"agentRuntimeId": "weather-1", "agentRuntimeName": "weather", "agentRuntimeVersion": "2", "status": %q}`, status)
	})
	before := state{Runtime: "weather-1", Sessions: map[string]string{"": "nobodys", "ada": "hers", conversation("ada", "prod"): "elsewhere"}, Last: "hers"}
	if err := c.remember(a, func(s *state) { *s = before }); err != nil {
		t.Fatal(err)
	}
	var failed *FailedError
	if _, err := c.put(t.Context(), a, "weather-1", object{}); !errors.As(err, &failed) || c.LastSession(a, "ada", "") != "hers" {
		t.Errorf("%v; the session is %q", err, c.LastSession(a, "ada", ""))
	}
	status = statusReady
	if _, err := c.put(t.Context(), a, "weather-1", object{}); err != nil {
		t.Fatal(err)
	}
	if s := c.remembered(a); len(s.Sessions) != 1 || c.LastSession(a, "ada", "prod") != "elsewhere" || s.Last != "hers" || s.Runtime != "weather-1" {
		t.Errorf("what is remembered: %+v", s)
	}
}

// Each endpoint has its conversations: a session keeps its version, whichever endpoint a call of it names.
func TestConversationsOfEndpoints(t *testing.T) {
	t.Parallel()
	var sessions []string
	c, a := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/runtimes/" {
			fmt.Fprint(w, `{"agentRuntimes": [{"agentRuntimeId": "weather-1", "agentRuntimeName": "weather", "agentRuntimeArn": "arn"}]}`)
			return
		}
		sessions = append(sessions, r.URL.RawQuery)
	})
	call := func(user, qualifier string) string {
		t.Helper()
		answer, err := c.Invoke(t.Context(), a, Invocation{UserID: user, Qualifier: qualifier, SessionID: c.LastSession(a, user, qualifier)})
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.SessionID
	}
	first, prod := call("ada", ""), call("ada", "prod")
	if first == prod || call("ada", "DEFAULT") != first || call("ada", "prod") != prod || call("bob", "prod") == prod {
		t.Errorf("sessions %q and %q; %v", first, prod, c.remembered(a))
	}
	if len(sessions) != 5 || sessions[1] != "qualifier=prod" {
		t.Errorf("calls %q", sessions)
	}
}

// A state that came with somebody's folder leads to no runtime of another name.
func TestStateOfSomebodyElse(t *testing.T) {
	t.Parallel()
	c, a := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			t.Error("a runtime is deleted")
		}
		if strings.HasPrefix(r.URL.Path, "/runtimes/payroll-1") {
			fmt.Fprint(w, `{"agentRuntimeId": "payroll-1", "agentRuntimeName": "payroll", "status": "READY"}`)
			return
		}
		if r.URL.Path == "/runtimes/" {
			fmt.Fprint(w, `{"agentRuntimes": [{"agentRuntimeId": "payroll-1", "agentRuntimeName": "payroll"}]}`)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `<ErrorResponse><Error><Code>NoSuchEntity</Code></Error></ErrorResponse>`)
	})
	if err := c.remember(a, func(s *state) { s.Runtime = "payroll-1" }); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context(), a); !errors.Is(err, ErrNotLaunched) {
		t.Errorf("got %v", err)
	}
	if gone, err := c.Destroy(t.Context(), a, false); err != nil || gone.Runtime != "" {
		t.Errorf("%+v %v", gone, err)
	}
	if _, err := os.Stat(filepath.Join(a.Folder(), workFolder, stateFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state stays: %v", err)
	}
}
