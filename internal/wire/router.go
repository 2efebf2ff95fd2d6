package wire

import (
	"net/url"
	"strings"
)

// router finds the route of a method and a path. It compares raw paths segment
// by segment and decodes labels afterwards, so that an encoded slash in an ARN
// stays inside its segment, as the signature saw it.
type router struct {
	exact    map[string]map[string]Route // by path without trailing slash, then by method
	patterns map[int][]template          // paths with labels, by their number of segments
}

type template struct {
	segments []string
	methods  map[string]Route
}

// labels are the path's variable segments, still encoded.
type labels struct {
	template, segments []string
}

func newRouter() *router {
	return &router{exact: map[string]map[string]Route{}, patterns: map[int][]template{}}
}

// add registers a route under its operation's path.
func (t *router) add(route Route) {
	path := strings.TrimSuffix(route.op.Path, "/")
	if !strings.Contains(path, "{") {
		if t.exact[path] == nil {
			t.exact[path] = map[string]Route{}
		}
		t.exact[path][route.op.Method] = route
		return
	}
	segments := strings.Split(path, "/")
	for _, known := range t.patterns[len(segments)] {
		if strings.Join(known.segments, "/") == path {
			known.methods[route.op.Method] = route
			return
		}
	}
	t.patterns[len(segments)] = append(t.patterns[len(segments)], template{segments: segments, methods: map[string]Route{route.op.Method: route}})
}

// match finds the route of a request. A trailing slash more or less does not
// matter: the models have them in some paths, and proxies drop or add them.
func (t *router) match(method, path string) (Route, labels, bool) {
	path = strings.TrimSuffix(path, "/")
	if methods := t.exact[path]; methods != nil {
		route, found := methods[method]
		return route, labels{}, found
	}
	segments := strings.Split(path, "/")
	for _, candidate := range t.patterns[len(segments)] {
		if route, found := candidate.methods[method]; found && candidate.fits(segments) {
			return route, labels{candidate.segments, segments}, true
		}
	}
	return Route{}, labels{}, false
}

func (t template) fits(segments []string) bool {
	for i, want := range t.segments {
		if isLabel(want) {
			if segments[i] == "" {
				return false
			}
		} else if want != segments[i] {
			return false
		}
	}
	return true
}

func isLabel(segment string) bool { return strings.HasPrefix(segment, "{") }

// get is a label's value, decoded. What cannot be decoded stays as it is, and
// then breaks its constraint.
func (l labels) get(name string) string {
	for i, segment := range l.template {
		if isLabel(segment) && segment[1:len(segment)-1] == name {
			if value, err := url.PathUnescape(l.segments[i]); err == nil {
				return value
			}
			return l.segments[i]
		}
	}
	return ""
}
