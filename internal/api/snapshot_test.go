package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// The official Go SDK ships, for each operation, the request that it sends and a
// response that it reads, with every member set. These tests hold package api
// against them.

// snapshots finds a service's module in the module cache; the SDK is a dependency anyway.
func snapshots(t *testing.T, service string) string {
	t.Helper()
	module := map[string]string{"control": "bedrockagentcorecontrol", "data": "bedrockagentcore"}[service]
	folder, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/"+module).Output()
	if err != nil || len(bytes.TrimSpace(folder)) == 0 {
		t.Skipf("the SDK's module is not in the module cache: %v", err)
	}
	return string(bytes.TrimSpace(folder))
}

// snapshot is a request or a response as its file has it: a first line, headers after a blank line or at once, a blank line, a body.
type snapshot struct {
	first  string
	header http.Header
	body   []byte
}

// read gives nil when the SDK has no snapshot of the operation.
func read(t *testing.T, folder, kind, operation string) *snapshot {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(folder, kind+"_snapshot", operation+"."+kind+".snap"))
	if err != nil {
		return nil
	}
	first, rest, _ := strings.Cut(string(content), "\n")
	if kind == "request" {
		rest = strings.TrimPrefix(rest, "\n")
	}
	head, body, _ := strings.Cut(rest, "\n\n")
	if strings.HasPrefix(rest, "\n") {
		head, body = "", rest[1:]
	}
	s := &snapshot{first: first, header: http.Header{}, body: []byte(body)}
	for line := range strings.Lines(head) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ": "); found {
			s.header.Set(name, value)
		}
	}
	return s
}

// unshipped are the operations that the SDK has no snapshot of: those that answer
// with an event stream, and ours, which client's tests hold to their model.
func unshipped(op *api.Info) bool {
	return op.Name == "InvokeAgentRuntimeCommand" || op.Service == "onbehalf"
}

func TestRequestsOfTheSDK(t *testing.T) {
	t.Parallel()
	folders := map[string]string{"control": snapshots(t, "control"), "data": snapshots(t, "data")}
	for _, op := range api.Operations {
		t.Run(op.Name, func(t *testing.T) {
			t.Parallel()
			s := read(t, folders[op.Service], "request", op.Name)
			if s == nil {
				if !unshipped(op) {
					t.Fatal("the SDK has no snapshot of it")
				}
				return
			}
			method, target, _ := strings.Cut(s.first, " ")
			path, rawQuery, _ := strings.Cut(target, "?")
			labels, fits := match(op.Path, path)
			if method != op.Method || !fits {
				t.Fatalf("the SDK sends %s %s, the model says %s %s", method, path, op.Method, op.Path)
			}
			query, err := url.ParseQuery(rawQuery)
			if err != nil {
				t.Fatal(err)
			}
			request := newRequest(t, op.Name)
			absent, err := api.Decode(s.body, request)
			if err != nil || len(absent) > 0 {
				t.Fatalf("decoding: %v, absent %v", err, absent)
			}
			if err := request.BindHTTP(func(name string) string { return labels[name] }, query, s.header); err != nil {
				t.Fatalf("binding: %v", err)
			}
			checkBound(t, request, target, s.header)
			if raw := reflect.ValueOf(request).Elem().FieldByName("Payload"); raw.IsValid() {
				if got := string(raw.Bytes()); got != string(s.body) {
					t.Errorf("payload is %q, want %q", got, s.body)
				}
				return
			}
			sameJSON(t, request.(interface{ AppendJSON([]byte) []byte }).AppendJSON(nil), s.body)
		})
	}
}

func TestResponsesOfTheSDK(t *testing.T) {
	t.Parallel()
	folders := map[string]string{"control": snapshots(t, "control"), "data": snapshots(t, "data")}
	for _, op := range api.Operations {
		t.Run(op.Name, func(t *testing.T) {
			t.Parallel()
			s := read(t, folders[op.Service], "response", op.Name)
			if s == nil {
				if !unshipped(op) {
					t.Fatal("the SDK has no snapshot of it")
				}
				return
			}
			response := newResponse(t, op.Name)
			switch r := response.(type) {
			case *api.InvokeAgentRuntimeResponse:
				r.Response = bytes.NewReader(s.body)
				if got, _ := io.ReadAll(r.Stream()); string(got) != string(s.body) {
					t.Errorf("streamed %q, want %q", got, s.body)
				}
				return
			case *api.GetAgentCardResponse:
				r.AgentCard = s.body
			case *api.StopRuntimeSessionResponse:
				s.body = nil // its statusCode member is the HTTP status, whatever the snapshot has
			default:
				if len(s.body) > 0 {
					if err := json.Unmarshal(s.body, response); err != nil {
						t.Fatal(err)
					}
				}
			}
			sameJSON(t, response.(interface{ AppendJSON([]byte) []byte }).AppendJSON(nil), s.body)
		})
	}
}

// sameJSON compares by meaning. No body is an empty object.
func sameJSON(t *testing.T, got, want []byte) {
	t.Helper()
	var left, right any = nil, map[string]any{}
	if err := json.Unmarshal(got, &left); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, got)
	}
	if len(want) > 0 {
		if err := json.Unmarshal(want, &right); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(right, left); diff != "" {
		t.Errorf("not what the SDK has (-SDK +ours):\n%s", diff)
	}
}

// match takes the labels out of a path.
func match(template, path string) (map[string]string, bool) {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	labels := map[string]string{}
	if len(want) != len(got) {
		return nil, false
	}
	for i := range want {
		if name, isLabel := strings.CutPrefix(want[i], "{"); isLabel {
			labels[strings.TrimSuffix(name, "}")] = got[i]
		} else if want[i] != got[i] {
			return nil, false
		}
	}
	return labels, true
}

// checkBound demands that every member outside the body got a value, and one that the snapshot has.
func checkBound(t *testing.T, request any, target string, header http.Header) {
	t.Helper()
	everything := target + fmt.Sprint(header)
	v := reflect.ValueOf(request).Elem()
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Tag.Get("json") != "-" || field.Name == "Payload" {
			continue
		}
		value := v.Field(i)
		if value.IsZero() {
			t.Errorf("%s was not bound", field.Name)
			continue
		}
		if value.Kind() == reflect.Pointer {
			value = value.Elem()
		}
		text := fmt.Sprint(value.Interface())
		switch bound := value.Interface().(type) {
		case secret.Text:
			text = bound.Reveal()
		case []string:
			text = strings.Join(bound, "&tagKeys=")
		}
		if !strings.Contains(everything, text) {
			t.Errorf("%s is %q, which the request does not have", field.Name, text)
		}
	}
}
