package sigv4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssigner "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"pgregory.net/rapid"

	"github.com/onbehalf/onbehalf/internal/secret"
)

var signedAt = time.Date(2026, 11, 22, 11, 30, 0, 0, time.UTC)

// oracle signs with the official signer.
func oracle(t testing.TB, r *http.Request, body []byte, token string, at time.Time) {
	t.Helper()
	sum := sha256.Sum256(body)
	credentials := aws.Credentials{AccessKeyID: exampleKeyID, SecretAccessKey: exampleSecret.Reveal(), SessionToken: token}
	err := awssigner.NewSigner().SignHTTP(context.Background(), credentials, r, hex.EncodeToString(sum[:]), "bedrock-agentcore", "us-east-1", at)
	if err != nil {
		t.Fatal(err)
	}
}

// anyRequest draws a request with all that signing is sensitive to.
func anyRequest(t *rapid.T) (*http.Request, []byte) {
	path := "/" + rapid.StringN(0, 20, -1).Draw(t, "path")
	query := url.Values{}
	for range rapid.IntRange(0, 5).Draw(t, "parameters") {
		query.Add(rapid.StringN(1, 8, -1).Draw(t, "name"), rapid.String().Draw(t, "value"))
	}
	target := url.URL{Scheme: "http", Host: rapid.SampledFrom([]string{"127.0.0.1:7080", "example.com", "[::1]:80", "EXAMPLE.com:443"}).Draw(t, "host"),
		Path: path, RawPath: url.PathEscape(path[1:]), RawQuery: query.Encode()}
	target.RawPath = "/" + target.RawPath
	body := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "body")
	r, err := http.NewRequest(rapid.SampledFrom([]string{"GET", "POST", "PUT", "DELETE", "PATCH"}).Draw(t, "method"), target.String(), bytes.NewReader(body))
	if err != nil {
		t.Skip("not a URL")
	}
	value := rapid.StringMatching(`[ -~]{0,20}( {1,3}[!-~]{1,5}){0,3}`)
	for range rapid.IntRange(0, 5).Draw(t, "headers") {
		name := rapid.SampledFrom([]string{"Content-Type", "X-Amz-Meta", "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id", "Accept", "Amz-Sdk-Request", "X-Any_thing"}).Draw(t, "header")
		r.Header.Add(name, value.Draw(t, "header value"))
	}
	return r, body
}

// What the official signer signs, we verify; and what we sign is what it signs.
func TestOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r, body := anyRequest(rt)
		ours := r.Clone(context.Background())
		token := rapid.SampledFrom([]string{"", "FakeSessionToken//+=="}).Draw(rt, "token")
		oracle(t, r, body, token, signedAt)
		if err := verify(r, exampleSecret, body); err != nil {
			rt.Fatalf("%s %s: %v", r.Method, r.URL, err)
		}
		key := Key{AccessKeyID: exampleKeyID, Secret: exampleSecret, SessionToken: secret.New(token)}
		ours.Host = r.Host // the oracle cuts default ports off
		if err := Sign(ours, key, "us-east-1", "bedrock-agentcore", sha256.Sum256(body), signedAt); err != nil {
			rt.Fatal(err)
		}
		if got, want := ours.Header.Get("Authorization"), r.Header.Get("Authorization"); got != want {
			rt.Fatalf("we sign\n%s\nthe oracle\n%s", got, want)
		}
	})
}

// Over a real connection: net/http's client and server change nothing that is signed.
func TestOverTheWire(t *testing.T) {
	t.Parallel()
	answers := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		answers <- verify(r, exampleSecret, body)
	}))
	defer server.Close()
	for _, target := range []string{
		"", "/", "/a//b/", "/a/./b/../c", "/%2F%2f/%41~", "/runtimes/arn%3Aaws%3Aruntime%2Fx/invocations?qualifier=DEFAULT",
		"/tags/x?tagKeys=a:b&tagKeys=a1b&tagKeys=a+b&tagKeys=%7e%41", "/x?", "/x?a", "/x?a=&&b=c=d", "/zürich?ü=é", `/{"quoted"}|^`,
	} {
		for _, body := range []string{"", `{"a":1}`} {
			for name, sign := range map[string]func(*http.Request){
				"official": func(r *http.Request) { oracle(t, r, []byte(body), "", signedAt) },
				"ours": func(r *http.Request) {
					if err := Sign(r, Key{AccessKeyID: exampleKeyID, Secret: exampleSecret}, "us-east-1", "bedrock-agentcore", sha256.Sum256([]byte(body)), signedAt); err != nil {
						t.Fatal(err)
					}
				},
			} {
				r, err := http.NewRequest("POST", server.URL+target, bytes.NewReader([]byte(body)))
				if err != nil {
					t.Fatal(err)
				}
				sign(r)
				response, err := server.Client().Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				if err := <-answers; err != nil {
					t.Errorf("%s signer, %q with body %q: %v", name, target, body, err)
				}
			}
		}
	}
}

func BenchmarkVerify1KB(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 1024)
	r := httptest.NewRequest("POST", "http://127.0.0.1:7080/identities/GetWorkloadAccessTokenForUserId", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Amz-Sdk-Invocation-Id", "f97c10a0-2b78-4557-a23b-b12f167465df")
	r.Header.Set("Amz-Sdk-Request", "attempt=1; max=3")
	r.Header.Set("User-Agent", "aws-sdk-go-v2/1.47.7")
	oracle(b, r, body, "", signedAt)
	h, err := Parse(r)
	if err != nil {
		b.Fatal(err)
	}
	key := DeriveKey(exampleSecret, h.Credential)
	b.ReportAllocs()
	for b.Loop() {
		h, err := Parse(r)
		if err != nil {
			b.Fatal(err)
		}
		if err := h.CheckScope("us-east-1", "bedrock-agentcore"); err != nil {
			b.Fatal(err)
		}
		if err := h.CheckTime(signedAt); err != nil {
			b.Fatal(err)
		}
		if err := h.CheckHeaders(r); err != nil {
			b.Fatal(err)
		}
		if err := h.VerifyWith(r, key, sha256.Sum256(body)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDeriveKey(b *testing.B) {
	c := Credential{exampleKeyID, "20261122", "us-east-1", "bedrock-agentcore"}
	b.ReportAllocs()
	for b.Loop() {
		DeriveKey(exampleSecret, c)
	}
}
