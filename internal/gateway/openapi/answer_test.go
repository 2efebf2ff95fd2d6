package openapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gateway"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// serve makes a target of a handler, through the kind and a real connection.
func serve(t *testing.T, handler http.HandlerFunc) gateway.Target {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return targetAt(t, server.URL, egress.Options{Allow: []string{"127.0.0.1:*"}, LoopbackHTTP: true})
}

func targetAt(t *testing.T, server string, o egress.Options) gateway.Target {
	t.Helper()
	client, err := egress.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	kind := New(client)
	configuration := &api.TargetConfiguration{Mcp: &api.McpTargetConfiguration{OpenApiSchema: &api.ApiSchemaConfiguration{InlinePayload: secret.Pointer(
		strings.Replace(doc(`{"/a":{"get":{"operationId":"a",`+responses+`}}}`), "https://api.example.com/v1/", server, 1))}}}
	compiled, err := kind.Compile(configuration)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := kind.Open(compiled)
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	answers := func(status int, media, body string, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", media)
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	var zipped bytes.Buffer
	writer := gzip.NewWriter(&zipped)
	_, _ = writer.Write([]byte(`{"zip":true}`))
	_ = writer.Close()
	for name, c := range map[string]struct {
		handler      http.HandlerFunc
		text, object string
		isError      bool
	}{
		"an object":          {answers(200, "application/json", " {\"a\":1}\n"), " {\"a\":1}\n", `{"a":1}`, false},
		"an object as text":  {answers(200, "text/plain", `{"a":1}`), `{"a":1}`, `{"a":1}`, false},
		"not quite JSON":     {answers(200, "application/json", `{"a":1`), `{"a":1`, "", false},
		"two objects":        {answers(200, "application/json", `{"a":1}{"b":2}`), `{"a":1}{"b":2}`, "", false},
		"not UTF-8":          {answers(200, "application/json", "{\"a\":\"\xff\"}"), "{\"a\":\"\xff\"}", "", false},
		"gzip":               {answers(200, "application/json", zipped.String(), "Content-Encoding", "gzip"), `{"zip":true}`, `{"zip":true}`, false},
		"a picture":          {answers(200, "image/png", "x"), "The target answered with 1 bytes of image/png, which is not text.", "", true},
		"the token, echoed":  {answers(200, "application/json", `{"authorization":"Bearer t0ken"}`), `{"authorization":"Bearer [redacted]"}`, `{"authorization":"Bearer [redacted]"}`, false},
		"a refused token":    {answers(401, "text/plain", "t0ken is bad"), "revoked the consent", "", true},
		"a lacking scope":    {answers(403, "text/plain", "no"), "may not do this", "", true},
		"slow down":          {answers(429, "text/plain", "", "Retry-After", "30"), "Retry-After: 30.", "", true},
		"a long refusal":     {answers(500, "text/plain", strings.Repeat("ü", 10000)), "…", "", true},
		"a binary refusal":   {answers(500, "application/zip", "PK"), "The target answered 500 Internal Server Error.", "", true},
		"a redirect":         {answers(307, "text/html", "", "Location", "http://127.0.0.1:1/"), "does not follow redirects", "", true},
		"an odd retry-after": {answers(503, "text/plain", "", "Retry-After", strings.Repeat("9", 500)), "Retry-After: 999", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := serve(t, c.handler).Call(t.Context(), gateway.Call{Tool: "a", Credential: secret.New("t0ken"), ForUser: true})
			if err != nil {
				t.Fatal(err)
			}
			text := string(got.Text)
			if got.IsError != c.isError || string(got.Object) != c.object || c.isError && !strings.Contains(text, c.text) || !c.isError && text != c.text {
				t.Errorf("answer: %q, object %q, error %v", text, got.Object, got.IsError)
			}
			if strings.Contains(text, "t0ken") || len(text) > maxRefusal+500 {
				t.Errorf("the text: %d bytes, %q", len(text), clip(text, 300))
			}
		})
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		kind    fault.Kind
		says    string
	}{
		"too large": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(maxAnswer+1))
		}, fault.Upstream, "larger than 6 MB"},
		"too large without a length": {func(w http.ResponseWriter, _ *http.Request) {
			chunk := bytes.Repeat([]byte("x"), 1<<20)
			for range 8 {
				_, _ = w.Write(chunk)
				_ = http.NewResponseController(w).Flush()
			}
		}, fault.Upstream, "larger than 6 MB"},
		"a bomb": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			for range 64 {
				_, _ = z.Write(make([]byte, 1<<20))
			}
			_ = z.Close()
		}, fault.Upstream, "larger than 6 MB"},
		"breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, fault.Upstream, "broke off"},
		"never begins":       {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, fault.Unavailable, ""},
		"an odd compression": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Encoding", "br") }, fault.Upstream, "Content-Encoding br"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := serve(t, c.handler).Call(t.Context(), gateway.Call{Tool: "a"})
			if !fault.Is(err, c.kind) || !strings.Contains(fault.Of(err).Message, c.says) {
				t.Errorf("error: %v", err)
			}
		})
	}
	t.Run("in time", func(t *testing.T) {
		t.Parallel()
		arrived := make(chan struct{}, 100)
		target := serve(t, func(_ http.ResponseWriter, r *http.Request) { arrived <- struct{}{}; <-r.Context().Done() })
		for wait := 50 * time.Millisecond; ; wait *= 2 { // until it is enough to arrive in
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			_, err := target.Call(ctx, gateway.Call{Tool: "a"})
			cancel()
			if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Of(err).Message, "in time") {
				t.Fatalf("error: %v", err)
			}
			if len(arrived) > 0 {
				break
			}
			if wait > time.Minute {
				t.Fatal("it never arrives")
			}
		}
	})
	t.Run("private addresses", func(t *testing.T) {
		t.Parallel()
		_, err := targetAt(t, "https://localhost.example.invalid", egress.Options{}).Call(t.Context(), gateway.Call{Tool: "a"})
		if err == nil || fault.KindOf(err) == fault.Internal {
			t.Errorf("error: %v", err)
		}
	})
}

// Only the credential of the call is sent, and only as a bearer.
func TestCredential(t *testing.T) {
	t.Parallel()
	var got http.Header
	target := serve(t, func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })
	if _, err := target.Call(t.Context(), gateway.Call{Tool: "a", Credential: secret.New("t0ken")}); err != nil {
		t.Fatal(err)
	}
	if got.Get("Authorization") != "Bearer t0ken" {
		t.Errorf("headers: %v", got)
	}
	if _, err := target.Call(t.Context(), gateway.Call{Tool: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, sent := got["Authorization"]; sent || got.Get("Cookie") != "" {
		t.Errorf("headers: %v", got)
	}
}

// A form that another release stored is compiled anew, not misread.
func TestStaleForm(t *testing.T) {
	t.Parallel()
	if _, err := open([]byte(`{"format":0}`), nil); err != gateway.ErrStale {
		t.Errorf("error: %v", err)
	}
}
