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
	switch {
	case check.Action == "" || check.Resource == "":
		return Explanation{}, fault.New(fault.Invalid, "An action and a resource are needed.")
	case !ownAccount(caller, check.Resource):
		return Explanation{Reason: "The resource is not an ARN of account " + caller.Account + ": nothing reaches beyond an account."}, nil
	case caller.Root:
		return Explanation{Allowed: true, Reason: "The root key may do everything in its account."}, nil
	case !documented(caller):
		return Explanation{Reason: "The caller is neither a user nor a role."}, nil
	}
	set, err := e.attached(ctx, caller.Account, identityARN(caller))
	if err != nil {
		return Explanation{}, err
	}
	if len(set) == 0 {
		return Explanation{Reason: identityARN(caller) + " has no policies, and what nothing allows is denied."}, nil
	}
	r := &request{caller: caller, resource: check.Resource, now: e.db.Now(), overrides: overrides}
	explained := Explanation{Steps: steps(set, check, r.value)}
	v := evaluate(set, check.Action, check.Resource, r.value)
	switch {
	case v.denied:
		explained.Reason = "Explicitly denied by " + v.where() + "."
	case !v.allowed:
		explained.Reason = "No statement allows it, and what nothing allows is denied."
	default:
		explained.Allowed, explained.Reason = true, "Allowed by "+v.where()+"."
		if behind, ok := secretBehind(check); ok {
			r.resource = behind.Resource
			if v := evaluate(set, behind.Action, behind.Resource, r.value); v.denied {
				explained.Allowed, explained.Reason = false, "Allowed as such, but "+getSecretValue+" on the secret behind it is explicitly denied by "+v.where()+"."
			}
		}
	}
	return explained, nil
}

func (v verdict) where() string {
	text := "statement " + counted(v.by.number)
	if v.by.id != "" {
		text += " (" + v.by.id + ")"
	}
	return text + " of policy " + v.policy
}

func steps(set []Attached, check Check, values lookup) []Step {
	var out []Step
	for _, attached := range set {
		for _, s := range attached.Document.statements {
			step := Step{Policy: attached.Name, Statement: s.number, Sid: s.id, Effect: "Allow", Result: s.silence(check, values)}
			if s.deny {
				step.Effect = "Deny"
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
