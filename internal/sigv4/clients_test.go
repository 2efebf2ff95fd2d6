package sigv4

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// The example key of AWS's documentation, with which the recordings are signed.
const exampleKeyID = "AKIAIOSFODNN7EXAMPLE"

var exampleSecret = secret.New("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")

// recorded is one request as net/http's server reads it.
func recorded(t testing.TB, raw []byte) (*http.Request, []byte) {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, body
}

// verify makes all steps that auth makes, at the moment of the signature.
func verify(r *http.Request, key secret.Text, body []byte) error {
	h, err := Parse(r)
	if err != nil {
		return err
	}
	if err := h.CheckScope("us-east-1", "bedrock-agentcore"); err != nil {
		return err
	}
	if err := h.CheckTime(h.Time); err != nil {
		return err
	}
	if err := h.CheckHeaders(r); err != nil {
		return err
	}
	return h.Verify(r, key, sha256.Sum256(body))
}

func TestRecordedClients(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/requests/*.http")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d recordings (%v)", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".http"), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			r, body := recorded(t, raw)
			if err := verify(r, exampleSecret, body); err != nil {
				t.Fatalf("a good request is refused: %v", err)
			}
			h, _ := Parse(r)
			if h.AccessKeyID != exampleKeyID {
				t.Errorf("key %q", h.AccessKeyID)
			}
			if wants := strings.Contains(file, "session"); wants == h.SessionToken.Empty() {
				t.Errorf("session token empty: %t", h.SessionToken.Empty())
			}
			refuses(t, "another secret", raw, func(*http.Request, *[]byte) {}, secret.New("another"))
			refuses(t, "a byte more", raw, func(_ *http.Request, body *[]byte) { *body = append(*body, ' ') }, exampleSecret)
			if len(body) > 0 {
				refuses(t, "a byte flipped", raw, func(_ *http.Request, body *[]byte) { (*body)[0] ^= 1 }, exampleSecret)
			}
			refuses(t, "another method", raw, func(r *http.Request, _ *[]byte) { r.Method = "PATCH" }, exampleSecret)
			refuses(t, "another host", raw, func(r *http.Request, _ *[]byte) { r.Host = "example.com" }, exampleSecret)
			refuses(t, "another path", raw, func(r *http.Request, _ *[]byte) { r.RequestURI = "/x" + r.RequestURI }, exampleSecret)
			refuses(t, "one more parameter", raw, func(r *http.Request, _ *[]byte) {
				if strings.Contains(r.RequestURI, "?") {
					r.RequestURI += "&a=b"
				} else {
					r.RequestURI += "?a=b"
				}
			}, exampleSecret)
			for _, name := range h.SignedHeaders {
				if name == "host" || name == "content-length" || name == "x-amz-date" {
					continue
				}
				refuses(t, "altered "+name, raw, func(r *http.Request, _ *[]byte) { r.Header.Set(name, r.Header.Get(name)+"x") }, exampleSecret)
				refuses(t, "without "+name, raw, func(r *http.Request, _ *[]byte) { r.Header.Del(name) }, exampleSecret)
				refuses(t, "twice "+name, raw, func(r *http.Request, _ *[]byte) { r.Header.Add(name, "x") }, exampleSecret)
			}
		})
	}
}

func refuses(t *testing.T, what string, raw []byte, alter func(*http.Request, *[]byte), key secret.Text) {
	t.Helper()
	r, body := recorded(t, raw)
	alter(r, &body)
	if err := verify(r, key, body); !fault.Is(err, fault.BadSignature) {
		t.Errorf("%s: %v, want BadSignature", what, err)
	}
}

// The same requests from someone whose session token, date or body hash was
// taken out on the way.
func TestRecordedWithoutDate(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/requests/js-get-gateway.http")
	if err != nil {
		t.Fatal(err)
	}
	r, body := recorded(t, raw)
	r.Header.Del("X-Amz-Date")
	r.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	if err := verify(r, exampleSecret, body); !fault.Is(err, fault.BadSignature) {
		t.Errorf("%v, want BadSignature", err)
	}
}
