package server_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssigner "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/onbehalf/onbehalf/internal/servertest"
)

// nobodysAgent is a runtime that is not there: who is let in hears a 404.
const nobodysAgent = "/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aus-east-1%3A000000000000%3Aruntime%2Fnobodys-0123456789"

// attacker knows the root key, and signs what he does not mean.
type attacker struct {
	*servertest.Platform
	t    *testing.T
	keys aws.Credentials
	host string
}

func newAttacker(t *testing.T) *attacker {
	t.Helper()
	p := servertest.Start(t)
	keys, err := p.AWS.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := url.Parse(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	return &attacker{p, t, keys, parsed.Host}
}

// signed is a request whose signature is good for the body.
func (a *attacker) signed(method, path, body string, known bool) *http.Request {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.URL()+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if !known {
		r.ContentLength = -1
	}
	r.Header.Set("Content-Type", "application/json")
	sum := sha256.Sum256([]byte(body))
	if err := awssigner.NewSigner().SignHTTP(context.Background(), a.keys, r, hex.EncodeToString(sum[:]), "bedrock-agentcore", "us-east-1", time.Now()); err != nil {
		a.t.Fatal(err)
	}
	return r
}

// text is a request as it goes over the wire, without its body.
func text(r *http.Request, lines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", r.Method, r.URL.RequestURI(), r.URL.Host)
	for name, values := range r.Header {
		for _, value := range values {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	if r.ContentLength >= 0 {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", r.ContentLength)
	}
	for _, line := range lines {
		b.WriteString(line + "\r\n")
	}
	return b.String() + "\r\n"
}

// send writes bytes as they are and reads all answers. leave ends the sending:
// a server takes it for the client's leaving.
func (a *attacker) send(bytes string, leave bool) string {
	a.t.Helper()
	connection, err := net.Dial("tcp", a.host)
	if err != nil {
		a.t.Fatal(err)
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(connection, bytes); err != nil {
		a.t.Fatal(err)
	}
	if leave {
		_ = connection.(*net.TCPConn).CloseWrite()
	}
	answer, _ := io.ReadAll(bufio.NewReader(connection))
	return string(answer)
}

// A presigned URL opens websockets of agents, and is nobody's at every other door.
func TestPresignedURLsAreForWebsockets(t *testing.T) {
	t.Parallel()
	a := newAttacker(t)
	for path, methods := range map[string][]string{
		nobodysAgent + "/invocations":                              {http.MethodPost},
		nobodysAgent + "/commands":                                 {http.MethodPost},
		nobodysAgent + "/stopruntimesession":                       {http.MethodPost},
		nobodysAgent + "/invocations/.well-known/agent-card.json":  {http.MethodGet},
		"/runtimes/nobodys-0123456789/":                            {http.MethodGet, http.MethodDelete},
		"/identities/GetWorkloadAccessToken":                       {http.MethodPost},
		"/onbehalf/ListGrants":                                     {http.MethodPost},
		"/onbehalf/PutAgentCode":                                   {http.MethodPost},
		"/":                                                        {http.MethodPost},
		"/gateway/nobodys-0123456789/mcp":                          {http.MethodPost},
		"/identities/GetWorkloadAccessToken?X-Amz-Expires=1":       {http.MethodPost},
		nobodysAgent + "/invocations?qualifier=DEFAULT&accountId=": {http.MethodPost},
	} {
		for _, method := range methods {
			r, err := http.NewRequestWithContext(t.Context(), method, a.URL()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			query := r.URL.Query()
			query.Set("X-Amz-Expires", "300")
			r.URL.RawQuery = query.Encode()
			service := "bedrock-agentcore"
			if path == "/" {
				service = "iam"
			}
			const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
			address, _, err := awssigner.NewSigner().PresignHTTP(context.Background(), a.keys, r, empty, service, "us-east-1", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			presigned, err := http.NewRequestWithContext(t.Context(), method, address, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultClient.Do(presigned)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			refused := response.StatusCode == http.StatusForbidden && strings.Contains(string(body), "Presigned requests are not accepted here")
			if strings.HasPrefix(path, "/gateway/") { // which knows no signatures at all
				refused = response.StatusCode >= 400 && response.StatusCode < 500
			}
			if !refused {
				t.Errorf("%s %s: %d %s", method, path, response.StatusCode, body)
			}
		}
	}
}

// Headers that mean something to an agent's call must be signed; those that only
// the platform may set, and which one SDK adds unsigned, mean nothing.
func TestHeadersThatNobodySigned(t *testing.T) {
	t.Parallel()
	a := newAttacker(t)
	for name, want := range map[string]string{
		"X-Amzn-Bedrock-AgentCore-Runtime-User-Id":     "InvalidSignatureException",
		"X-Amzn-Bedrock-AgentCore-Runtime-Session-Id":  "InvalidSignatureException",
		"X-Amzn-Bedrock-AgentCore-Runtime-Custom-Note": "InvalidSignatureException",
		"X-Amz-Security-Token":                         "UnrecognizedClientException",
		"X-Amz-Bedrock-AgentCore-Identity-WAT":         "ResourceNotFoundException",
		"WorkloadAccessToken":                          "ResourceNotFoundException",
		"OAuth2CallbackUrl":                            "ResourceNotFoundException",
		"Traceparent":                                  "ResourceNotFoundException",
		"X-Amzn-Trace-Id":                              "ResourceNotFoundException",
	} {
		r := a.signed(http.MethodPost, nobodysAgent+"/invocations", `{"prompt":"hi"}`, true)
		r.Header.Set(name, "0123456789abcdef0123456789abcdef-of-somebody-else")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if got := response.Header.Get("X-Amzn-Errortype"); got != want {
			t.Errorf("%s unsigned: %d %s, want %s", name, response.StatusCode, got, want)
		}
	}
}

// What can be done with the framing of a request, at the door of agents and at
// that of operations: both refuse, none waits, and nothing but the request that
// was signed is ever answered with what it asked for.
func TestFramingOfRequests(t *testing.T) {
	t.Parallel()
	a := newAttacker(t)
	const agents, operations = nobodysAgent + "/invocations", "/onbehalf/ListGrants"
	of := func(path string, known bool) *http.Request { return a.signed(http.MethodPost, path, `{}`, known) }
	for _, c := range []struct {
		name, path, sent, want string
	}{
		{"chunks", agents, text(of(agents, false), "Transfer-Encoding: chunked") + "2\r\n{}\r\n0\r\n\r\n", "ResourceNotFoundException"},
		{"chunks", operations, text(of(operations, false), "Transfer-Encoding: chunked") + "2\r\n{}\r\n0\r\n\r\n", `{"grants":[]}`},
		{"chunks that end early", agents, text(of(agents, false), "Transfer-Encoding: chunked") + "2\r\n{}\r\n", "ValidationException"},
		{"other chunks", agents, text(of(agents, false), "Transfer-Encoding: chunked") + "3\r\n{ }\r\n0\r\n\r\n", "InvalidSignatureException"},
		{"a body that ends early", agents, text(of(agents, true)) + "{", "ValidationException"},
		{"two lengths", agents, text(of(agents, true), "Content-Length: 7") + "{}GET / ", "400 Bad Request"},
		{"two codings", agents, text(of(agents, false), "Transfer-Encoding: chunked", "Transfer-Encoding: identity") + "{}", "501 Not Implemented"},
		{"a coding nobody knows", agents, text(of(agents, false), "Transfer-Encoding: gzip") + "{}", "501 Not Implemented"},
		{"garbage behind", agents, text(of(agents, true)) + "{}POST " + operations + " HTTP/1.1\r\n\r\n", "ResourceNotFoundException"},
		{"two Authorizations", agents, text(of(agents, true), "Authorization: Bearer abc") + "{}", "InvalidSignatureException"},
		{"two Authorizations", operations, text(of(operations, true), "Authorization: Bearer abc") + "{}", "InvalidSignatureException"},
		{"two hosts", agents, text(of(agents, true), "Host: elsewhere") + "{}", "400 Bad Request"},
		{"another host", agents, strings.Replace(text(of(agents, true)), "Host: "+a.host, "Host: elsewhere", 1) + "{}", "InvalidSignatureException"},
		{"asks first", agents, text(of(agents, true), "Expect: 100-continue") + "{}", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404"},
		{"asks first, unsigned", agents, strings.Replace(text(of(agents, true), "Expect: 100-continue"), "AKIA", "AKIB", 1), "HTTP/1.1 403"},
		{"asks first, too long", agents, strings.Replace(text(of(agents, true), "Expect: 100-continue"), "Content-Length: 2", "Content-Length: 104857601", 1), "HTTP/1.1 400"},
		{"expects something else", agents, text(of(agents, true), "Expect: a-miracle") + "{}", "417 Expectation Failed"},
	} {
		got := a.send(c.sent, strings.Contains(c.name, "early"))
		if !strings.Contains(got, c.want) {
			t.Errorf("%s at %s: %q, want %q", c.name, c.path, got, c.want)
		}
		if c.want == "HTTP/1.1 403" || c.want == "HTTP/1.1 400" {
			if strings.Contains(got, "100 Continue") {
				t.Errorf("%s at %s: the body was asked for: %q", c.name, c.path, got)
			}
		}
		if strings.Count(got, "x-amzn-RequestId")+strings.Count(got, "X-Amzn-Requestid") > 1 {
			t.Errorf("%s at %s: more than one answer: %q", c.name, c.path, got)
		}
	}
}
