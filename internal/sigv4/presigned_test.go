package sigv4

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssigner "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"pgregory.net/rapid"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// arrives is a URL as the server of its host gets it.
func arrives(t testing.TB, address string) *http.Request {
	t.Helper()
	address = "https" + strings.TrimPrefix(strings.TrimPrefix(address, "https"), "wss")
	return httptest.NewRequest(http.MethodGet, address, nil)
}

// open makes all steps that auth makes for a presigned URL.
func open(r *http.Request, key secret.Text, now time.Time) error {
	h, err := ParsePresigned(r)
	if err != nil {
		return err
	}
	if err := h.CheckScope("us-east-1", "bedrock-agentcore"); err != nil {
		return err
	}
	if err := h.CheckTime(now); err != nil {
		return err
	}
	if err := h.CheckHeaders(r); err != nil {
		return err
	}
	return h.Verify(r, key, sha256.Sum256(nil))
}

// What the published SDKs presign is taken until it expires, and nothing else
// that could be made of it.
func TestPresignedByPublishedClients(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("testdata/presigned.txt")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for line := range strings.Lines(string(content)) {
		name, address, _ := strings.Cut(strings.TrimSpace(line), " ")
		count++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := arrives(t, address)
			h, err := ParsePresigned(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := open(r, exampleSecret, h.Time); err != nil {
				t.Fatal(err)
			}
			if !Presigned(r) || h.AccessKeyID != exampleKeyID || strings.Contains(name, "token") == h.SessionToken.Empty() {
				t.Errorf("%+v", h)
			}
			if _, err := Parse(r); !fault.Is(err, fault.BadSignature) {
				t.Errorf("another door takes it: %v", err)
			}
			for what, at := range map[string]time.Duration{"first": -MaxSkew, "last": h.life} {
				if err := open(r, exampleSecret, h.Time.Add(at)); err != nil {
					t.Errorf("in its %s second: %v", what, err)
				}
			}
			for what, at := range map[string]time.Duration{"before": -MaxSkew - time.Second, "after": h.life + time.Second} {
				if err := open(r, exampleSecret, h.Time.Add(at)); !fault.Is(err, fault.BadSignature) {
					t.Errorf("%s its life: %v", what, err)
				}
			}
			if err := open(r, secret.New("another"), h.Time); !fault.Is(err, fault.BadSignature) {
				t.Errorf("with another secret: %v", err)
			}
			for _, alter := range alterations(address) {
				if err := open(arrives(t, alter), exampleSecret, h.Time); !fault.Is(err, fault.BadSignature) {
					t.Errorf("%s: %v", alter, err)
				}
			}
			post := arrives(t, address)
			post.Method = http.MethodPost
			if err := open(post, exampleSecret, h.Time); !fault.Is(err, fault.BadSignature) {
				t.Errorf("as POST: %v", err)
			}
			for name, value := range map[string]string{
				"X-Amzn-Bedrock-Agentcore-Runtime-User-Id": "ada", "X-Amzn-Bedrock-Agentcore-Runtime-Session-Id": "another", "X-Amz-Security-Token": "x", "Authorization": "Bearer x",
			} {
				added := arrives(t, address)
				added.Header.Set(name, value)
				if err := open(added, exampleSecret, h.Time); !fault.Is(err, fault.BadSignature) {
					t.Errorf("with a header %s that its maker did not sign: %v", name, err)
				}
			}
		})
	}
	if count < 7 {
		t.Errorf("only %d URLs", count)
	}
}

// alterations are what a holder of a URL may try.
func alterations(address string) []string {
	replace := func(old, with string) string { return strings.Replace(address, old, with, 1) }
	made := []string{
		address + "&X-Amzn-Bedrock-AgentCore-Runtime-User-Id=ada", address + "&qualifier=OTHER", address + "&X-Amz-Expires=299", address + "&X-Amz-Signature=" + strings.Repeat("0", 64),
		replace("my_agent", "my_other"), replace("/ws?", "/invocations?"), replace("/ws?", "/ws/?"), replace("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=host%3Bx-other"),
		replace("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=user-agent"), replace("X-Amz-SignedHeaders=host", ""), replace("wss://", "wss://evil."),
		replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), replace("us-east-1%2Fbedrock", "eu-west-1%2Fbedrock"), replace("bedrock-agentcore%2Faws4", "s3%2Faws4"),
		replace("X-Amz-Signature=", "X-Amz-Signature=0"), replace("X-Amz-Signature=", "x-amz-signature="), replace("X-Amz-Expires=", "X-Amz-Expires=1"), replace("X-Amz-Date=2026", "X-Amz-Date=2025"),
	}
	for _, parameter := range []string{"X-Amz-Expires=300", "X-Amz-Expires=60"} {
		for _, value := range []string{"301", "0", "-1", "1e2", "", "+60", "99999999999999999999"} {
			if with := replace(parameter, "X-Amz-Expires="+value); with != address {
				made = append(made, with)
			}
		}
	}
	return made
}

// What the official Go signer presigns is taken, whatever the query holds; with
// UNSIGNED-PAYLOAD, which is S3's, it is not.
func TestPresignOracle(t *testing.T) {
	t.Parallel()
	empty := "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	rapid.Check(t, func(rt *rapid.T) {
		query := url.Values{"X-Amz-Expires": {"300"}}
		for range rapid.IntRange(0, 4).Draw(rt, "parameters") {
			name := rapid.StringN(1, 8, -1).Draw(rt, "name")
			if strings.HasPrefix(strings.ToLower(name), "x-amz-") {
				continue
			}
			query.Add(name, rapid.String().Draw(rt, "value"))
		}
		address := &url.URL{Scheme: "https", Host: rapid.SampledFrom([]string{"127.0.0.1:7080", "example.com", "[::1]:8443"}).Draw(rt, "host"),
			Path: "/runtimes/arn:aws:x/y/ws", RawPath: "/runtimes/arn%3Aaws%3Ax%2Fy/ws", RawQuery: query.Encode()}
		r, err := http.NewRequest(http.MethodGet, address.String(), nil)
		if err != nil {
			rt.Skip("not a URL")
		}
		credentials := aws.Credentials{AccessKeyID: exampleKeyID, SecretAccessKey: exampleSecret.Reveal(), SessionToken: rapid.SampledFrom([]string{"", "FakeSessionToken//+=="}).Draw(rt, "token")}
		payload := rapid.SampledFrom([]string{empty, "UNSIGNED-PAYLOAD"}).Draw(rt, "payload")
		signed, _, err := awssigner.NewSigner().PresignHTTP(context.Background(), credentials, r, payload, "bedrock-agentcore", "us-east-1", signedAt)
		if err != nil {
			rt.Fatal(err)
		}
		if err := open(arrives(t, signed), exampleSecret, signedAt.Add(time.Minute)); (err == nil) != (payload == empty) {
			rt.Fatalf("%s: %v", signed, err)
		}
	})
}

func TestWithoutPort(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{"example.com": "example.com", "example.com:443": "example.com", "[::1]:80": "[::1]", "[::1]": "[::1]", "": ""} {
		if got := withoutPort(host); got != want {
			t.Errorf("%q is %q", host, got)
		}
	}
}

func FuzzParsePresigned(f *testing.F) {
	content, err := os.ReadFile("testdata/presigned.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		_, query, _ := strings.Cut(strings.TrimSpace(line), "?")
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := &http.Request{Method: http.MethodGet, Host: "example.com", URL: &url.URL{Path: "/", RawQuery: query}, Header: http.Header{}}
		h, err := ParsePresigned(r)
		if err != nil {
			if !fault.Is(err, fault.BadSignature) {
				t.Fatal(err)
			}
			return
		}
		if h.life <= 0 || h.life > MaxLife || h.AccessKeyID == "" || len(h.SignedHeaders) == 0 {
			t.Fatalf("%+v", h)
		}
		if h.Verify(r, secret.New("a key that signed nothing"), sha256.Sum256(nil)) == nil {
			t.Fatal("a made-up signature verifies")
		}
	})
}
