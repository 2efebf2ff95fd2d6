package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
)

const canaryForm = "client_secret=" + canaryOpaque

type stringer struct{ text string }

func (s stringer) String() string { return s.text }

type valuer struct{ text string }

func (v valuer) LogValue() slog.Value {
	return slog.GroupValue(slog.String("a", v.text), slog.Int("b", 1))
}

type panicking struct{ secret string }

func (p panicking) String() string               { panic(p.secret) }
func (p panicking) MarshalJSON() ([]byte, error) { panic(p.secret) }

type pointing struct {
	Name  string
	Token *string `json:"access_token"`
}

type marshaller struct{ text string }

func (m marshaller) MarshalJSON() ([]byte, error) { return json.Marshal(m.text) }

func TestHandlerHides(t *testing.T) {
	t.Parallel()
	opaque := canaryOpaque
	link, err := url.Parse("http://127.0.0.1/authorize?request_uri=" + canaryOpaque)
	if err != nil {
		t.Fatal(err)
	}
	for name, say := range map[string]func(*slog.Logger){
		"the message":             func(l *slog.Logger) { l.Info("got " + canaryForm) },
		"a string":                func(l *slog.Logger) { l.Info("m", "url", "/cb?code="+canaryOpaque) },
		"a string behind others":  func(l *slog.Logger) { l.Info("m", "a", "b", "c", 1, "url", "/cb?code="+canaryOpaque) },
		"a string by its key":     func(l *slog.Logger) { l.Info("m", "access_token", canaryOpaque) },
		"a string by another key": func(l *slog.Logger) { l.Info("m", "ClientSecret", canaryOpaque) },
		"an error":                func(l *slog.Logger) { l.Info("m", "error", errors.New("boom: "+canaryForm)) },
		"a wrapped error":         func(l *slog.Logger) { l.Info("m", "error", fmt.Errorf("more: %w", errors.New(canaryForm))) },
		"an error of net/http":    func(l *slog.Logger) { l.Info("m", "error", &url.Error{Op: "Get", URL: link.String(), Err: io.EOF}) },
		"a fault's cause": func(l *slog.Logger) {
			l.Info("m", "error", fault.New(fault.Upstream, "no").Because(errors.New(canaryForm)))
		},
		"a group":                  func(l *slog.Logger) { l.Info("m", slog.Group("a", slog.Group("b", "c", canaryForm))) },
		"a group by its key":       func(l *slog.Logger) { l.Info("m", slog.Group("a", "refresh_token", canaryOpaque)) },
		"a LogValuer":              func(l *slog.Logger) { l.Info("m", "v", valuer{canaryForm}) },
		"a Stringer":               func(l *slog.Logger) { l.Info("m", "v", stringer{canaryForm}) },
		"a URL":                    func(l *slog.Logger) { l.Info("m", "v", link) },
		"a URL by value":           func(l *slog.Logger) { l.Info("m", "v", *link) },
		"a header":                 func(l *slog.Logger) { l.Info("m", "v", http.Header{"Authorization": {"Bearer " + canaryOpaque}}) },
		"a form":                   func(l *slog.Logger) { l.Info("m", "v", url.Values{"client_secret": {canaryOpaque}}) },
		"bytes":                    func(l *slog.Logger) { l.Info("m", "v", []byte(canaryForm)) },
		"raw JSON":                 func(l *slog.Logger) { l.Info("m", "v", json.RawMessage(`{"access_token":"`+canaryOpaque+`"}`)) },
		"a struct":                 func(l *slog.Logger) { l.Info("m", "v", struct{ AccessToken string }{canaryOpaque}) },
		"a struct with a pointer":  func(l *slog.Logger) { l.Info("m", "v", pointing{"a", &opaque}) },
		"its own JSON":             func(l *slog.Logger) { l.Info("m", "v", marshaller{canaryForm}) },
		"a list":                   func(l *slog.Logger) { l.Info("m", "v", []string{"a", canaryForm}) },
		"something under a key":    func(l *slog.Logger) { l.Info("m", "client_secret", stringer{canaryOpaque}) },
		"With":                     func(l *slog.Logger) { l.With("v", canaryForm).Info("m") },
		"With, by its key":         func(l *slog.Logger) { l.With("id_token", canaryOpaque).Info("m") },
		"WithGroup":                func(l *slog.Logger) { l.WithGroup("g").With("v", canaryForm).WithGroup("h").Info("m", "w", canaryForm) },
		"a secret.Text":            func(l *slog.Logger) { l.Info("m", "v", secret.New(canaryOpaque)) },
		"a pointer to secret.Text": func(l *slog.Logger) { l.Info("m", "v", secret.Pointer(canaryOpaque)) },
		"a struct of secret.Text":  func(l *slog.Logger) { l.Info("m", "v", struct{ T secret.Text }{secret.New(canaryOpaque)}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for format, out := range logged(say) {
				if strings.Contains(out, canaryOpaque) || strings.Contains(out, canaryOpaque[8:]) || strings.Contains(out, "Y2FuYXJ5") {
					t.Errorf("%s shows the canary: %s", format, out)
				}
				if !strings.Contains(out, "[redacted]") && !strings.Contains(out, "%5Bredacted%5D") {
					t.Errorf("%s does not say that something was taken out: %s", format, out)
				}
			}
		})
	}
}

// logged is what say writes in either format.
func logged(say func(*slog.Logger)) map[string]string {
	var text, encoded bytes.Buffer
	say(slog.New(NewHandler(slog.NewTextHandler(&text, nil))))
	say(slog.New(NewHandler(slog.NewJSONHandler(&encoded, nil))))
	return map[string]string{"text": text.String(), "JSON": encoded.String()}
}

func TestHandlerKeeps(t *testing.T) {
	t.Parallel()
	say := func(l *slog.Logger) {
		l.With("room", "broker").WithGroup("g").Info("the provider answered", "status", 200, "took", time.Second, "ok", true, "error", errors.New("code: 404"),
			slog.Group("h", "state", "ACTIVE", "code", "ValidationException"), "list", []string{"a"}, "nothing", nil)
	}
	var text, encoded bytes.Buffer
	say(slog.New(slog.NewTextHandler(&text, nil)))
	say(slog.New(slog.NewJSONHandler(&encoded, nil)))
	got := logged(say)
	for format, want := range map[string]string{"text": text.String(), "JSON": encoded.String()} {
		if withoutTime(got[format]) != withoutTime(want) {
			t.Errorf("%s: got %s, want %s", format, got[format], want)
		}
	}
}

func withoutTime(line string) string {
	_, rest, _ := strings.Cut(line, "evel") // level=, "level":
	return rest
}

func TestHandlerSurvives(t *testing.T) {
	t.Parallel()
	var nobody *stringer
	for format, out := range logged(func(l *slog.Logger) {
		l.Info("m", "v", panicking{}, "w", nobody, "x", func() {}, "y", make(chan int), "z", panicking{canaryForm})
	}) {
		if !strings.Contains(out, "[unprintable]") || strings.Contains(out, canaryOpaque) {
			t.Errorf("%s: %s", format, out)
		}
	}
}

// TestHandlerIsAHandler is the standard library's own conformance test.
func TestHandlerIsAHandler(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		out.Reset()
		return NewHandler(slog.NewJSONHandler(&out, nil))
	}, func(t *testing.T) map[string]any {
		var line map[string]any
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		return line
	})
}

func FuzzHandler(f *testing.F) {
	f.Add("message", "key", "value")
	f.Add("code=", "access_token", "\\\"")
	f.Add("%25", "", "Bearer \x00")
	f.Fuzz(func(t *testing.T, message, key, value string) {
		for format, out := range logged(func(l *slog.Logger) {
			l = l.With(key, value).WithGroup(key)
			l.Info(message, key, value, "error", errors.New(value), "any", []any{key, value}, slog.Group(key, key, value))
			l.Info(message+" access_token="+canaryOpaque, key, value+" Bearer "+canaryOpaque, "error", errors.New(value+" "+canaryJWT))
		}) {
			for _, canary := range []string{canaryOpaque, canaryJWT} {
				if strings.Contains(out, canary) {
					t.Errorf("%s shows %s: %s", format, canary, out)
				}
			}
		}
	})
}

func BenchmarkHandler(b *testing.B) {
	for name, wrap := range map[string]func(slog.Handler) slog.Handler{
		"bare":   func(h slog.Handler) slog.Handler { return h },
		"masked": NewHandler,
	} {
		b.Run(name, func(b *testing.B) {
			l := slog.New(wrap(slog.NewJSONHandler(io.Discard, nil)))
			b.ReportAllocs()
			for b.Loop() {
				l.Info("the provider answered", "status", 200, "provider", "google", "request", "4b6a4c1e-7a3f-4a0e-9c5b-0d1e2f3a4b5c", "took", time.Millisecond)
			}
		})
	}
}

// Every line that a request leaves can be found by the id that its client has.
func TestLinesNameTheirRequest(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	log := slog.New(NewHandler(slog.NewTextHandler(&out, nil)))
	ctx := principal.WithRequest(t.Context(), principal.Request{ID: "r-1"})
	log.InfoContext(ctx, "one")
	log.InfoContext(ctx, "two", "request_id", "r-1")
	log.InfoContext(ctx, "three", "access_token", "canary")
	log.Info("four")
	if got := strings.Count(out.String(), "request_id=r-1"); got != 3 || strings.Contains(out.String(), "canary") {
		t.Errorf("%d of three lines name their request once:\n%s", got, out.String())
	}
}
