package policy

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// Explanation is Decide in words.
type Explanation struct {
	Allowed bool
	Reason  string // one sentence
	Steps   []Step // every statement of the principal's policies
}

// Step is what one statement had to say.
type Step struct {
	Policy    string
	Statement int // from 1
	Sid       string
	Effect    string // Allow or Deny
	Result    string // "applies", or why it does not
	Applies   bool
}

// Explain says why a caller may or may not do one action on one resource. given
// are values of condition keys that the caller's requests would have, such as
// aws:SourceIp. It asks the same functions as Decide.
func (e *Engine) Explain(ctx context.Context, caller principal.Caller, check Check, given map[string][]string) (Explanation, error) {
	overrides := map[string][]string{}
	for name, values := range given {
		key, err := knownKey(name)
		if err != nil {
			return Explanation{}, err
		}
		overrides[key] = values
	}
	if check.Action == "" || check.Resource == "" {
		return Explanation{}, fault.New(fault.Invalid, "An action and a resource are needed.")
	}
	foreign := !ownAccount(caller, check.Resource)
	ofResource, err := e.onResource(ctx, check.Resource)
	switch {
	case err != nil:
		return Explanation{}, err
	case foreign && len(ofResource) == 0:
		return Explanation{Reason: "The resource is not of account " + caller.Account + ", and has no policy that would let another account in."}, nil
	case caller.Root && !foreign:
		return Explanation{Allowed: true, Reason: "The root key may do everything in its account."}, nil
	case !caller.Root && !documented(caller):
		return Explanation{Reason: "The caller is neither a user nor a role."}, nil
	}
	var identity []Attached
	if documented(caller) {
		if identity, err = e.attached(ctx, caller.Account, identityARN(caller)); err != nil {
			return Explanation{}, err
		}
	}
	r := e.asked(ctx, caller, check)
	r.overrides = overrides
	who := asker{caller: caller, foreign: foreign}
	own, theirs, how := e.opinions(identity, ofResource, who, check, r)
	explained := Explanation{Steps: append(steps(identity, nil, check, r.value), steps(ofResource, &who, check, r.value)...)}
	if r.problem != nil {
		return Explanation{}, r.problem
	}
	explained.Allowed, explained.Reason = conclude(caller, own, theirs, how, foreign, len(identity))
	if why := misplaced(check); why != "" && !explained.Allowed {
		explained.Reason += " " + why
	}
	return explained, nil
}

// conclude words the rule of decide.
func conclude(caller principal.Caller, own, theirs verdict, how weight, foreign bool, policies int) (bool, string) {
	switch {
	case own.denied && own.instead != nil:
		return false, "Allowed as such, but " + getSecretValue + " on the secret behind it is explicitly denied by " + own.where() + "."
	case own.denied:
		return false, "Explicitly denied by " + own.where() + "."
	case theirs.denied:
		return false, "Explicitly denied by " + theirs.where() + "."
	case foreign && !theirs.allowed:
		return false, "The resource is not of account " + caller.Account + ", and its policy does not let the caller in; \"*\" does not reach into other accounts."
	case foreign && !own.allowed:
		return false, "Allowed by " + theirs.where() + ", but in another account the caller's own policies must allow it as well, and they do not."
	case !foreign && theirs.allowed && how > toAccount:
		return true, "Allowed by " + theirs.where() + "."
	case own.allowed && own.by != nil:
		return true, "Allowed by " + own.where() + "."
	case own.allowed:
		return true, "Allowed by " + theirs.where() + ", and the root key may do everything."
	case policies == 0:
		return false, identityARN(caller) + " has no policies, and what nothing allows is denied."
	}
	return false, "No statement allows it, and what nothing allows is denied."
}

func (v verdict) where() string {
	text := "statement " + counted(v.by.number)
	if v.by.id != "" {
		text += " (" + v.by.id + ")"
	}
	return text + " of policy " + v.policy
}

// steps of the policies of a principal, or of a resource about who.
func steps(set []Attached, who *asker, check Check, values lookup) []Step {
	var out []Step
	for _, attached := range set {
		for _, s := range attached.Document.statements {
			step := Step{Policy: attached.Name, Statement: s.number, Sid: s.id, Effect: "Allow", Result: s.silence(check, values)}
			if s.deny {
				step.Effect = "Deny"
			}
			if who != nil {
				switch said := s.principals.weigh(who.caller, who.service); {
				case said == silent:
					step.Result = "is not about this principal"
				case said == toAll && who.foreign && !s.deny:
					step.Result = "is about everybody, which does not reach into other accounts"
				}
			}
			if step.Result == "" {
				step.Result, step.Applies = "applies", true
			}
			out = append(out, step)
		}
	}
	return out
}

// silence is why the statement does not speak about the request; empty when it does.
func (s *statement) silence(check Check, values lookup) string {
	if s.applies(check.Action, check.Resource, values) {
		return ""
	}
	if matched, _ := s.actions.match(check.Action, values); !matched {
		return "is not about this action"
	}
	if matched, ok := s.resources.match(check.Resource, values); !matched || !ok && !s.deny {
		if !ok {
			return "has a variable without a value in its resource"
		}
		return "is not about this resource"
	}
	for _, c := range s.conditions {
		holds, ok := c.holds(values)
		switch {
		case !ok && !s.deny:
			return "has a variable without a value in its condition " + c.String()
		case !holds && values(c.key) == nil:
			return "condition " + c.String() + " does not hold: the request has no " + c.key
		case !holds:
			return "condition " + c.String() + " does not hold"
		}
	}
	return "does not apply"
}
