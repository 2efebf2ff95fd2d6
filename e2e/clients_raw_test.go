package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/onbehalf/onbehalf/internal/api"
)

// answer is a response, read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) exception() (name, message, reason string) {
	var body struct {
		Type    string `json:"__type"`
		Message string
		Reason  string
	}
	_ = json.Unmarshal(a.body, &body)
	return body.Type, body.Message, body.Reason
}

func (a answer) saysNotBuilt() bool {
	name, message, _ := a.exception()
	return name == "ValidationException" && strings.Contains(message, "does not have it yet")
}

// send sends a request and reads the answer.
func send(t *testing.T, r *http.Request) answer {
	t.Helper()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, body}
}

// jsonRequest is a request with a JSON body, unsigned.
func jsonRequest(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	return r
}

// sign signs a request over its body with the official signer.
func (p *platform) sign(t *testing.T, r *http.Request, body string, at time.Time) {
	t.Helper()
	keys, err := p.aws.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.signWith(t, r, body, at, keys, "us-east-1", "bedrock-agentcore")
}

func (p *platform) signWith(t *testing.T, r *http.Request, body string, at time.Time, keys aws.Credentials, region, service string) {
	t.Helper()
	hash := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(context.Background(), keys, r, hex.EncodeToString(hash[:]), service, region, at); err != nil {
		t.Fatal(err)
	}
}

var label = regexp.MustCompile(`\{\w+\}`)

// probe calls an operation with nothing in it.
func (p *platform) probe(t *testing.T, op *api.Info) answer {
	t.Helper()
	r := jsonRequest(t, op.Method, p.url+label.ReplaceAllString(op.Path, "x"), "{}")
	p.sign(t, r, "{}", time.Now())
	return send(t, r)
}

// built is the operations that a platform does not say it has not.
func (p *platform) built(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, op := range api.Operations {
		if op.Service != "onbehalf" && !p.probe(t, op).saysNotBuilt() { // ours have clients of their own
			names = append(names, op.Name)
		}
	}
	if len(names) < 25 {
		t.Errorf("only %d operations are built: %q", len(names), names)
	}
	return names
}

// An operation that is not built says so, in a way that no SDK tries again, and
// only to who may ask. None is unknown, none fails.
func TestEveryOperationAnswers(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	unbuilt := 0
	for _, op := range api.Operations {
		got := p.probe(t, op)
		name, message, reason := got.exception()
		switch {
		case got.saysNotBuilt():
			unbuilt++
			if got.status != http.StatusBadRequest || reason == "" || !strings.Contains(message, op.Name) {
				t.Errorf("%s: status %d, reason %q, message %q", op.Name, got.status, reason, message)
			}
		case got.status >= 500 || name == "UnknownOperationException":
			t.Errorf("%s: status %d %s: %s", op.Name, got.status, name, message)
		}
		if got.status >= 400 {
			checkErrorShape(t, op.Name, got)
		}
		unsigned := send(t, jsonRequest(t, op.Method, p.url+label.ReplaceAllString(op.Path, "x"), "{}"))
		if name, _, _ := unsigned.exception(); unsigned.status != http.StatusForbidden || name != "MissingAuthenticationTokenException" {
			t.Errorf("%s unsigned: status %d %s", op.Name, unsigned.status, name)
		}
		checkErrorShape(t, op.Name+" unsigned", unsigned)
	}
	if built := len(api.Operations) - unbuilt; built < 25 {
		t.Errorf("only %d operations are built", built)
	}
	nowhere := jsonRequest(t, http.MethodPost, p.url+"/identities/CreateWorkloadIdentities", "{}")
	p.sign(t, nowhere, "{}", time.Now())
	got := send(t, nowhere)
	if name, _, _ := got.exception(); got.status != http.StatusNotFound || name != "UnknownOperationException" {
		t.Errorf("a path that no model has: status %d %s", got.status, name)
	}
}

// checkErrorShape holds an error against what SDKs need of any: a name in
// header and body, a message, a request id, and the date that they mend their clock by.
func checkErrorShape(t *testing.T, where string, a answer) {
	t.Helper()
	name, message, _ := a.exception()
	if name == "" || message == "" || a.header.Get("X-Amzn-Errortype") != name || len(a.header.Get("X-Amzn-Requestid")) != 36 || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: status %d, error type %q in the header and %q in the body, request id %q, message %q", where, a.status,
			a.header.Get("X-Amzn-Errortype"), name, a.header.Get("X-Amzn-Requestid"), message)
	}
	if date, err := http.ParseTime(a.header.Get("Date")); err != nil || time.Since(date).Abs() > time.Minute {
		t.Errorf("%s: the Date is %q", where, a.header.Get("Date"))
	}
}

// What does not carry a good signature over itself is refused with AWS's codes.
func TestSignaturesThatDoNotHold(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	const path, body = "/identities/ListWorkloadIdentities", `{"maxResults":1}`
	keys, err := p.aws.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const (
		missing = "MissingAuthenticationTokenException"
		unknown = "UnrecognizedClientException"
		invalid = "InvalidSignatureException"
	)
	signed := func(at time.Time) *http.Request {
		r := jsonRequest(t, http.MethodPost, p.url+path, body)
		p.sign(t, r, body, at)
		return r
	}
	as := func(change func(*aws.Credentials), region, service string) *http.Request {
		r, keys := jsonRequest(t, http.MethodPost, p.url+path, body), keys
		change(&keys)
		p.signWith(t, r, body, time.Now(), keys, region, service)
		return r
	}
	changed := func(change func(*http.Request)) *http.Request {
		r := signed(time.Now())
		change(r)
		return r
	}
	own := func(*aws.Credentials) {}
	rebody := func(r *http.Request, body string) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	for what, try := range map[string]struct {
		request *http.Request
		name    string
		says    string
	}{
		"no signature":              {jsonRequest(t, http.MethodPost, p.url+path, body), missing, ""},
		"a bearer token":            {changed(func(r *http.Request) { r.Header.Set("Authorization", "Bearer abc") }), invalid, ""},
		"a wrong secret":            {as(func(k *aws.Credentials) { k.SecretAccessKey = strings.Repeat("x", 40) }, "us-east-1", "bedrock-agentcore"), invalid, "does not match"},
		"an unknown key":            {as(func(k *aws.Credentials) { k.AccessKeyID = "AKIAUNKNOWNUNKNOWN00" }, "us-east-1", "bedrock-agentcore"), unknown, ""},
		"a session token":           {as(func(k *aws.Credentials) { k.SessionToken = "abc" }, "us-east-1", "bedrock-agentcore"), unknown, ""},
		"an unsigned session token": {changed(func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "abc") }), unknown, ""},
		"another region":            {as(own, "eu-west-1", "bedrock-agentcore"), invalid, ""},
		"another service":           {as(own, "us-east-1", "s3"), invalid, ""},
		"an altered body":           {changed(func(r *http.Request) { rebody(r, `{"maxResults":2}`) }), invalid, ""},
		"a longer body":             {changed(func(r *http.Request) { rebody(r, body+" ") }), invalid, ""},
		"no body":                   {changed(func(r *http.Request) { rebody(r, "") }), invalid, ""},
		"another method's path":     {changed(func(r *http.Request) { r.URL.Path = "/identities/get-token-vault" }), invalid, ""},
		"a query":                   {changed(func(r *http.Request) { r.URL.RawQuery = "a=b" }), invalid, ""},
		"an unsigned x-amz header":  {changed(func(r *http.Request) { r.Header.Set("X-Amz-Target", "abc") }), invalid, ""},
		"another date": {changed(func(r *http.Request) {
			r.Header.Set("X-Amz-Date", time.Now().UTC().Add(time.Second).Format("20060102T150405Z"))
		}), invalid, ""},
		"no date":              {changed(func(r *http.Request) { r.Header.Del("X-Amz-Date") }), invalid, ""},
		"a date 6 minutes ago": {signed(time.Now().Add(-6 * time.Minute)), invalid, "Signature expired"},
		"a date in 6 minutes":  {signed(time.Now().Add(6 * time.Minute)), invalid, "Signature not yet current"},
		"a date of yesterday":  {signed(time.Now().Add(-24 * time.Hour)), invalid, "Signature expired"},
	} {
		got := send(t, try.request)
		name, message, _ := got.exception()
		if got.status != http.StatusForbidden || name != try.name || !strings.Contains(message, try.says) {
			t.Errorf("%s: status %d %s: %s", what, got.status, name, message)
		}
		checkErrorShape(t, what, got)
		if strings.Contains(string(got.body), keys.SecretAccessKey) {
			t.Errorf("%s: the answer has the secret key in it", what)
		}
	}

	// What is inside the five minutes, and what SDKs leave unsigned, is good.
	for what, r := range map[string]*http.Request{
		"now":                 signed(time.Now()),
		"4 minutes ago":       signed(time.Now().Add(-4 * time.Minute)),
		"in 4 minutes":        signed(time.Now().Add(4 * time.Minute)),
		"with a trace header": changed(func(r *http.Request) { r.Header.Set("X-Amzn-Trace-Id", "Root=1-0-0") }),
		"with a trailing slash": func() *http.Request {
			r := jsonRequest(t, http.MethodPost, p.url+path+"/", body)
			p.sign(t, r, body, time.Now())
			return r
		}(),
	} {
		if got := send(t, r); got.status != http.StatusOK {
			t.Errorf("%s: status %d: %s", what, got.status, got.body)
		}
	}

	// A presigned URL would be a password in a log.
	presigned := jsonRequest(t, http.MethodPost, p.url+path, body)
	hash := sha256.Sum256([]byte(body))
	link, header, err := v4.NewSigner().PresignHTTP(t.Context(), keys, presigned, hex.EncodeToString(hash[:]), "bedrock-agentcore", "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r := jsonRequest(t, http.MethodPost, link, body)
	for name, values := range header {
		if name != "Host" && name != "Content-Length" {
			r.Header[name] = values
		}
	}
	got := send(t, r)
	if name, _, _ := got.exception(); got.status != http.StatusForbidden || name != invalid {
		t.Errorf("a presigned URL: status %d %s", got.status, name)
	}
}
