package server_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/notify"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// hook is a receiver of events.
type hook struct {
	*httptest.Server
	events chan notify.Event
	raw    chan string
}

func startHook(t *testing.T, key []byte) *hook {
	h := &hook{events: make(chan notify.Event, 10), raw: make(chan string, 10)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("webhook-signature") != notify.Sign(key, r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body) {
			t.Error("the signature does not hold")
		}
		var e notify.Event
		if err := json.Unmarshal(body, &e); err != nil {
			t.Error(err)
		}
		h.raw <- string(body)
		h.events <- e
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) next(t *testing.T) notify.Event {
	t.Helper()
	select {
	case e := <-h.events:
		return e
	case <-time.After(90 * time.Second):
		t.Fatal("no event came")
		return notify.Event{}
	}
}

func hooked(t *testing.T) (*servertest.Platform, *hook) {
	t.Helper()
	key := bytes.Repeat([]byte("k"), 32)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("whsec_"+base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHook(t, key)
	return servertest.Start(t, func(c *server.Config) { c.Webhook, c.WebhookSecretFile = h.URL+"/onbehalf", file }), h
}

// A consent is told, with the names of all who have part in it and without a token.
func TestWebhook(t *testing.T) {
	p, h := hooked(t)
	token := consentStory(t, p, "allow")
	e := h.next(t)
	if e.Type != "consent.given" || e.Data["workload"] != "canary-workload" || e.Data["provider"] != "canary-provider" ||
		e.Data["account"] != server.DefaultAccount || !strings.HasSuffix(e.Data["user"], "#"+demoidp.Ada) || e.Data["grant"] == "" || e.Timestamp.IsZero() {
		t.Errorf("told %+v", e)
	}
	if body := <-h.raw; strings.Contains(body, token) || strings.Contains(body, "canary-secret") {
		t.Errorf("told a secret: %s", body)
	}
	if log := p.Logs.String(); !strings.Contains(log, "event=consent.given") || !strings.Contains(log, "request_id=") {
		t.Errorf("the log says nothing of it: %s", log)
	}
}

func TestWebhookOfADenial(t *testing.T) {
	p, h := hooked(t)
	consentStory(t, p, "deny")
	if e := h.next(t); e.Type != "consent.denied" || e.Data["workload"] != "canary-workload" {
		t.Errorf("told %+v", e)
	}
	if log := p.Logs.String(); !strings.Contains(log, "event=consent.denied") {
		t.Errorf("the log says nothing of it: %s", log)
	}
}

func TestWebhookSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]server.Config{
		"without a secret":  {Webhook: "https://hooks.example.com/"},
		"a secret alone":    {WebhookSecretFile: "x"},
		"plain http":        {Webhook: "http://hooks.example.com/", WebhookSecretFile: "x"},
		"a user in it":      {Webhook: "https://user:canary@hooks.example.com/", WebhookSecretFile: "x"},
		"no URL":            {Webhook: "hooks", WebhookSecretFile: "x"},
		"another scheme":    {Webhook: "file:///etc/passwd", WebhookSecretFile: "x"},
		"metrics without :": {MetricsAddr: "9090"},
	} {
		if err := c.WithDefaults().Check(); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
