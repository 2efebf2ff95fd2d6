package server_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
	"github.com/onbehalf/onbehalf/internal/sigv4"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// TestEveryConstraintOfTheModels holds a running server to the model files. For
// each operation, and each member down to the leaves, it sends values that break
// each constraint and values just within it, signed, over HTTP:
//
//	model/*.json ─ constraints_model_test.go ─▶ shapes ─ constraints_cases_test.go ─▶ requests ─▶ answers
//
// What breaks a constraint is a ValidationException with status 400 that names
// the member; what keeps all of them is not complained of; nothing is ever a
// 500, and nothing that breaks a constraint is ever a success.
func TestEveryConstraintOfTheModels(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		holdToTheModels(t, servertest.Start(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		if os.Getenv(storetest.Variable) == "" {
			t.Skipf("%s is not set", storetest.Variable)
		}
		holdToTheModels(t, servertest.Start(t, func(c *server.Config) {
			c.DatabaseURL = secret.New(storetest.Postgres(t))
		}))
	})
}

// builtByNow are operations without which the test would examine next to nothing.
var builtByNow = []string{
	"CreateWorkloadIdentity", "GetResourceOauth2Token", "GetResourceApiKey", "CompleteResourceTokenAuth", "CreateOauth2CredentialProvider",
	"CreateApiKeyCredentialProvider", "GetTokenVault", "TagResource", "CreateGateway", "CreateGatewayTarget",
	"CreateAgentRuntime", "GetAgentRuntime", "UpdateAgentRuntime", "DeleteAgentRuntime", "ListAgentRuntimes", "ListAgentRuntimeVersions",
	"CreateAgentRuntimeEndpoint", "GetAgentRuntimeEndpoint", "UpdateAgentRuntimeEndpoint", "DeleteAgentRuntimeEndpoint", "ListAgentRuntimeEndpoints",
}

func holdToTheModels(t *testing.T, p *servertest.Platform) {
	keys, err := p.AWS.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	examined := &examination{
		t: t, url: p.URL(), key: sigv4.Key{AccessKeyID: keys.AccessKeyID, Secret: secret.New(keys.SecretAccessKey)},
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: 30 * time.Second},
	}
	defer examined.client.CloseIdleConnections()
	models := readModels(t)
	requests := make(chan probe, 64)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for request := range requests {
				examined.examine(request)
			}
		})
	}
	var built []string
	for _, op := range api.Operations {
		requests := requests
		for i, request := range probesOf(models[op.Service], op) {
			if i == 0 { // the request that keeps everything tells whether the operation is there
				if examined.examine(request) {
					break
				}
				built = append(built, op.Name)
				continue
			}
			requests <- request
		}
	}
	close(requests)
	workers.Wait()
	for _, name := range builtByNow {
		if !slices.Contains(built, name) {
			t.Errorf("%s says that it is not built", name)
		}
	}
	if response, err := examined.client.Get(p.URL() + "/ping"); err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("after all that the server does not answer: %v, %v", response, err)
	} else {
		_ = response.Body.Close()
	}
	t.Logf("%d requests to %d operations, %d of them built", examined.count.Load(), len(api.Operations), len(built))
}

// probe is one request and what it must be answered.
type probe struct {
	op     *api.Info
	what   string
	path   string // of the member
	url    string // path and query
	header http.Header
	body   string
	expect expectation
}

// probesOf makes all requests to an operation, a good one first.
func probesOf(model *serviceModel, op *api.Info) []probe {
	c := cases{model}
	input := &shapeModel{Type: "structure"}
	if shape := model.Operations[op.Name].Input.Shape; shape != "" {
		input = model.Shapes[shape]
	}
	good := c.request(op, input, "", variant{})
	good.what, good.expect = "the least that is good", accepted
	all := []probe{good}
	for _, name := range input.names() {
		m := input.Members[name]
		if model.Shapes[m.Shape].Type == "blob" || input.Payload == name {
			continue // any bytes are good
		}
		for _, v := range c.ofMember(input, name, "", map[string]int{}) {
			switch {
			case m.Location == "":
			case v.expect == mistyped && (model.Shapes[m.Shape].Type != "integer" || v.text == "" || v.text == "01"), strings.HasPrefix(v.json, "[") || strings.HasPrefix(v.json, "{"),
				m.Location == "uri" && (v.absent || v.text == ""), v.json == "null", strings.ContainsAny(v.text, "\x00\n\r") && m.Location == "header":
				continue // outside a body there are neither types nor null, and an empty label is another path
			}
			request := c.request(op, input, name, v)
			request.what, request.path, request.expect = v.what, v.path, v.expect
			all = append(all, request)
		}
	}
	if input.Payload != "" || op.Method == http.MethodGet || op.Method == http.MethodDelete {
		return all
	}
	whole := func(what, body string, expect expectation) {
		request := good
		request.what, request.body, request.expect = what, body, expect
		all = append(all, request)
	}
	for _, body := range []string{"nonsense", `[]`, `"text"`, `1`, "\x00", "{\"a\":\"\xff\"}", "{", "{}}", `{"a":1}{"b":2}`, `{"a" 1}`, `{a:1}`, "\xef\xbb\xbf{}", "{\"a\":\"b\x00\"}"} {
		whole("the body "+shorten(fmt.Sprintf("%q", body)), body, mistyped)
	}
	deep := strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)
	whole("a body 100,000 levels deep", deep, mistyped)
	whole("a member nobody knows, 10,000 levels deep", `{"unknown":`+strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000)+`}`, mistyped)
	members := strings.TrimSuffix(strings.TrimPrefix(good.body, "{"), "}")
	if members != "" {
		members = "," + members
	}
	unknown := `"unknown":{"a":[1,null,{"b":"c"}]}`
	whole("members nobody knows", "{"+unknown+members+"}", accepted)
	whole("members twice", "{"+unknown+members+","+unknown+members+"}", accepted)
	return all
}

// request is a good request in which one member is as the variant has it.
func (c cases) request(op *api.Info, input *shapeModel, name string, v variant) probe {
	r := probe{op: op, url: op.Path, header: http.Header{}}
	query := url.Values{}
	for _, member := range input.names() {
		m := input.Members[member]
		if m.Location == "" {
			continue
		}
		text := v.text
		if member != name {
			if !input.requires(member) && m.Location != "uri" {
				continue
			}
			text = strings.Trim(c.good(m.Shape, map[string]int{}), `"[]`)
		} else if v.absent {
			continue
		}
		switch m.Location {
		case "uri":
			for _, label := range []string{"{" + member + "}", "{" + m.LocationName + "}"} {
				r.url = strings.ReplaceAll(r.url, label, escape(text))
			}
		case "querystring":
			query.Set(m.LocationName, text)
		case "header":
			r.header.Set(m.LocationName, text)
		}
	}
	if len(query) > 0 {
		r.url += "?" + query.Encode()
	}
	if op.Method == http.MethodGet || op.Method == http.MethodDelete {
		return r
	}
	replaced := v.json
	if v.absent || input.Members[name] != nil && input.Members[name].Location != "" {
		replaced = ""
	}
	r.body = "{" + strings.Join(c.members(input, map[string]int{}, name, replaced), ",") + "}"
	return r
}

// escape is how SDKs put text into a path.
func escape(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// examination is a running server under examination.
type examination struct {
	t      *testing.T
	url    string
	key    sigv4.Key
	client *http.Client
	count  atomic.Int64
	failed atomic.Int64
}

// examine sends a request and judges the answer; it reports whether the operation is not built.
func (e *examination) examine(p probe) (unbuilt bool) {
	e.count.Add(1)
	r, err := http.NewRequestWithContext(e.t.Context(), p.op.Method, e.url+p.url, strings.NewReader(p.body))
	if err != nil {
		e.complain(p, "cannot be sent: %v", err)
		return false
	}
	for name, values := range p.header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/json")
	if err := sigv4.Sign(r, e.key, "us-east-1", "bedrock-agentcore", sha256.Sum256([]byte(p.body)), time.Now()); err != nil {
		e.complain(p, "cannot be signed: %v", err)
		return false
	}
	response, err := e.client.Do(r)
	if err != nil {
		e.complain(p, "%v", err)
		return false
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	_ = response.Body.Close()
	if err != nil {
		e.complain(p, "%v", err)
		return false
	}
	var problem struct {
		Type      string `json:"__type"`
		Message   string
		Reason    string
		FieldList []struct{ Name, Message string }
	}
	if response.StatusCode >= 300 {
		if err := json.Unmarshal(body, &problem); err != nil {
			e.complain(p, "status %d, and no JSON: %s", response.StatusCode, body)
			return false
		}
	}
	name, validation := problem.Type, problem.Type == "ValidationException" && response.StatusCode == http.StatusBadRequest
	if validation && strings.HasPrefix(problem.Message, p.op.Name+" is part of the API, but this server does not have it yet") {
		return true
	}
	named, constraint := false, false
	for _, field := range problem.FieldList {
		named = named || field.Name == p.path
		constraint = constraint || strings.Contains(field.Message, "failed to satisfy constraint: ") && field.Name == p.path
	}
	switch {
	case response.StatusCode >= 500, name == "UnknownOperationException":
		e.complain(p, "status %d %s: %s", response.StatusCode, name, problem.Message)
	case response.StatusCode >= 300 && (name != response.Header.Get("X-Amzn-Errortype") || !slices.Contains(p.op.Errors, name) && !forgotten(p.op, name)):
		e.complain(p, "status %d %q, an error that the model does not have", response.StatusCode, name)
	case rawDoors[p.op.Name] && response.StatusCode >= 300:
	case p.expect == violated && (!validation || problem.Reason != "FieldValidationFailed" || !constraint):
		e.complain(p, "status %d %s (%s) does not name %s: %s", response.StatusCode, name, problem.Reason, p.path, body)
	case p.expect == mistyped && (!validation || problem.Reason != "CannotParse"):
		e.complain(p, "status %d %s (%s): %s", response.StatusCode, name, problem.Reason, body)
	case p.expect == accepted && (constraint || problem.Reason == "CannotParse"):
		e.complain(p, "is good, and complained of: %s", body)
	case !bytes.Equal(body, bytes.ToValidUTF8(body, nil)):
		e.complain(p, "the answer is not UTF-8: %q", body)
	}
	return false
}

// rawDoors are operations whose bodies are streams: they look for what is called,
// which here does not exist, before they read the rest. No test here makes them succeed.
var rawDoors = map[string]bool{
	"InvokeAgentRuntime": true, "InvokeAgentRuntimeCommand": true, "StopRuntimeSession": true, "GetAgentCard": true, "PutAgentCode": true,
}

// forgotten reports whether an error is missing from an operation in AWS's model
// itself: these have constraints, and no error that says which was broken.
func forgotten(op *api.Info, name string) bool {
	return name == "ValidationException" && (op.Name == "DeleteAgentRuntime" || op.Name == "DeleteAgentRuntimeEndpoint")
}

// complain reports the first few failures whole; more would say the same.
func (e *examination) complain(p probe, format string, args ...any) {
	if e.failed.Add(1) > 40 {
		e.t.Fail()
		return
	}
	e.t.Errorf("%s with %s %s:\n\t%s\n\t%s %s", p.op.Name, cmpOr(p.path, "its body"), p.what, shortenTo(fmt.Sprintf(format, args...), 500), shortenTo(p.url, 200), shortenTo(p.body, 500))
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func shortenTo(text string, length int) string {
	if len(text) > length {
		return text[:length] + "…"
	}
	return text
}
