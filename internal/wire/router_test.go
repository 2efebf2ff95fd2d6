package wire

import (
	"net/http"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/api"
)

// every is a router with all operations of the models.
func every() *router {
	t := newRouter()
	for _, op := range api.Operations {
		t.add(Route{op: op})
	}
	return t
}

// Each operation is found by its own method and path, with and without the
// trailing slash, whatever its labels are: the paths of the models never collide.
func TestEveryOperationIsFound(t *testing.T) {
	t.Parallel()
	router := every()
	for _, op := range api.Operations {
		for _, label := range []string{"demo-0123456789", "arn%3Aaws%3Abedrock-agentcore%3Aus-east-1%3A123456789012%3Aruntime%2Fa-0123456789", "rules", "targets", "..", "%2E%2E"} {
			path := fill(op.Path, label)
			for _, spelling := range []string{path, strings.TrimSuffix(path, "/"), strings.TrimSuffix(path, "/") + "/"} {
				route, _, found := router.match(op.Method, spelling)
				if !found || route.op != op {
					t.Errorf("%s %s is not %s but %+v", op.Method, spelling, op.Name, route.op)
				}
			}
		}
	}
}

// fill puts a value in place of each label.
func fill(path, label string) string {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if isLabel(segment) {
			segments[i] = label
		}
	}
	return strings.Join(segments, "/")
}

func TestNoOperationIsFound(t *testing.T) {
	t.Parallel()
	router := every()
	for _, test := range []struct{ method, path string }{
		{http.MethodGet, "/"}, {http.MethodGet, ""}, {http.MethodPost, "/identities"}, {http.MethodGet, "/identities/CreateWorkloadIdentity"},
		{http.MethodPost, "/identities/createworkloadidentity"}, {http.MethodPost, "/identities/CreateWorkloadIdentity//"}, {http.MethodPost, "//identities/CreateWorkloadIdentity"},
		{http.MethodGet, "/gateways//"}, {http.MethodGet, "/gateways//targets/"}, {http.MethodGet, "/gateways/a/b/c/d/e"}, {http.MethodPut, "/gateways/a/targets/b/c/"},
		{http.MethodGet, "/tags/arn:aws:bedrock-agentcore:us-east-1:123456789012:gateway/a"}, // the slash has to be encoded
	} {
		if route, _, found := router.match(test.method, test.path); found {
			t.Errorf("%s %s is %s", test.method, test.path, route.op.Name)
		}
	}
}

// A literal segment wins over a label: .../rate-limits/batch is never a rate limit called batch.
func TestLabelsAreDecodedAfterMatching(t *testing.T) {
	t.Parallel()
	router := every()
	for _, test := range []struct{ method, path, label, want string }{
		{http.MethodGet, "/gateways/demo-0123456789/", "gatewayIdentifier", "demo-0123456789"},
		{http.MethodGet, "/tags/arn%3Aaws%3Agateway%2Fa%20b", "resourceArn", "arn:aws:gateway/a b"},
		{http.MethodGet, "/tags/a+b", "resourceArn", "a+b"},
		{http.MethodGet, "/tags/%zz", "resourceArn", "%zz"},
		{http.MethodGet, "/tags/a", "another", ""},
		{http.MethodGet, "/gateways/g/rate-limits/r", "rateLimitId", "r"},
		{http.MethodPut, "/gateways/g/rate-limits/batch", "gatewayIdentifier", "g"},
	} {
		_, labels, found := router.match(test.method, test.path)
		if got := labels.get(test.label); !found || got != test.want {
			t.Errorf("%s of %s is %q, want %q", test.label, test.path, got, test.want)
		}
	}
}

// The router takes any path in stride, and what it matches is an operation's path.
func FuzzRouter(f *testing.F) {
	for _, op := range api.Operations {
		f.Add(op.Method, op.Path)
	}
	f.Add("GET", "/tags/%2F%2f%")
	router := every()
	f.Fuzz(func(t *testing.T, method, path string) {
		route, labels, found := router.match(method, path)
		if !found {
			return
		}
		if route.op.Method != method || strings.Count(strings.TrimSuffix(route.op.Path, "/"), "/") != strings.Count(strings.TrimSuffix(path, "/"), "/") {
			t.Fatalf("%s %s is %s", method, path, route.op.Name)
		}
		for _, segment := range labels.template {
			if isLabel(segment) && labels.get(segment[1:len(segment)-1]) == "" {
				t.Fatalf("%s has an empty label in %s", route.op.Name, path)
			}
		}
	})
}
