package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"go.uber.org/goleak"

	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
	"github.com/onbehalf/onbehalf/internal/sigv4"
)

func TestMain(m *testing.M) {
	server.Init()
	goleak.VerifyTestMain(m)
}

// A start makes a working installation; a second start finds it, on the same port, with the same key.
func TestRestartKeepsAddressKeyAndData(t *testing.T) {
	p := servertest.Start(t)
	name := "kept"
	if _, err := p.Control.CreateWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: &name}); err != nil {
		t.Fatal(err)
	}
	url, demo := p.URL(), p.DemoURL()
	p.Restart(t)
	if p.URL() != url || p.DemoURL() != demo {
		t.Errorf("after a restart on %s and %s, before on %s and %s", p.URL(), p.DemoURL(), url, demo)
	}
	if _, err := p.Control.GetWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.GetWorkloadIdentityInput{Name: &name}); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

func TestSecretsInTheFolderAreClosedToOthers(t *testing.T) {
	p := servertest.Start(t)
	entries, err := os.ReadDir(p.Config.Data)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", entry.Name(), info.Mode().Perm())
		}
	}
}

func TestStartFailsCleanly(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	data := filepath.Join(t.TempDir(), "data")
	c := server.Config{Addr: taken.Addr().String(), Data: data}
	_, err = server.Start(t.Context(), c, server.Logger(c, os.Stderr))
	var port *server.PortTakenError
	if !errors.As(err, &port) || port.Flag != "--addr" {
		t.Fatalf("got %v, want the taken port and its flag", err)
	}
	// Nothing is left open: the same folder starts elsewhere.
	c.Addr = "127.0.0.1:0"
	c.LogLevel = "error"
	s, err := server.Start(t.Context(), c, server.Logger(c, os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// With a certificate the listener speaks https and nothing else. A certificate
// that cannot be used ends the start, before anything is written.
func TestTLS(t *testing.T) {
	model := httptest.NewTLSServer(nil)
	defer model.Close()
	pair, folder := model.TLS.Certificates[0], t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := server.Config{Addr: "127.0.0.1:0", Data: filepath.Join(folder, "data"), LogLevel: "error", TLSCert: certFile, TLSKey: certFile}
	if _, err := server.Start(t.Context(), c, server.Logger(c, os.Stderr)); err == nil || !strings.Contains(err.Error(), "--tls-key") {
		t.Fatalf("started with a key that is none: %v", err)
	}
	if _, err := os.Stat(c.Data); !os.IsNotExist(err) {
		t.Error("a start that failed made the data folder")
	}
	c.TLSKey = keyFile
	s, err := server.Start(t.Context(), c, server.Logger(c, os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	client := model.Client()
	defer client.CloseIdleConnections()
	response, err := client.Get(s.URL() + "/ping")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if !strings.HasPrefix(s.URL(), "https://") || response.StatusCode != http.StatusOK {
		t.Errorf("%s answers %s", s.URL(), response.Status)
	}
	response, err = client.Get("http" + strings.TrimPrefix(s.URL(), "https") + "/ping")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("plain http is answered %s", response.Status)
	}
}

// What is in flight when the server is told to stop is finished.
func TestCloseFinishesWhatIsInFlight(t *testing.T) {
	p := servertest.Start(t)
	// A signed request whose body comes late: the handler waits for it.
	body := []byte(`{}`)
	request, err := http.NewRequest(http.MethodPost, p.URL()+"/identities/ListWorkloadIdentities", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	credentials, err := p.AWS.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := sigv4.Sign(request, sigv4.Key{AccessKeyID: credentials.AccessKeyID, Secret: secret.New(credentials.SecretAccessKey)}, "us-east-1", "bedrock-agentcore", sha256.Sum256(body), time.Now()); err != nil {
		t.Fatal(err)
	}
	late, send := io.Pipe()
	request.Body = late
	request.Header.Set("Expect", "100-continue") // the first byte is taken when the handler reads
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ExpectContinueTimeout = time.Minute
	answered := make(chan string, 1)
	go func() {
		response, err := transport.RoundTrip(request)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer response.Body.Close()
		answered <- response.Status
	}()
	if _, err := send.Write(body[:1]); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- p.Close(context.Background()) }()
	time.Sleep(50 * time.Millisecond)
	if _, err := send.Write(body[1:]); err != nil {
		t.Fatal(err)
	}
	_ = send.Close()
	if got := <-answered; got != "200 OK" {
		t.Errorf("the request in flight was answered %s", got)
	}
	if err := <-closed; err != nil {
		t.Errorf("close: %v", err)
	}
	if _, err := http.Get(p.URL() + "/ping"); err == nil {
		t.Error("a closed server answers")
	}
}
