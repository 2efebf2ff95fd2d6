package policy

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// contextKeys are the condition keys and policy variables that this server
// knows, by their names in lower case, as names are compared.
//
// A key that is not here is refused when a policy is attached. AWS takes any,
// and a condition on a key that no request has is then decided by its absence:
// an Allow that never allows, or a Deny that never denies.
var contextKeys = map[string]func(*request) string{
	"aws:principalarn":           func(r *request) string { return identityARN(r.caller) },
	"aws:principalaccount":       func(r *request) string { return principalAccount(r.caller) },
	"aws:principaltype":          func(r *request) string { return principalType(r.caller) },
	"aws:username":               func(r *request) string { return userName(r.caller) },
	"aws:sourceip":               func(r *request) string { return address(r.caller.Request.Address) },
	"aws:currenttime":            func(r *request) string { return r.now.UTC().Format(time.RFC3339) },
	"aws:epochtime":              func(r *request) string { return strconv.FormatInt(r.now.Unix(), 10) },
	"aws:securetransport":        func(r *request) string { return strconv.FormatBool(r.caller.Request.Secure) },
	"aws:requestedregion":        func(r *request) string { return region(r) },
	"aws:resourceaccount":        func(r *request) string { return resourceAccount(r) },
	"aws:multifactorauthpresent": func(*request) string { return "false" },
	"aws:multifactorauthage":     func(*request) string { return "" }, // without MFA, AWS leaves it out as well
	"aws:viaawsservice":          func(*request) string { return "false" },
	"aws:principalisawsservice":  func(*request) string { return "false" },

	// Keys of one request, which come with its checks; absent from all others.
	"aws:tagkeys":             nil,
	"aws:sourceaccount":       nil, // of a service that takes a role on
	"aws:sourcearn":           nil,
	KeyPassedToService:        nil,
	KeyAssociatedResource:     nil,
	KeyUserID:                 nil,
	KeyJWTClaim + "iss":       nil,
	KeyJWTClaim + "sub":       nil,
	KeyJWTClaim + "aud":       nil,
	KeyJWTClaim + "client_id": nil,
	KeyJWTClaim + "scope":     nil,
	KeyAuthorizerType:         nil,
	KeyDiscoveryURL:           nil,
	KeyProtocolType:           nil,
	KeyCredentialType:         nil,
	KeyCredentialScope:        nil,
	KeySubnets:                nil,
	KeySecurityGroups:         nil,
}

// The service's own condition keys, in lower case, as far as AWS's reference has
// them for what this server does.
const (
	KeyUserID          = "bedrock-agentcore:userid"
	KeyJWTClaim        = "bedrock-agentcore:inboundjwtclaim/" // and the claim
	KeyAuthorizerType  = "bedrock-agentcore:gatewayauthorizertype"
	KeyDiscoveryURL    = "bedrock-agentcore:discoveryurl"
	KeyProtocolType    = "bedrock-agentcore:protocoltype"
	KeyCredentialType  = "bedrock-agentcore:credentialprovidertype"
	KeyCredentialScope = "bedrock-agentcore:credentialproviderscope"
	KeySubnets         = "bedrock-agentcore:subnets"
	KeySecurityGroups  = "bedrock-agentcore:securitygroups"
	KeyRequestTag      = "aws:requesttag/" // and the tag, in lower case
	KeyTagKeys         = "aws:tagkeys"
	keyResourceTag     = "aws:resourcetag/"
	KeyPassedToService = "iam:passedtoservice"

	KeyAssociatedResource = "iam:associatedresourcearn"
)

// knownKey is the key as requests are asked for it.
func knownKey(name string) (string, error) {
	key := strings.ToLower(name)
	if _, known := contextKeys[key]; !known && !tagKey(key) {
		return "", fault.New(fault.Invalid, "The condition key %q is not one that this server knows, so it would be absent from every request.", name)
	}
	return key, nil
}

func tagKey(key string) bool {
	for _, prefix := range []string{KeyRequestTag, keyResourceTag} {
		if tag, is := strings.CutPrefix(key, prefix); is && tag != "" {
			return true
		}
	}
	return false
}

// request is what conditions can ask about.
type request struct {
	caller    principal.Caller
	action    string
	resource  string
	now       time.Time
	values    map[string][]string                         // that came with the check
	tags      func(arn string) (map[string]string, error) // nil: no tags
	problem   error                                       // tags could not be read: the answer does not count
	overrides map[string][]string                         // of an explanation: keys in lower case
}

// asked is the request of a check.
func (e *Engine) asked(ctx context.Context, caller principal.Caller, check Check) *request {
	r := &request{caller: caller, action: check.Action, resource: check.Resource, now: e.db.Now(), values: check.Values}
	if e.tags != nil {
		r.tags = func(arn string) (map[string]string, error) { return e.tags(ctx, arn) }
	}
	return r
}

// value is the request's lookup. A key without a value is absent.
func (r *request) value(key string) []string {
	if values, set := r.overrides[key]; set {
		return values
	}
	if values, set := r.values[key]; set {
		return values
	}
	if tag, is := strings.CutPrefix(key, keyResourceTag); is {
		return r.tagged(tag)
	}
	switch {
	case strings.HasPrefix(key, KeyJWTClaim) && r.caller.Kind == principal.Bearer:
		return ClaimValues(r.caller.UserToken.Reveal())[key] // which has been verified
	case key == KeyUserID && strings.EqualFold(r.action, invokeForUser) && r.caller.User.ID != "":
		return []string{r.caller.User.ID}
	}
	find := contextKeys[key]
	if find == nil {
		return nil
	}
	if value := find(r); value != "" {
		return []string{value}
	}
	return nil
}

// tagged is the resource's tag, whose name is in lower case, as AWS compares it.
func (r *request) tagged(name string) (values []string) {
	if r.tags == nil {
		return nil
	}
	tags, err := r.tags(r.resource)
	if err != nil {
		r.problem = err
		return nil
	}
	for key, value := range tags {
		if strings.ToLower(key) == name {
			values = append(values, value)
		}
	}
	return values
}

// principalAccount is a user's or role's; a gateway's callers have none.
func principalAccount(c principal.Caller) string {
	if principalType(c) == "" {
		return ""
	}
	return c.Account
}

func resourceAccount(r *request) string {
	arn, err := api.ParseARN(r.resource)
	if err != nil {
		return principalAccount(r.caller) // an action that names no resource stays within the account
	}
	return arn.Account
}

// identityARN is the principal that policies are attached to: the user, or the
// role behind a role's session.
func identityARN(c principal.Caller) string {
	if c.Kind == principal.Role {
		if role, ok := roleOfSession(c.ARN); ok {
			return role
		}
	}
	return c.ARN
}

// roleOfSession turns arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION into the role's own ARN.
func roleOfSession(session string) (string, bool) {
	arn, err := api.ParseARN(session)
	if err != nil || arn.Service != "sts" || arn.Type() != "assumed-role" {
		return "", false
	}
	parts := strings.Split(arn.Resource, "/")
	if len(parts) != 3 {
		return "", false
	}
	return "arn:" + arn.Partition + ":iam::" + arn.Account + ":role/" + parts[1], true
}

func principalType(c principal.Caller) string {
	switch {
	case c.Root:
		return "Account"
	case c.Kind == principal.Role:
		return "AssumedRole"
	case c.Kind == principal.Key:
		return "User"
	}
	return ""
}

// userName is a user's; roles and the root have none.
func userName(c principal.Caller) string {
	if c.Kind != principal.Key || c.Root {
		return ""
	}
	_, name, _ := strings.Cut(c.ARN, ":user/")
	return name
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().WithZone("").String()
}

// region is the one the call was made to: this server's, which is also in the ARNs of what it touches.
func region(r *request) string {
	if r.caller.Request.Region != "" {
		return r.caller.Request.Region
	}
	arn, err := api.ParseARN(r.resource)
	if err != nil {
		return ""
	}
	return arn.Region
}
