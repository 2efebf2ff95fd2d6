package policy

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Stored is a policy as it was attached.
type Stored struct {
	Principal string // ARN
	Name      string
	Document  string // JSON, as written
	Created   time.Time
	Updated   time.Time
}

// maxPolicies bounds what one principal's request has to look at.
const maxPolicies = 20

// Put attaches a document to a user or role of the account, or replaces the one
// of that name. It counts from the next request on; on a server beside this
// process, within a second. Errors: fault.Invalid for what Parse refuses and for
// names, fault.QuotaExceeded beyond 20 policies.
func (e *Engine) Put(tx *store.Tx, account, principal, name, document string) error {
	if err := CheckPrincipal(account, principal); err != nil {
		return err
	}
	if !validName(name, 128) {
		return fault.New(fault.Invalid, "A policy's name has 1 to 128 letters, digits or any of +=,.@_-")
	}
	if _, err := Parse(document); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO principal_policies (account, principal, name, document, created, updated) VALUES ($1, $2, $3, $4, $5, $5)
		ON CONFLICT (principal, name) DO UPDATE SET document = excluded.document, updated = excluded.updated`,
		account, principal, name, document, store.Micros(tx.Now))
	if err != nil {
		return fault.Wrap(err, "storing a policy")
	}
	var count int
	if err := tx.QueryRow(`SELECT COUNT(*) FROM principal_policies WHERE principal = $1`, principal).Scan(&count); err != nil {
		return fault.Wrap(err, "counting policies")
	}
	if count > maxPolicies {
		return fault.New(fault.QuotaExceeded, "A principal has at most %d policies.", maxPolicies)
	}
	return nil
}

// Get finds one policy; fault.NotFound where there is none.
func (e *Engine) Get(tx *store.Tx, account, principal, name string) (Stored, error) {
	list, err := read(tx, `WHERE account = $1 AND principal = $2 AND name = $3`, account, principal, name)
	if err == nil && len(list) == 0 {
		return Stored{}, noPolicy(principal, name)
	}
	if err != nil {
		return Stored{}, err
	}
	return list[0], nil
}

// List is a principal's policies by name; with an empty principal, all of the account.
func (e *Engine) List(tx *store.Tx, account, principal string) ([]Stored, error) {
	if principal == "" {
		return read(tx, `WHERE account = $1 ORDER BY principal, name`, account)
	}
	return read(tx, `WHERE account = $1 AND principal = $2 ORDER BY name`, account, principal)
}

// Delete takes a policy away; fault.NotFound where there is none.
func (e *Engine) Delete(tx *store.Tx, account, principal, name string) error {
	gone, err := tx.Exec(`DELETE FROM principal_policies WHERE account = $1 AND principal = $2 AND name = $3`, account, principal, name)
	if err != nil {
		return fault.Wrap(err, "deleting a policy")
	}
	if gone == 0 {
		return noPolicy(principal, name)
	}
	return nil
}

// DeleteAll takes all of a principal's policies away, for the transaction that deletes the principal.
func (e *Engine) DeleteAll(tx *store.Tx, account, principal string) error {
	_, err := tx.Exec(`DELETE FROM principal_policies WHERE account = $1 AND principal = $2`, account, principal)
	return fault.Wrap(err, "deleting a principal's policies")
}

func noPolicy(principal, name string) error {
	return fault.New(fault.NotFound, "%s has no policy named %s.", principal, name)
}

func read(tx *store.Tx, where string, args ...any) ([]Stored, error) {
	rows, err := tx.Query(`SELECT principal, name, document, created, updated FROM principal_policies `+where, args...)
	if err != nil {
		return nil, fault.Wrap(err, "reading policies")
	}
	defer rows.Close()
	var list []Stored
	for rows.Next() {
		var s Stored
		var created, updated int64
		if err := rows.Scan(&s.Principal, &s.Name, &s.Document, &created, &updated); err != nil {
			return nil, fault.Wrap(err, "reading policies")
		}
		s.Created, s.Updated = store.Time(created), store.Time(updated)
		list = append(list, s)
	}
	return list, fault.Wrap(rows.Err(), "reading policies")
}

// attached is the principal's parsed policies. A document that this version
// cannot parse (an older one attached it) fails the request: it might be a Deny.
func (e *Engine) attached(ctx context.Context, account, principal string) ([]Attached, error) {
	if e.db == nil || account == "" || principal == "" {
		return nil, fault.Wrap(errors.New("no database, account or principal"), "reading policies")
	}
	return e.sets.Look(ctx, account+" "+principal, func(tx *store.Tx) ([]Attached, error) {
		list, err := e.List(tx, account, principal)
		if err != nil {
			return nil, err
		}
		set := make([]Attached, len(list))
		for i, stored := range list {
			d, err := e.compile(stored.Document)
			if err != nil {
				return nil, fault.Wrap(errors.New("the policy "+stored.Name+" of "+principal+" cannot be read: "+err.Error()), "reading policies")
			}
			set[i] = Attached{stored.Name, d}
		}
		return set, nil
	})
}

// compile parses a document once for as long as it is in use, whoever has it:
// on PostgreSQL, where nothing read is remembered, only the text is read again.
func (e *Engine) compile(document string) (*Document, error) {
	return e.compileAs(document, func() (*Document, error) { return Parse(document) })
}

// compileAs is compile for documents that are read in another way. Their key has
// a resource's ARN in front, which no identity-based document begins with.
func (e *Engine) compileAs(key string, parse func() (*Document, error)) (*Document, error) {
	if d, ok := e.documents.GetIfPresent(key); ok {
		return d, nil
	}
	d, err := parse()
	if err == nil {
		e.documents.Set(key, d)
	}
	return d, err
}

// CheckPrincipal refuses what no policy can be attached to: anything but a user
// or a role of the account. The root needs none.
func CheckPrincipal(account, principal string) error {
	arn, err := api.ParseARN(principal)
	if err != nil {
		return err
	}
	kind, name, _ := strings.Cut(arn.Resource, "/")
	switch {
	case arn.Partition != "aws" || arn.Service != "iam" || arn.Region != "" || kind != "user" && kind != "role" || !validName(name, 64):
		return fault.New(fault.Invalid, "The principal %s is neither a user nor a role: arn:aws:iam::ACCOUNT:user/NAME or arn:aws:iam::ACCOUNT:role/NAME.", principal)
	case arn.Account != account:
		return fault.New(fault.Denied, "The principal %s is not of account %s.", principal, account)
	}
	return nil
}

// validName is IAM's: [\w+=,.@-].
func validName(name string, longest int) bool {
	return name != "" && len(name) <= longest && !strings.ContainsFunc(name, func(r rune) bool {
		return notIdentifier(r) && !strings.ContainsRune("+=,.@_-", r)
	})
}

// DefaultRoleDocument is what the role that every account starts with may do:
// the data-plane calls that a gateway makes with its own workload identity.
const DefaultRoleDocument = `{"Version":"2012-10-17","Statement":[{"Sid":"OwnWorkloadIdentity","Effect":"Allow","Action":["bedrock-agentcore:GetWorkloadAccessToken","bedrock-agentcore:GetWorkloadAccessTokenForJWT","bedrock-agentcore:GetWorkloadAccessTokenForUserId","bedrock-agentcore:GetResourceOauth2Token","bedrock-agentcore:GetResourceApiKey"],"Resource":["arn:aws:bedrock-agentcore:*:*:workload-identity-directory/*","arn:aws:bedrock-agentcore:*:*:token-vault/*"]}]}`
