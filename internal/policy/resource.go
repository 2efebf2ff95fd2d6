package policy

import (
	"context"
	"errors"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// The limits of the documents that name principals.
const (
	MaxResourcePolicy = 20480 // characters, of the API's model
	MaxTrustPolicy    = 2048  // AWS's limit, white space not counted
)

// policied are the types of resource that may have a policy of their own.
var policied = []string{"gateway", "runtime", "runtime-endpoint"}

// HasPolicy reports whether the resource is of a type that may have a policy.
func HasPolicy(arn api.ARN) bool {
	if arn.Service != serviceName || strings.Contains(arn.Resource, "*") {
		return false
	}
	switch parts := strings.Split(arn.Resource, "/"); len(parts) {
	case 2:
		return (parts[0] == "gateway" || parts[0] == "runtime") && parts[1] != ""
	case 4:
		return parts[0] == "runtime" && parts[1] != "" && parts[2] == "runtime-endpoint" && parts[3] != ""
	}
	return false
}

// ParseResource reads the policy of the resource arn. Statements name principals,
// their Resource is that ARN, and an action that the resource's type does not
// have is refused, as AWS does.
func ParseResource(source, arn string) (*Document, error) {
	if len(source) > MaxResourcePolicy {
		return nil, fault.New(fault.Invalid, "The policy document is longer than %d bytes.", MaxResourcePolicy)
	}
	d, err := parse(source, style{limit: MaxResourcePolicy, names: true, resource: arn})
	if err != nil {
		return nil, err
	}
	parsed, err := api.ParseARN(arn)
	if err != nil {
		return nil, err
	}
	for _, s := range d.statements {
		if s.actions.not {
			continue
		}
		for _, action := range s.actions.list {
			if !supported(action, typeOf(parsed.Resource)) {
				return nil, fault.New(fault.Invalid, "Statement %d: The action %s is none that a %s has.", s.number, action.source, typeOf(parsed.Resource))
			}
		}
	}
	return d, nil
}

// ParseTrust reads a role's trust policy: who may take the role on.
func ParseTrust(source string) (*Document, error) {
	return parse(source, style{limit: MaxTrustPolicy, names: true})
}

// DefaultTrust is the trust policy of a role that an operator makes: the platform may take it on.
const DefaultTrust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"` + Service + `"},"Action":"sts:AssumeRole"}]}`

// Trusts reports whether a trust policy lets the platform take the role on for a
// resource of the account.
func (e *Engine) Trusts(trust, account, resource string) (bool, error) {
	d, err := ParseTrust(trust)
	if err != nil {
		return false, fault.Wrap(errors.New("the trust policy cannot be read: "+err.Error()), "reading a trust policy")
	}
	r := &request{resource: resource, now: e.db.Now(), overrides: map[string][]string{
		"aws:sourceaccount": {account}, "aws:sourcearn": {resource}, "aws:principalisawsservice": {"true"}, "aws:securetransport": {"true"}, // a call within the process
	}}
	v, _ := granted(Attached{"trust policy", d}, asker{service: Service}, "sts:AssumeRole", resource, r.value)
	return v.allowed, nil
}

// PutResource attaches a policy to a resource, or replaces it. That the resource
// exists is for whoever calls it to know.
func (e *Engine) PutResource(tx *store.Tx, account, arn, document string) error {
	if _, err := ParseResource(document, arn); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO resource_policies (resource, account, document, created, updated) VALUES ($1, $2, $3, $4, $4)
		ON CONFLICT (resource) DO UPDATE SET document = excluded.document, updated = excluded.updated`, arn, account, document, store.Micros(tx.Now))
	return fault.Wrap(err, "storing a resource's policy")
}

// Resource is the policy of a resource as it was attached; fault.NotFound where there is none.
func (e *Engine) Resource(tx *store.Tx, account, arn string) (string, error) {
	var document string
	err := tx.QueryRow(`SELECT document FROM resource_policies WHERE resource = $1 AND account = $2`, arn, account).Scan(&document)
	if errors.Is(err, store.ErrNoRows) {
		return "", fault.New(fault.NotFound, "%s has no resource policy.", arn)
	}
	return document, fault.Wrap(err, "reading a resource's policy")
}

// DeleteResource takes the policy of a resource away, and reports whether it had
// one. The transaction that deletes a resource calls it, too.
func (e *Engine) DeleteResource(tx *store.Tx, account, arn string) (bool, error) {
	gone, err := tx.Exec(`DELETE FROM resource_policies WHERE resource = $1 AND account = $2`, arn, account)
	return gone > 0, fault.Wrap(err, "deleting a resource's policy")
}

// onResource is the policy of a resource: one document or none.
func (e *Engine) onResource(ctx context.Context, resource string) ([]Attached, error) {
	arn, err := api.ParseARN(resource)
	if err != nil || !HasPolicy(arn) || e.db == nil {
		return nil, nil
	}
	return e.sets.Look(ctx, resource, func(tx *store.Tx) ([]Attached, error) {
		document, err := e.Resource(tx, arn.Account, resource)
		if fault.Is(err, fault.NotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		d, err := e.compileAs(resource+" "+document, func() (*Document, error) { return ParseResource(document, resource) })
		if err != nil {
			return nil, fault.Wrap(errors.New("the policy of "+resource+" cannot be read: "+err.Error()), "reading a resource's policy")
		}
		return []Attached{{"the policy of the resource", d}}, nil
	})
}
