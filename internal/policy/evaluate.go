package policy

import (
	"strconv"

	"github.com/onbehalf/onbehalf/internal/principal"
)

// Attached is a document under the name it was attached with.
type Attached struct {
	Name     string
	Document *Document
}

// verdict is what a set of policies says about one action on one resource.
type verdict struct {
	allowed bool
	denied  bool // explicitly; allowed is then false
	policy  string
	by      *statement // that allowed or denied; nil where none spoke
	instead *Check     // what was denied, where it is not what was asked
}

func (v verdict) about(check Check) Check {
	if v.instead != nil {
		return *v.instead
	}
	return check
}

// evaluate is AWS's rule: an explicit deny wins, then an allow counts, and where
// nobody speaks the answer is no. The order of statements does not matter.
func evaluate(set []Attached, action, resource string, values lookup) verdict {
	var v verdict
	for _, attached := range set {
		for _, s := range attached.Document.statements {
			if v.allowed && !s.deny {
				continue
			}
			if s.applies(action, resource, values) {
				v = verdict{allowed: !s.deny, denied: s.deny, policy: attached.Name, by: s}
				if s.deny {
					return v
				}
			}
		}
	}
	return v
}

// granted is evaluate for the policy of a resource, whose statements also say
// whom they are about. foreign callers, of another account than the resource's,
// are allowed only by a statement that names them or their account: "*" opens a
// gateway to whomever its authorizer lets in and to its own account, and does
// not reach into others. how says whether an Allow is enough by itself.
func granted(d Attached, who asker, action, resource string, values lookup) (v verdict, how weight) {
	for _, s := range d.Document.statements {
		said := s.principals.weigh(who.caller, who.service)
		switch {
		case said == silent, !s.deny && (said <= how || said == toAll && who.foreign):
			continue
		case !s.applies(action, resource, values):
			continue
		}
		v, how = verdict{allowed: !s.deny, denied: s.deny, policy: d.Name, by: s}, said
		if s.deny {
			return v, how
		}
	}
	return v, how
}

// asker is who a resource's policy is asked about.
type asker struct {
	caller  principal.Caller
	service string // a service of AWS instead
	foreign bool   // the caller is of another account than the resource
}

// applies reports whether the statement speaks about this request.
//
// A variable without a value matches nothing. In a Deny that is all; an Allow
// then does not apply whatever else it says, or NotResource and the Not…
// operators would turn the gap into a permission.
func (s *statement) applies(action, resource string, values lookup) bool {
	if matched, _ := s.actions.match(action, values); !matched {
		return false
	}
	if s.resources.list != nil { // a trust policy has none
		matched, ok := s.resources.match(resource, values)
		if !matched || !ok && !s.deny {
			return false
		}
	}
	for _, c := range s.conditions {
		if holds, ok := c.holds(values); !holds || !ok && !s.deny {
			return false
		}
	}
	return true
}

func (p patterns) match(text string, values lookup) (matched, ok bool) {
	ok = true
	for _, one := range p.list {
		hit, resolved := one.match(text, values)
		if hit {
			return !p.not, true
		}
		ok = ok && resolved
	}
	return p.not, ok
}

func counted(n int) string { return strconv.Itoa(n) }
