package policy

import (
	"bytes"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// principals are whom a statement of a resource's policy is about; with not,
// everybody but them.
type principals struct {
	list []party
	not  bool
}

// party is one of them.
type party struct {
	kind partyKind
	name string // ARN, account id, or service
}

type partyKind int

const (
	everybody    partyKind = iota
	wholeAccount           // all of an account, whose own policies then decide for each of its principals
	namedUser
	namedRole    // and all its sessions
	namedSession // of a role
	awsService   // a service of AWS; of those, only this platform itself ever asks, for a role
)

// Service is the name under which the platform takes on a role, as AWS's service does.
const Service = "bedrock-agentcore.amazonaws.com"

// parsePrincipals reads Principal or NotPrincipal: "*", or an object of AWS and
// Service. What it does not know (federated users, unique ids, wildcards within
// an ARN) it refuses.
func parsePrincipals(m member) (*principals, error) {
	p := &principals{not: m.name == "NotPrincipal"}
	if trimmed := bytes.TrimSpace(m.value); len(trimmed) > 0 && trimmed[0] == '"' {
		value, err := text(m.value, m.name)
		if err != nil {
			return nil, err
		}
		if value != "*" {
			return nil, fault.New(fault.Invalid, "%s is \"*\" or an object such as {\"AWS\": \"arn:aws:iam::111122223333:role/NAME\"}.", m.name)
		}
		p.list = []party{{kind: everybody}}
		return p, p.check(m.name)
	}
	kinds, err := members(m.value, m.name)
	if err != nil {
		return nil, err
	}
	for _, kind := range kinds {
		if err := p.add(m.name, kind); err != nil {
			return nil, err
		}
	}
	return p, p.check(m.name)
}

func (p *principals) check(element string) error {
	if len(p.list) == 0 {
		return fault.New(fault.Invalid, "%s names nobody.", element)
	}
	for _, one := range p.list {
		if p.not && one.kind == everybody {
			return fault.New(fault.Invalid, "NotPrincipal cannot be \"*\": nobody is left.")
		}
	}
	return nil
}

func (p *principals) add(element string, kind member) error {
	parse, known := map[string]func(string) (party, bool){"AWS": partyOf, "Service": serviceOf}[kind.name]
	if !known {
		return fault.New(fault.Invalid, "%s has the kind %q, and this server knows AWS and Service.", element, kind.name)
	}
	values, err := texts(kind.value, element+" "+kind.name, false)
	if err != nil {
		return err
	}
	for _, value := range values {
		one, ok := parse(value)
		if !ok {
			return fault.New(fault.Invalid, "Invalid principal in policy: %q. Write \"*\", an account, or the ARN of a user, a role or a role's session; wildcards do not work within an ARN.", value)
		}
		p.list = append(p.list, one)
	}
	return nil
}

func partyOf(value string) (party, bool) {
	if value == "*" {
		return party{kind: everybody}, true
	}
	if len(value) == 12 && strings.Trim(value, "0123456789") == "" {
		return party{wholeAccount, value}, true
	}
	arn, err := api.ParseARN(value)
	if err != nil || arn.Partition != "aws" || arn.Region != "" || arn.Account == "" {
		return party{}, false
	}
	kind, name, _ := strings.Cut(arn.Resource, "/")
	switch {
	case arn.Service == "iam" && arn.Resource == "root":
		return party{wholeAccount, arn.Account}, true
	case arn.Service == "iam" && kind == "user" && validName(name, 64):
		return party{namedUser, value}, true
	case arn.Service == "iam" && kind == "role" && validName(name, 64):
		return party{namedRole, value}, true
	case arn.Service == "sts" && kind == "assumed-role":
		of, name, _ := strings.Cut(name, "/")
		return party{namedSession, value}, validName(of, 64) && validName(name, 64)
	}
	return party{}, false
}

func serviceOf(value string) (party, bool) {
	name, isService := strings.CutSuffix(value, ".amazonaws.com")
	return party{awsService, value}, isService && name != "" && !strings.ContainsFunc(name, func(r rune) bool { return notService(r) && r != '.' })
}

// weight is how a statement of a resource's policy speaks about a caller. More weighs more.
type weight int

const (
	silent    weight = iota // not about this caller
	toAccount               // about the caller's whole account: an Allow counts where the caller's own policies allow as well
	toAll                   // about everybody
	toCaller                // about this caller by name
)

// weigh is what the statement is to a caller. service is set where a service of AWS asks, and there is no caller.
func (p *principals) weigh(caller principal.Caller, service string) weight {
	best := silent
	for _, one := range p.list {
		best = max(best, one.weigh(caller, service, p.not))
	}
	if !p.not {
		return best
	}
	if best == silent {
		return toCaller
	}
	return silent
}

// weigh of an exception is about the principal named and no other: an account
// beside a user, which AWS asks for, must not except the whole account.
func (p party) weigh(caller principal.Caller, service string, exception bool) weight {
	known := service == "" && (caller.Kind == principal.Key || caller.Kind == principal.Role)
	switch p.kind {
	case everybody:
		return toAll
	case awsService:
		return when(service != "" && service == p.name, toCaller)
	case wholeAccount:
		if exception {
			return when(known && caller.Root && caller.Account == p.name, toCaller)
		}
		return when(known && caller.Account == p.name, toAccount)
	case namedRole:
		return when(known && caller.Kind == principal.Role && identityARN(caller) == p.name, toCaller)
	case namedUser, namedSession:
		return when(known && caller.ARN == p.name, toCaller)
	}
	return silent
}

func when(holds bool, w weight) weight {
	if holds {
		return w
	}
	return silent
}
