package egress

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestOperator(t *testing.T) {
	t.Parallel()
	var reached []string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached = append(reached, r.URL.Path)
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}
	}))
	server.Config.ErrorLog = discardLog()
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	do := func(client *http.Client, url string) (*http.Response, error) {
		t.Cleanup(client.CloseIdleConnections)
		request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		return response, err
	}

	// A private address is what it is for, and a redirect is not followed.
	response, err := do(Operator(OperatorOptions{Roots: roots}), server.URL+"/moved")
	if err != nil || response.StatusCode != http.StatusTemporaryRedirect || len(reached) != 1 {
		t.Errorf("got %v, %v after %v", response, err, reached)
	}
	// Nobody is trusted who is not known, and nothing leaves the machine in clear.
	if _, err := do(Operator(OperatorOptions{}), server.URL+"/secret-path"); err == nil || !strings.Contains(Safe(err).Error(), "not trusted") || strings.Contains(Safe(err).Error(), "secret-path") {
		t.Errorf("an unknown certificate: %v", Safe(err))
	}
	if _, err := do(Operator(OperatorOptions{}), "http://bao.example/v1"); err == nil || !strings.Contains(Safe(err).Error(), "loopback only") {
		t.Errorf("http to another machine: %v", Safe(err))
	}
}
