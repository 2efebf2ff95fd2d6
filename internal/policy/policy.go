// Package policy answers one question: may this caller do this action on this
// resource.
//
//	gate ── Caller, Checks ──▶ Decide ──▶ account of each resource ──▶ what the kind of caller may
//	                                                        │ users and roles
//	                                                        ▼
//	          their IAM documents (025_policy.sql) ── Parse, once per text ──▶ explicit deny ▸ allow ▸ no
//	          the resource's own (026_resource_policies.sql) ── ParseResource ──┘
//
//	document.go, json.go   text to statements; nothing unknown is passed over
//	pattern.go             * and ? and ${variables}, in texts and in ARNs
//	condition.go, keys.go  operators, and what of a request they can ask about
//	evaluate.go            AWS's rule
//	attached.go            where documents of users and roles are kept
//	resource.go            those of resources, and the trust policies of roles
//	principals.go          whom a statement of these is about
//	actions.go             which action is asked for on which types of resource
//	explain.go             the same, in words
//
// Invariant: what no rule allows is denied, nobody reaches beyond his own account
// but where a policy of the other's resource names him or his account, and a
// document that cannot be read or parsed allows nothing.
package policy

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/memo"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Check is one question. An act that touches several resources asks several,
// and happens only when all are answered with yes.
type Check struct {
	Action   string // "bedrock-agentcore:CreateGateway"
	Resource string // an ARN, or Any for an action that names no resource

	// Values are condition keys of the request itself, in lower case, such as
	// "aws:requesttag/team"; those that follow from the caller are known already.
	Values map[string][]string
}

// Any is the resource of an action that names none. It never reaches beyond the caller's account.
const Any = "*"

// The actions that callers without an IAM identity may do. All others need one.
const (
	InvokeGateway   = "bedrock-agentcore:InvokeGateway" // calls a tool of a gateway
	ActionAuthorize = "onbehalf:Authorize"              // a browser opens a consent link
	ActionCallback  = "onbehalf:Callback"               // a browser comes back from the provider
	ActionConnect   = "onbehalf:Connect"                // a browser ends on our own return page
)

var frontChannel = []string{ActionAuthorize, ActionCallback, ActionConnect}

// Engine answers Checks. It is safe for concurrent use.
type Engine struct {
	db        *store.DB
	tags      Tags
	sets      *store.Cache[string, []Attached]
	documents *memo.Cache[string, *Document]
}

// Tags finds the tags of a resource by its ARN; none where there is no such
// resource. It is asked only when a policy has a condition on them.
type Tags func(ctx context.Context, arn string) (map[string]string, error)

// UseTags names the finder of tags, before the first question.
func (e *Engine) UseTags(find Tags) { e.tags = find }

// Bounds of what is remembered: principals, and texts of documents.
const (
	maxSets      = 4096
	maxDocuments = 4096
)

// New makes an engine over the database that policy documents are kept in.
func New(db *store.DB) *Engine {
	return &Engine{
		db:        db,
		sets:      store.NewCache[string, []Attached](db, maxSets),
		documents: memo.ByNumber[string, *Document](maxDocuments),
	}
}

// Decide returns nil when the caller may do all of checks, and otherwise a
// fault.Denied whose text names principal, action and resource as AWS does. To
// ask nothing is a mistake of the program, and refused as fault.Internal.
func (e *Engine) Decide(ctx context.Context, caller principal.Caller, checks []Check) error {
	if len(checks) == 0 {
		return fault.Wrap(errors.New("an act without a check"), "deciding")
	}
	var documents []Attached
	if documented(caller) {
		var err error
		if documents, err = e.attached(ctx, caller.Account, identityARN(caller)); err != nil {
			return err
		}
	}
	for _, check := range checks {
		if check.Action == "" || check.Resource == "" {
			return fault.Wrap(errors.New("a check without an action or a resource"), "deciding")
		}
		if err := e.decide(ctx, caller, documents, check); err != nil {
			return err
		}
	}
	return nil
}

// documented says whose rights follow from documents: users and roles.
func documented(caller principal.Caller) bool {
	return caller.Account != "" && caller.ARN != "" && !caller.Root && (caller.Kind == principal.Key || caller.Kind == principal.Role)
}

// decide answers one check: what the caller's own policies say, and what the
// resource's policy says, where it has one. An explicit deny of either wins.
//
//	same account     either may allow; a user of a gateway must be allowed by its policy, if it has one
//	another account  both must allow
func (e *Engine) decide(ctx context.Context, caller principal.Caller, identity []Attached, check Check) error {
	foreign := !ownAccount(caller, check.Resource)
	if caller.Account == "" && (foreign || caller.Kind != principal.System) {
		return denied(caller, check, "resource-based")
	}
	if !foreign && (caller.Kind == principal.Key && caller.Root || caller.Kind == principal.System) {
		return nil // who may do everything in the account cannot be locked out of it
	}
	ofResource, err := e.onResource(ctx, check.Resource)
	switch {
	case err != nil:
		return err
	case foreign && len(ofResource) == 0:
		return denied(caller, check, "resource-based")
	}
	r := e.asked(ctx, caller, check)
	own, theirs, how := e.opinions(identity, ofResource, asker{caller: caller, foreign: foreign}, check, r)
	switch {
	case r.problem != nil:
		return r.problem
	case foreign && !theirs.allowed && !theirs.denied:
		// First, so that whom the other account does not let in learns nothing of
		// its resource, such as tags by the conditions of a Deny of his own.
		return denied(caller, check, "resource-based")
	case own.denied:
		return deniedExplicitly(caller, own.about(check), "identity")
	case theirs.denied:
		return deniedExplicitly(caller, check, "resource")
	case foreign && !own.allowed:
		return denied(caller, check, "identity-based")
	case foreign, own.allowed && (documented(caller) || len(ofResource) == 0):
		return nil
	case documented(caller) && theirs.allowed && how > toAccount:
		return nil
	case !own.allowed:
		return denied(caller, check, "identity-based")
	case !theirs.allowed:
		return denied(caller, check, "resource-based") // nothing but the gateway's policy can let its users in
	}
	return nil
}

// opinions are what the caller's own policies and the resource's say, each for
// itself. how says whether an Allow of the resource's is enough.
func (e *Engine) opinions(identity, ofResource []Attached, who asker, check Check, r *request) (own, theirs verdict, how weight) {
	own = e.own(who.caller, identity, check, r)
	if len(ofResource) > 0 {
		theirs, how = granted(ofResource[0], who, check.Action, check.Resource, r.value)
	}
	if own.allowed && !theirs.denied || theirs.allowed {
		own = e.behind(identity, check, r, own)
	}
	return own, theirs, how
}

// own is what the caller's kind and its own policies say.
func (e *Engine) own(caller principal.Caller, identity []Attached, check Check, r *request) verdict {
	if documented(caller) {
		return evaluate(identity, check.Action, check.Resource, r.value)
	}
	return verdict{allowed: allowed(caller, check)}
}

// behind turns an allowance into the denial of the secret behind it, where the
// caller's policies have one.
func (e *Engine) behind(identity []Attached, check Check, r *request, so verdict) verdict {
	behind, ok := secretBehind(check)
	if !ok {
		return so
	}
	resource := r.resource
	r.resource = behind.Resource
	defer func() { r.resource = resource }()
	if v := evaluate(identity, behind.Action, behind.Resource, r.value); v.denied {
		behind.Resource = strings.ReplaceAll(behind.Resource, unknownSuffix, "*")
		v.instead = &behind
		return v
	}
	return so
}

// The actions that hand out what AWS keeps in Secrets Manager.
const (
	getAPIKey      = "bedrock-agentcore:GetResourceApiKey"
	getOauth2Token = "bedrock-agentcore:GetResourceOauth2Token"
	getSecretValue = "secretsmanager:GetSecretValue"
)

// unknownSuffix is the six letters and digits at the end of a secret's ARN, which only
// the provider's row has.
const unknownSuffix = "\x00\x00\x00\x00\x00\x00"

// secretBehind is the question about a provider's secret that a denial, and only
// a denial, may answer. At AWS the caller needs secretsmanager:GetSecretValue as
// well. Here the right to the token or key is enough; but who was explicitly
// denied the secret does not get it by this way round. A denial that names the
// secret with its suffix counts for every secret of that provider's name.
func secretBehind(check Check) (Check, bool) {
	if check.Action != getAPIKey && check.Action != getOauth2Token {
		return Check{}, false
	}
	arn, err := api.ParseARN(check.Resource)
	if err != nil {
		return Check{}, false
	}
	kind := ""
	switch {
	case strings.Contains(arn.Resource, "/apikeycredentialprovider/"):
		kind = "apikey"
	case strings.Contains(arn.Resource, "/oauth2credentialprovider/"):
		kind = "oauth2"
	default:
		return Check{}, false
	}
	secret := api.SecretARN(arn.Region, arn.Account, "bedrock-agentcore-identity!"+api.TokenVaultID+"/"+kind+"/"+arn.Name()+"-"+unknownSuffix)
	return Check{Action: getSecretValue, Resource: secret}, true
}

// ownAccount keeps tenants apart. An ARN without an account, or that is none,
// belongs to nobody.
func ownAccount(caller principal.Caller, resource string) bool {
	if resource == Any {
		return true
	}
	arn, err := api.ParseARN(resource)
	return err == nil && arn.Account != "" && arn.Account == caller.Account
}

// allowed is what a kind of caller without documents may do within its account.
func allowed(caller principal.Caller, check Check) bool {
	switch caller.Kind {
	case principal.System:
		return true
	case principal.Key:
		return caller.Root && caller.Account != "" // in another account, that one's resource allows as well or not at all
	case principal.Bearer, principal.Anonymous:
		its := check.Resource != Any && check.Resource == caller.Authorizer
		if ofAgents(check.Action) {
			return its || endpointOf(caller.Authorizer, check.Resource)
		}
		return its && check.Action == InvokeGateway
	case principal.Browser:
		return slices.Contains(frontChannel, check.Action)
	default: // Nobody, and what is added without a thought for this line
		return false
	}
}

// ofAgents reports whether an action is a call of a hosted agent that its
// authorizer may let in. To act for a user of one's own choice is none: with a
// token, the user is the one of the token.
func ofAgents(action string) bool {
	name, found := strings.CutPrefix(action, serviceName+":")
	return found && name != "InvokeAgentRuntimeForUser" && slices.Contains(callsOfAgents, name)
}

// endpointOf reports whether a resource is an endpoint of the runtime: the
// runtime's authorizer is that of its endpoints.
func endpointOf(runtime, resource string) bool {
	name, found := strings.CutPrefix(resource, runtime+"/runtime-endpoint/")
	return runtime != "" && found && name != "" && !strings.Contains(name, "/")
}

// denied words the refusal as AWS does, because people search for its words.
func denied(caller principal.Caller, check Check, missing string) error {
	return fault.New(fault.Denied, "User: %s is not authorized to perform: %s on resource: %s because no %s policy allows the %s action",
		name(caller), check.Action, check.Resource, missing, check.Action)
}

func deniedExplicitly(caller principal.Caller, check Check, base string) error {
	article := map[string]string{"identity": "an", "resource": "a"}[base]
	return fault.New(fault.Denied, "User: %s is not authorized to perform: %s on resource: %s with an explicit deny in %s %s-based policy",
		name(caller), check.Action, check.Resource, article, base)
}

// name is what the refusal calls the caller: it goes back to the caller alone.
func name(caller principal.Caller) string {
	switch {
	case caller.ARN != "":
		return caller.ARN
	case caller.Kind == principal.Bearer && !caller.User.IsZero():
		return caller.User.String()
	default:
		return cmp.Or(string(caller.Kind), "anonymous")
	}
}
