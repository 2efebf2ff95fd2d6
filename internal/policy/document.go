package policy

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// The versions of the policy language. In the older one, which AWS also assumes
// where none is said, ${…} is plain text; a document that has one without saying
// the newer version is refused, because it would not mean what it looks like.
const (
	version2012 = "2012-10-17"
	version2008 = "2008-10-17"
)

// MaxDocument is the longest policy document in characters, white space not
// counted: AWS's limit for the inline policies of a role.
const MaxDocument = 10240

// maxSource bounds what is parsed at all.
const maxSource = 8 * MaxDocument

// Document is a parsed policy document. It is never changed, and safe for concurrent use.
type Document struct {
	statements []*statement
}

// statement is one rule: this effect, for these actions, on these resources, if all conditions hold.
type statement struct {
	number     int    // from 1, for people
	id         string // Sid, or empty
	deny       bool
	principals *principals // of a resource's or a role's trust policy; nil where the principal is who it is attached to
	actions    patterns
	resources  patterns
	conditions []*condition
}

// patterns is a list of alternatives; with not, everything but them.
type patterns struct {
	list []*pattern
	not  bool
}

// style is where a document stands: what its statements must have and may not have.
type style struct {
	limit    int    // characters, white space not counted
	names    bool   // statements have a Principal or NotPrincipal
	resource string // the one ARN that Resource may be; with names and without a resource, statements have none
}

// Parse reads an identity-based policy document. Whatever it does not know
// (an element, an operator, a condition key, a version) it refuses by name:
// nothing of a policy is ever passed over. Errors are fault.Invalid.
func Parse(source string) (*Document, error) { return parse(source, style{limit: MaxDocument}) }

func parse(source string, at style) (*Document, error) {
	if TooLong(source, at.limit) {
		return nil, fault.New(fault.Invalid, "The policy document is longer than %d characters, white space not counted.", at.limit)
	}
	if !utf8.ValidString(source) {
		return nil, fault.New(fault.Invalid, "The policy document is not valid UTF-8.")
	}
	raw, err := whole(source)
	if err != nil {
		return nil, err
	}
	list, err := members(raw, "The policy document")
	if err != nil {
		return nil, err
	}
	version := version2008
	var statements json.RawMessage
	for _, m := range list {
		switch m.name {
		case "Version":
			if version, err = text(m.value, "Version"); err != nil {
				return nil, err
			}
			if version != version2012 && version != version2008 {
				return nil, fault.New(fault.Invalid, "The policy version %q is not known: write %s.", version, version2012)
			}
		case "Id":
			if _, err := text(m.value, "Id"); err != nil {
				return nil, err
			}
		case "Statement":
			statements = m.value
		default:
			return nil, fault.New(fault.Invalid, "The policy element %q is not known.", m.name)
		}
	}
	if statements == nil {
		return nil, fault.New(fault.Invalid, "The policy document has no Statement.")
	}
	return parseStatements(statements, version == version2012, at)
}

func parseStatements(raw json.RawMessage, variables bool, at style) (*Document, error) {
	list, err := objects(raw, "Statement")
	if err != nil {
		return nil, err
	}
	d := &Document{}
	ids := map[string]bool{}
	for i, raw := range list {
		s, err := parseStatement(raw, variables, at)
		if err != nil {
			f := *fault.Of(err)
			f.Message = "Statement " + counted(i+1) + ": " + f.Message
			return nil, &f
		}
		if s.id != "" && ids[s.id] {
			return nil, fault.New(fault.Invalid, "Two statements have the Sid %q.", s.id)
		}
		ids[s.id] = true
		s.number = i + 1
		d.statements = append(d.statements, s)
	}
	return d, nil
}

func parseStatement(raw json.RawMessage, variables bool, at style) (*statement, error) {
	list, err := members(raw, "The statement")
	if err != nil {
		return nil, err
	}
	s := &statement{}
	effect := ""
	for _, m := range list {
		switch m.name {
		case "Sid":
			if s.id, err = text(m.value, "Sid"); err == nil && strings.ContainsFunc(s.id, notIdentifier) {
				err = fault.New(fault.Invalid, "A Sid has letters and digits only.")
			}
		case "Effect":
			effect, err = text(m.value, "Effect")
		case "Action", "NotAction":
			err = s.actions.parse(m, compileAction)
		case "Resource", "NotResource":
			if err = at.checkResource(m); err != nil {
				break
			}
			err = s.resources.parse(m, func(value string) (*pattern, error) { return compileResource(value, variables) })
		case "Condition":
			s.conditions, err = parseConditions(m.value, variables)
		case "Principal", "NotPrincipal":
			switch {
			case !at.names:
				err = fault.New(fault.Invalid, "The element %s belongs into a resource's policy: here the principal is who the policy is attached to.", m.name)
			case s.principals != nil:
				err = fault.New(fault.Invalid, "%s stands beside its opposite: a statement has one of the two.", m.name)
			default:
				s.principals, err = parsePrincipals(m)
			}
		default:
			err = fault.New(fault.Invalid, "The element %q is not known.", m.name)
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case effect != "Allow" && effect != "Deny":
		return nil, fault.New(fault.Invalid, "Effect must be Allow or Deny.")
	case s.actions.list == nil:
		return nil, fault.New(fault.Invalid, "Action or NotAction is missing.")
	case s.resources.list == nil && !at.trust():
		return nil, fault.New(fault.Invalid, "Resource or NotResource is missing.")
	case s.principals == nil && at.names:
		return nil, fault.New(fault.Invalid, "Principal is missing: a resource's policy says who.")
	case s.principals != nil && s.principals.not && effect == "Allow":
		return nil, fault.New(fault.Invalid, "NotPrincipal stands with Deny only: with Allow it would open the resource to everybody but those it names.")
	case !variables && strings.Contains(string(raw), "${"):
		return nil, fault.New(fault.Invalid, "Policy variables need \"Version\": %q; in the older version they would be plain text.", version2012)
	}
	s.deny = effect == "Deny"
	return s, nil
}

func (at style) trust() bool { return at.names && at.resource == "" }

// checkResource keeps the policy of a resource about that resource, as AWS does.
func (at style) checkResource(m member) error {
	switch {
	case !at.names:
		return nil
	case at.trust():
		return fault.New(fault.Invalid, "Has prohibited field %s: a trust policy is about its own role.", m.name)
	case m.name == "NotResource":
		return fault.New(fault.Invalid, "NotResource has no place in a resource's policy: Resource is %s.", at.resource)
	}
	values, err := texts(m.value, m.name, false)
	if err != nil {
		return err
	}
	for _, value := range values {
		if value != at.resource {
			return fault.New(fault.Invalid, "Resource must be the ARN of the resource that the policy is attached to, %s.", at.resource)
		}
	}
	return nil
}

// parse reads X or NotX; a statement has one of the two.
func (p *patterns) parse(m member, compile func(string) (*pattern, error)) error {
	if p.list != nil {
		return fault.New(fault.Invalid, "%s stands beside its opposite: a statement has one of the two.", m.name)
	}
	values, err := texts(m.value, m.name, false)
	if err != nil {
		return err
	}
	p.not = strings.HasPrefix(m.name, "Not")
	for _, value := range values {
		compiled, err := compile(value)
		if err != nil {
			return err
		}
		p.list = append(p.list, compiled)
	}
	return nil
}

// compileAction reads service:Name, with wildcards in the name, or *.
func compileAction(value string) (*pattern, error) {
	if value != "*" {
		service, name, found := strings.Cut(value, ":")
		if !found || service == "" || name == "" || strings.ContainsFunc(service, notService) || strings.ContainsFunc(name, notAction) {
			return nil, fault.New(fault.Invalid, "The action %q is not of the form service:Name; wildcards stand in the name only.", value)
		}
	}
	p, err := compilePattern(value, plainText, true, false)
	if err == nil {
		p.fold = true
	}
	return p, err
}

// compileResource reads an ARN with wildcards, or *. One that ends early must end with a *.
func compileResource(value string, variables bool) (*pattern, error) {
	if value == "*" {
		return compilePattern(value, plainText, true, false)
	}
	parts := strings.SplitN(value, ":", arnColons+1)
	if parts[0] != "arn" || len(parts) < 3 || strings.ContainsAny(parts[2], "*?$") || len(parts) <= arnColons && !strings.HasSuffix(value, "*") {
		return nil, fault.New(fault.Invalid, "The resource %q is neither * nor an ARN, arn:partition:service:region:account:resource, whose service is named.", value)
	}
	if strings.ContainsFunc(value, unicode.IsControl) {
		return nil, fault.New(fault.Invalid, "The resource %q has control characters.", value)
	}
	return compilePattern(value, resourceARN, true, variables)
}

func parseConditions(raw json.RawMessage, variables bool) ([]*condition, error) {
	operators, err := members(raw, "Condition")
	if err != nil {
		return nil, err
	}
	var out []*condition
	for _, operator := range operators {
		keys, err := members(operator.value, "Condition "+operator.name)
		if err != nil {
			return nil, err
		}
		if len(keys) == 0 {
			return nil, fault.New(fault.Invalid, "The condition operator %q has no keys.", operator.name)
		}
		seen := map[string]bool{}
		for _, key := range keys {
			values, err := texts(key.value, "The condition "+key.name, true)
			if err != nil {
				return nil, err
			}
			c, err := compileCondition(operator.name, key.name, values, variables)
			if err != nil {
				return nil, err
			}
			if seen[c.key] {
				return nil, fault.New(fault.Invalid, "The condition key %q stands twice under %s.", key.name, operator.name)
			}
			seen[c.key] = true
			out = append(out, c)
		}
	}
	return out, nil
}

// TooLong reports whether a document has more characters than the limit, white
// space not counted, or is too long to be looked at.
func TooLong(source string, limit int) bool {
	return len(source) > maxSource || characters(source) > limit
}

// characters is AWS's way to measure a policy.
func characters(source string) (n int) {
	for _, r := range source {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}

func notIdentifier(r rune) bool {
	return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r)
}
func notService(r rune) bool { return notIdentifier(r) && r != '-' }
func notAction(r rune) bool  { return notIdentifier(r) && r != '*' && r != '?' }
