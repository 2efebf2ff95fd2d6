package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The tests of this file set variables that the AWS SDK reads, so they are not parallel.

// studio stands for SageMaker: it knows one space.
func studio(t *testing.T, answer string) {
	t.Helper()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ DomainId, SpaceName string }
		_ = json.NewDecoder(r.Body).Decode(&asked)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		if r.Header.Get("X-Amz-Target") != "SageMaker.DescribeSpace" || asked.DomainId != "d-1" || asked.SpaceName != "workshop" || !strings.Contains(r.Header.Get("Authorization"), "/eu-west-1/sagemaker/") {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"__type":"ResourceNotFound","message":"no such space"}`))
			return
		}
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(api.Close)
	t.Setenv("AWS_ENDPOINT_URL_SAGEMAKER", api.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-the-test")
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
}

func metadata(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resource-metadata.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const inStudio = `{"AppType":"JupyterLab","DomainId":"d-1","SpaceName":"workshop"}`

func TestCallbackBaseURLInStudio(t *testing.T) {
	studio(t, `{"DomainId":"d-1","SpaceName":"workshop","Url":"https://abc.studio.eu-west-1.sagemaker.aws/jupyterlab/default/"}`)
	s := NewOAuth2CallbackServer("eu-west-1", nil, CallbackOptions{Metadata: metadata(t, inStudio)})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	base := fmt.Sprintf("https://abc.studio.eu-west-1.sagemaker.aws/jupyterlab/default/proxy/%d", s.port)
	if s.CallbackBaseURL() != base || s.CallbackURL() != base+"/oauth2/callback" || s.SignInURL() != base+"/oauth2/signin" {
		t.Errorf("browsers come back to %s", s.CallbackURL())
	}
	// The notebook's proxy strips its prefix and calls us localhost, on its own port.
	for host, status := range map[string]int{
		"localhost": http.StatusMisdirectedRequest, "localhost:8888": http.StatusOK, fmt.Sprintf("127.0.0.1:%d", s.port): http.StatusOK,
		"abc.studio.eu-west-1.sagemaker.aws": http.StatusOK, "evil.example": http.StatusMisdirectedRequest,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", s.port, pathPing), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		if _, response := send(t, http.DefaultClient, r); response.StatusCode != status {
			t.Errorf("%s: %d", host, response.StatusCode)
		}
	}
	if c := s.cookie("x", "y"); c.Path != "/jupyterlab/default/proxy/"+fmt.Sprint(s.port)+"/oauth2/" || !c.Secure {
		t.Errorf("the browser will not send the cookie %s back", c)
	}
	if err := StoreTokenInCallbackServer(t.Context(), s.Client(), "ada"); err != nil {
		t.Error(err)
	}
	alone := NewOAuth2CallbackServer("eu-west-1", nil, CallbackOptions{Metadata: metadata(t, inStudio), WithoutSignIn: true})
	wants[*ConfigurationError](t, alone.Start(t.Context()), "this machine only", "INBOUND_DISCOVERY_URL")
}

func TestStudioThatCannotBeAsked(t *testing.T) {
	studio(t, `{"DomainId":"d-1","SpaceName":"workshop"}`)
	start := func(content string) error {
		s := NewOAuth2CallbackServer("eu-west-1", nil, CallbackOptions{Metadata: metadata(t, content)})
		defer s.Stop()
		return s.Start(t.Context())
	}
	wants[*ConfigurationError](t, start(inStudio), "has no URL yet", "Start the space")
	wants[*ConfigurationError](t, start(`{"DomainId":"d-1","SpaceName":"another"}`), "cannot be described", "sagemaker:DescribeSpace")
	wants[*ConfigurationError](t, start(`{"DomainId":"d-1"}`), "names no domain and space", "CALLBACK_URL")
	wants[*ConfigurationError](t, start(`no JSON`), "names no domain and space", "CALLBACK_URL")
	wants[*ConfigurationError](t, func() error {
		s := NewOAuth2CallbackServer("eu-west-1", nil, CallbackOptions{Metadata: t.TempDir()})
		return s.Start(t.Context())
	}(), "cannot be read", "CALLBACK_URL")
}
