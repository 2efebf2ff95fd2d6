// Package query is the door of IAM's and STS's calls: AWS's Query protocol, a
// form in, XML out.
//
//	POST / ─ gate.SignedQuery ─▶ the form, each name once ─▶ Action ─▶ gate.Act ─▶ fn
//	reply  ◀─ XML of the action's Result, or errors.go: fault ─▶ AWS's code ◀────────┘
//
// There are few of them: those that programs make who set up a role for an
// agent. Whatever else IAM has answers InvalidAction.
//
// Invariant: nothing of a form is passed over (a name that comes twice, or that
// the action does not know, is refused), no act happens but through the gate, and
// text reaches the answer only through the XML encoder.
package query

import (
	"context"
	"encoding/xml"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// The services, by their signing names.
const (
	IAM = "iam"
	STS = "sts"
)

// dialects are the services' versions and XML namespaces.
var dialects = map[string]struct{ version, namespace string }{
	IAM: {"2010-05-08", "https://iam.amazonaws.com/doc/2010-05-08/"},
	STS: {"2011-06-15", "https://sts.amazonaws.com/doc/2011-06-15/"},
}

// bodyLimit leaves room for a policy document of 128 KiB, each character of
// which a form may write as three.
const bodyLimit = 512 << 10

// Parameter is what an action takes under one name.
type Parameter struct {
	Required bool
	Pattern  *regexp.Regexp // of the whole value; nil takes any
	Longest  int            // in characters; 0 is 128
}

// Action is one call. It can be served only with a scope: there is no unguarded one.
type Action struct {
	Service    string
	Name       string
	Parameters map[string]Parameter // by name; .member.N. stands for any number
	Scope      func(ctx context.Context, caller principal.Caller, form *Form) ([]gate.Check, error)
	Do         func(ctx context.Context, caller principal.Caller, form *Form) (*Result, error)
}

// Result is what an action answers: the content of its Result element, or nothing.
type Result struct{ Content any }

// Form is a request's parameters, each name once.
type Form struct{ values map[string]string }

// Get is a parameter's value; empty where it is absent.
func (f *Form) Get(name string) string { return f.values[name] }

// List is the members of a list of structures, in order: List("Tags", "Key", "Value").
func (f *Form) List(name string, fields ...string) (out [][]string) {
	for n := 1; ; n++ {
		row := make([]string, len(fields))
		found := false
		for i, field := range fields {
			value, present := f.values[name+".member."+strconv.Itoa(n)+"."+field]
			row[i], found = value, found || present
		}
		if !found {
			return out
		}
		out = append(out, row)
	}
}

type handler struct {
	gate    *gate.Gate
	actions map[string]Action
}

// New makes the door.
func New(g *gate.Gate, actions []Action) http.Handler {
	h := &handler{g, map[string]Action{}}
	for _, a := range actions {
		if a.Scope == nil || a.Do == nil || dialects[a.Service].version == "" {
			panic("query: the action " + a.Name + " lacks its scope, its method or its service")
		}
		h.actions[a.Service+":"+a.Name] = a
	}
	return h
}

// ServeHTTP answers one request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller, service, body, err := h.gate.SignedQuery(w, r, bodyLimit)
	if err != nil {
		writeError(w, r, service, err)
		return
	}
	defer clear(body)
	action, form, err := h.read(r, service, body)
	if err != nil {
		writeError(w, r, service, err)
		return
	}
	result, err := gate.Act(r.Context(), h.gate, caller, service+":"+action.Name,
		func(ctx context.Context, caller principal.Caller, form *Form) (principal.Caller, []gate.Check, error) {
			checks, err := action.Scope(ctx, caller, form)
			return caller, checks, err
		}, form, action.Do)
	if err != nil {
		writeError(w, r, service, err)
		return
	}
	write(w, r, http.StatusOK, service, action.Name+"Response", func(e *xml.Encoder) error {
		if result == nil || result.Content == nil {
			return nil
		}
		return e.EncodeElement(result.Content, element(action.Name+"Result"))
	})
}

// read finds the action and the form of a request, which is all in its body: a
// query string could say something else.
func (h *handler) read(r *http.Request, service string, body []byte) (Action, *Form, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" || r.URL.RawQuery != "" {
		return Action{}, nil, coded("MalformedQueryString", http.StatusBadRequest, "The request is a form in the body of a POST, and has no query string.")
	}
	parsed, err := url.ParseQuery(string(body))
	if err != nil {
		return Action{}, nil, coded("MalformedQueryString", http.StatusBadRequest, "The request's form could not be parsed.")
	}
	form := &Form{map[string]string{}}
	for name, values := range parsed {
		if len(values) != 1 {
			return Action{}, nil, Invalid("The parameter %s comes %d times.", shown(name), len(values))
		}
		form.values[name] = values[0]
	}
	name, version := form.Get("Action"), form.Get("Version")
	action, known := h.actions[service+":"+name]
	switch {
	case name == "":
		return Action{}, nil, coded("MissingAction", http.StatusBadRequest, "The request must contain the parameter Action.")
	case !known || version != dialects[service].version:
		return Action{}, nil, coded("InvalidAction", http.StatusBadRequest, "Could not find operation %s for version %s", shown(name), shown(version))
	}
	delete(form.values, "Action")
	delete(form.values, "Version")
	return action, form, action.check(form)
}

// members is the number in the name of a list's member.
var members = regexp.MustCompile(`\.member\.[1-9][0-9]{0,2}(\.|$)`)

// check holds a form against what the action takes.
func (a Action) check(form *Form) error {
	for name, value := range form.values {
		if value == "" && a.lists(name) && !form.lists(name) {
			continue // how clients write a list without members
		}
		p, known := a.Parameters[members.ReplaceAllString(name, ".member.N$1")]
		longest := p.Longest
		if longest == 0 {
			longest = 128
		}
		switch length := len([]rune(value)); {
		case !known:
			return Invalid("The parameter %s is not known to %s on this server.", shown(name), a.Name)
		case length > longest:
			return constraint(name, "Member must have length less than or equal to %d", longest)
		case p.Pattern != nil && !p.Pattern.MatchString(value):
			return constraint(name, "Member must satisfy regular expression pattern: %s", strings.Trim(p.Pattern.String(), "^$"))
		}
	}
	if name, gap := form.gap(); gap {
		return Invalid("The parameter %s has no member before it.", shown(name))
	}
	for name, p := range a.Parameters {
		if p.Required && form.values[name] == "" {
			return constraint(name, "Member must not be null")
		}
	}
	return nil
}

// lists reports whether the action takes a list of that name.
func (a Action) lists(name string) bool {
	for known := range a.Parameters {
		if strings.HasPrefix(known, name+".member.N") {
			return true
		}
	}
	return false
}

// lists reports whether the form has members of the list.
func (f *Form) lists(name string) bool {
	for other := range f.values {
		if strings.HasPrefix(other, name+".member.") {
			return true
		}
	}
	return false
}

// gap finds a list's member whose predecessor is missing: List would end before it.
func (f *Form) gap() (name string, found bool) {
	lists := map[string]bool{} // "Tags.member.1."
	for name := range f.values {
		if at := members.FindStringIndex(name); at != nil {
			lists[name[:at[1]]] = true
		}
	}
	for prefix := range lists {
		base, number, _ := strings.Cut(strings.TrimSuffix(prefix, "."), ".member.")
		n, _ := strconv.Atoi(number) // digits, by the pattern
		if n > 1 && !lists[base+".member."+strconv.Itoa(n-1)+"."] {
			return strings.TrimSuffix(prefix, "."), true
		}
	}
	return "", false
}

// constraint words a complaint as AWS does, without the value.
func constraint(name, format string, args ...any) error {
	return Invalid("1 validation error detected: Value at '%s' failed to satisfy constraint: "+format, append([]any{strings.ToLower(name[:1]) + name[1:]}, args...)...)
}

// shown is a name of the request in a message.
func shown(text string) string {
	if len(text) > 64 {
		text = text[:64] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return '?'
		}
		return r
	}, text)
}

// Document is a policy document as IAM's answers have it: encoded as in a URL, RFC 3986.
func Document(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// Invalid is a ValidationError.
func Invalid(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...)
}
