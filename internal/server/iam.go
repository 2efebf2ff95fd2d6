package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/wire/query"
)

// iam are the calls of IAM and STS that programs make who set up a role for an
// agent: the same roles and policies that the operator's commands are about, each
// call under an action of its own, on the role's ARN.
type iam struct {
	db       *store.DB
	auth     *auth.Authenticator
	policies *policy.Engine
}

// The parameters' patterns, as in IAM's reference.
var (
	iamName     = regexp.MustCompile(`^[\w+=,.@-]+$`)
	iamPath     = regexp.MustCompile(`^/$`)
	iamMarker   = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	iamText     = regexp.MustCompile(`^[\t\n\r\x20-\x7e\x{a1}-\x{ff}]*$`)
	iamSeconds  = regexp.MustCompile(`^[0-9]{1,6}$`)
	iamMaxItems = regexp.MustCompile(`^([1-9][0-9]{0,2}|1000)$`)
	iamTag      = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
)

// maxDocument is IAM's bound of what a document parameter may have at all.
const maxDocument = 131072

func (i iam) actions() []query.Action {
	role := query.Parameter{Required: true, Pattern: iamName, Longest: 64}
	name := query.Parameter{Required: true, Pattern: iamName}
	document := query.Parameter{Required: true, Longest: maxDocument}
	pages := func(p map[string]query.Parameter) map[string]query.Parameter {
		p["Marker"], p["MaxItems"] = query.Parameter{Pattern: iamMarker, Longest: 320}, query.Parameter{Pattern: iamMaxItems}
		return p
	}
	type parameters = map[string]query.Parameter
	on := func(action string, p parameters, do func(context.Context, principal.Caller, *query.Form) (*query.Result, error)) query.Action {
		return query.Action{Service: query.IAM, Name: action, Parameters: p, Scope: roleScope("iam:" + action), Do: do}
	}
	return []query.Action{
		on("CreateRole", parameters{"RoleName": role, "AssumeRolePolicyDocument": document, "Path": {Pattern: iamPath, Longest: 512}, "Description": {Pattern: iamText, Longest: 1000},
			"MaxSessionDuration": {Pattern: iamSeconds}, "Tags.member.N.Key": {Pattern: iamTag}, "Tags.member.N.Value": {Pattern: iamTag, Longest: 256}}, i.createRole),
		on("GetRole", parameters{"RoleName": role}, i.getRole),
		on("DeleteRole", parameters{"RoleName": role}, i.deleteRole),
		on("ListRoles", pages(parameters{"PathPrefix": {Pattern: iamPath, Longest: 512}}), i.listRoles),
		on("PutRolePolicy", parameters{"RoleName": role, "PolicyName": name, "PolicyDocument": document}, i.putRolePolicy),
		on("GetRolePolicy", parameters{"RoleName": role, "PolicyName": name}, i.getRolePolicy),
		on("DeleteRolePolicy", parameters{"RoleName": role, "PolicyName": name}, i.deleteRolePolicy),
		on("ListRolePolicies", pages(parameters{"RoleName": role}), i.listRolePolicies),
		{Service: query.STS, Name: "GetCallerIdentity", Scope: func(context.Context, principal.Caller, *query.Form) ([]gate.Check, error) {
			return []gate.Check{{Action: "sts:GetCallerIdentity", Resource: gate.Any}}, nil
		}, Do: i.getCallerIdentity},
	}
}

// roleScope asks for the action on the role that the form names: all of them, in a list.
func roleScope(action string) func(context.Context, principal.Caller, *query.Form) ([]gate.Check, error) {
	return func(_ context.Context, caller principal.Caller, form *query.Form) ([]gate.Check, error) {
		tags, err := tagsOf(form)
		return []gate.Check{{Action: action, Resource: auth.RoleARN(caller.Account, cmp.Or(form.Get("RoleName"), "*")), Values: tagConditions(tags)}}, err
	}
}

func tagsOf(form *query.Form) (map[string]string, error) {
	tags := map[string]string{}
	for _, tag := range form.List("Tags", "Key", "Value") {
		if _, twice := tags[tag[0]]; twice || tag[0] == "" {
			return nil, query.Invalid("Duplicate or empty tag keys found.")
		}
		tags[tag[0]] = tag[1]
	}
	if len(tags) > tagLimit {
		return nil, query.LimitExceeded("The number of tags has reached the maximum limit of " + strconv.Itoa(tagLimit) + ".")
	}
	return tags, nil
}

// roleElement is a role as IAM's answers have it.
type roleElement struct {
	Path                     string
	RoleName                 string
	RoleId                   string
	Arn                      string
	CreateDate               string
	AssumeRolePolicyDocument string
	Description              string       `xml:",omitempty"`
	MaxSessionDuration       int64        `xml:",omitempty"`
	Tags                     []tagElement `xml:"Tags>member,omitempty"`
}

type tagElement struct{ Key, Value string }

func described(r auth.Role) roleElement {
	e := roleElement{Path: "/", RoleName: r.Name, RoleId: roleID(r), Arn: r.ARN(), CreateDate: r.Created.UTC().Truncate(time.Second).Format(time.RFC3339),
		AssumeRolePolicyDocument: query.Document(cmp.Or(r.Trust, policy.DefaultTrust)), Description: r.Description, MaxSessionDuration: int64(r.MaxSession / time.Second)}
	for key, value := range r.Tags {
		e.Tags = append(e.Tags, tagElement{key, value})
	}
	slices.SortFunc(e.Tags, func(a, b tagElement) int { return strings.Compare(a.Key, b.Key) })
	return e
}

// roleID has the form of AWS's unique ids.
func roleID(r auth.Role) string { return uniqueID("AROA", r.ID) }

func uniqueID(prefix, of string) string {
	sum := sha256.Sum256([]byte(of))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:17]
}

type roleResult struct{ Role roleElement }

func (i iam) createRole(ctx context.Context, caller principal.Caller, form *query.Form) (*query.Result, error) {
	role := auth.Role{Account: caller.Account, Name: form.Get("RoleName"), Trust: form.Get("AssumeRolePolicyDocument"), Description: form.Get("Description")}
	if _, err := policy.ParseTrust(role.Trust); err != nil {
		if policy.TooLong(role.Trust, policy.MaxTrustPolicy) {
			return nil, query.LimitExceeded("Cannot exceed quota for ACLSizePerRole: " + strconv.Itoa(policy.MaxTrustPolicy))
		}
		return nil, query.MalformedPolicy(err)
	}
	if text := form.Get("MaxSessionDuration"); text != "" {
		seconds, _ := strconv.Atoi(text) // digits, by its pattern
		if role.MaxSession = time.Duration(seconds) * time.Second; role.MaxSession < time.Hour || role.MaxSession > 12*time.Hour {
			return nil, query.Invalid("MaxSessionDuration is from 3600 to 43200 seconds.")
		}
	}
	var err error
	if role.Tags, err = tagsOf(form); err != nil {
		return nil, err
	}
	err = i.db.Update(ctx, func(tx *store.Tx) (err error) {
		if err := i.auth.CreateRole(tx, role); err != nil {
			return err
		}
		role, err = i.auth.FindRole(tx, role.Account, role.Name)
		return err
	})
	if fault.Is(err, fault.Conflict) {
		return nil, fault.New(fault.Conflict, "Role with name %s already exists.", role.Name)
	}
	if err != nil {
		return nil, err
	}
	return &query.Result{Content: roleResult{described(role)}}, nil
}

// role finds the role that a form names, in IAM's words where there is none.
func (i iam) role(tx *store.Tx, caller principal.Caller, form *query.Form) (auth.Role, error) {
	role, err := i.auth.FindRole(tx, caller.Account, form.Get("RoleName"))
	if fault.Is(err, fault.NotFound) {
		err = fault.New(fault.NotFound, "The role with name %s cannot be found.", form.Get("RoleName"))
	}
	return role, err
}

func (i iam) getRole(ctx context.Context, caller principal.Caller, form *query.Form) (*query.Result, error) {
	var role auth.Role
	if err := i.db.View(ctx, func(tx *store.Tx) (err error) { role, err = i.role(tx, caller, form); return err }); err != nil {
		return nil, err
	}
	return &query.Result{Content: roleResult{described(role)}}, nil
}

// deleteRole deletes a role without policies; as at AWS, these go first.
func (i iam) deleteRole(ctx context.Context, caller principal.Caller, form *query.Form) (*query.Result, error) {
	return nil, i.db.Update(ctx, func(tx *store.Tx) error {
		role, err := i.role(tx, caller, form)
		if err != nil {
			return err
		}
		attached, err := i.policies.List(tx, role.Account, role.ARN())
		if err != nil {
			return err
		}
		if len(attached) > 0 {
			return query.DeleteConflict("Cannot delete entity, must delete policies first.")
		}
		return i.auth.DeleteRole(tx, role.Account, role.Name)
	})
}

// page is what a list answers beside its members.
type page struct {
	IsTruncated bool
	Marker      string `xml:",omitempty"`
}

// paged cuts a list that is sorted by name. A marker is the last name of the page before.
func paged[T any](form *query.Form, all []T, name func(T) string) ([]T, page, error) {
	limit := 100
	if text := form.Get("MaxItems"); text != "" {
		limit, _ = strconv.Atoi(text) // digits, by its pattern
	}
	if marker := form.Get("Marker"); marker != "" {
		last, err := base64.RawURLEncoding.DecodeString(marker)
		if err != nil {
			return nil, page{}, query.Invalid("Invalid Marker.")
		}
		after := slices.IndexFunc(all, func(one T) bool { return name(one) > string(last) })
		if after < 0 {
			after = len(all)
		}
		all = all[after:]
	}
	if len(all) <= limit {
		return all, page{}, nil
	}
	return all[:limit], page{true, base64.RawURLEncoding.EncodeToString([]byte(name(all[limit-1])))}, nil
}

func (i iam) listRoles(ctx context.Context, caller principal.Caller, form *query.Form) (*query.Result, error) {
	var all []auth.Role
	if err := i.db.View(ctx, func(tx *store.Tx) (err error) { all, err = i.auth.ListRoles(tx, caller.Account); return err }); err != nil {
		return nil, err
	}
	roles, more, err := paged(form, all, func(r auth.Role) string { return r.Name })
	if err != nil {
		return nil, err
	}
	result := struct {
		page
		Roles []roleElement `xml:"Roles>member"`
	}{page: more}
	for _, role := range roles {
		e := described(role)
		e.Tags = nil // AWS's list has none
		result.Roles = append(result.Roles, e)
	}
	return &query.Result{Content: result}, nil
}

func (i iam) putRolePolicy(ctx context.Context, caller principal.Caller, form *query.Form) (*query.Result, error) {
	document := form.Get("PolicyDocument")
	if _, err := policy.Parse(document); err != nil {
		if policy.TooLong(document, policy.MaxDocument) {
			return nil, query.LimitExceeded("Maximum policy size of " + strconv.Itoa(policy.MaxDocument) + " bytes exceeded for role " + form.Get("RoleName"))
		}
		return nil, query.MalformedPolicy(err)
	}
	return nil, i.db.Update(ctx, func(tx *store.Tx) error {
		role, err := i.role(tx, caller, form)
		if err != nil {
			return err
		}
		return i.policies.Put(tx, role.Account, role.ARN(), form.Get("PolicyName"), document)
	})
}

func (i iam) getRolePolicy(ctx context.Context, caller principal.Caller, form *query.Form) (*query.Result, error) {
	var found policy.Stored
	err := i.db.View(ctx, func(tx *store.Tx) error {
		role, err := i.role(tx, caller, form)
		if err != nil {
			return err
		}
		found, err = i.policies.Get(tx, role.Account, role.ARN(), form.Get("PolicyName"))
		return noRolePolicy(err, form)
	})
	if err != nil {
		return nil, err
	}
	return &query.Result{Content: struct{ RoleName, PolicyName, PolicyDocument string }{form.Get("RoleName"), found.Name, query.Document(found.Document)}}, nil
}

func noRolePolicy(err error, form *query.Form) error {
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.NotFound, "The role policy with name %s cannot be found.", form.Get("PolicyName"))
	}
	return err
}

func (i iam) deleteRolePolicy(ctx context.Context, caller principal.Caller, form *query.Form) (*query.Result, error) {
	return nil, i.db.Update(ctx, func(tx *store.Tx) error {
		role, err := i.role(tx, caller, form)
		if err != nil {
			return err
		}
		return noRolePolicy(i.policies.Delete(tx, role.Account, role.ARN(), form.Get("PolicyName")), form)
	})
}

func (i iam) listRolePolicies(ctx context.Context, caller principal.Caller, form *query.Form) (*query.Result, error) {
	var all []policy.Stored
	err := i.db.View(ctx, func(tx *store.Tx) error {
		role, err := i.role(tx, caller, form)
		if err != nil {
			return err
		}
		all, err = i.policies.List(tx, role.Account, role.ARN())
		return err
	})
	if err != nil {
		return nil, err
	}
	list, more, err := paged(form, all, func(p policy.Stored) string { return p.Name })
	if err != nil {
		return nil, err
	}
	result := struct {
		page
		PolicyNames []string `xml:"PolicyNames>member"`
	}{page: more}
	for _, p := range list {
		result.PolicyNames = append(result.PolicyNames, p.Name)
	}
	return &query.Result{Content: result}, nil
}

// getCallerIdentity says who asks. AWS asks for no permission here; this server
// does, as for everything else.
func (i iam) getCallerIdentity(ctx context.Context, caller principal.Caller, _ *query.Form) (*query.Result, error) {
	id := uniqueID("AIDA", caller.ARN)
	switch {
	case caller.Root:
		id = caller.Account
	case caller.Kind == principal.Role:
		parts := strings.Split(caller.ARN, "/")
		var role auth.Role
		if err := i.db.View(ctx, func(tx *store.Tx) (err error) { role, err = i.auth.FindRole(tx, caller.Account, parts[1]); return err }); err != nil {
			return nil, err
		}
		id = roleID(role) + ":" + parts[2]
	}
	return &query.Result{Content: struct{ Arn, UserId, Account string }{caller.ARN, id, caller.Account}}, nil
}
