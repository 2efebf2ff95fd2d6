package server

import (
	"context"
	"maps"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/gateway"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/runtime"
)

// tagLimit is how many tags a resource may have.
const tagLimit = 50

// tagger is the room that owns a row with tags: it answers them as change left
// them; a nil change changes nothing.
type tagger func(ctx context.Context, account, name string, change func(map[string]string) error) (map[string]string, error)

// tags are the operations on tags, which find the room that owns the row by the ARN's type.
type tags struct {
	region string
	owners []tagOwner
}

type tagOwner struct {
	arn func(region, account, name string) string
	tag tagger
}

func newTags(region string, identities *identity.Service, b *broker.Broker, g *gateway.Service, r *runtime.Service) tags {
	return tags{region, []tagOwner{
		{api.WorkloadIdentityARN, identities.Tags},
		{api.Oauth2CredentialProviderARN, b.Oauth2ProviderTags},
		{api.ApiKeyCredentialProviderARN, b.ApiKeyProviderTags},
		{api.GatewayARN, g.Tags},
		{endpointARN, endpointTags(r)}, // first: its ARN begins as the runtime's does
		{api.AgentRuntimeARN, r.Tags},
	}}
}

// endpointARN is the ARN of a runtime's endpoint, whose name has two parts.
func endpointARN(region, account, name string) string {
	id, endpoint, _ := strings.Cut(name, endpointInfix)
	return api.AgentRuntimeEndpointARN(region, account, id, endpoint)
}

func endpointTags(r *runtime.Service) tagger {
	return func(ctx context.Context, account, name string, change func(map[string]string) error) (map[string]string, error) {
		id, endpoint, _ := strings.Cut(name, endpointInfix)
		return r.EndpointTags(ctx, account, id, endpoint, change)
	}
}

const endpointInfix = "/runtime-endpoint/"

// nameOf is what the owner of a resource calls it: an endpoint by its runtime as well.
func nameOf(arn api.ARN) string {
	if rest, found := strings.CutPrefix(arn.Resource, "runtime/"); found && strings.Contains(rest, endpointInfix) {
		return rest
	}
	return arn.Name()
}

// change finds the owner of an ARN, which must be of this region and of the
// caller's account, or one that the gate has permitted the act on.
func (t tags) change(ctx context.Context, caller principal.Caller, arn string, change func(map[string]string) error) (map[string]string, error) {
	parsed, err := api.ParseARN(arn)
	if err != nil {
		return nil, fault.InvalidField("resourceArn", "%s", fault.Of(err).Message)
	}
	account := caller.Account
	if gate.Permitted(ctx, arn) {
		account = parsed.Account
	}
	for _, owner := range t.owners {
		if name := nameOf(parsed); owner.arn(t.region, account, name) == arn {
			return owner.tag(ctx, account, name, change)
		}
	}
	return nil, fault.New(fault.NotFound, "Resource %s not found, or it is of a kind that has no tags.", arn)
}

// of is the tags of any account's resource, for policies with a condition on
// them; none of what does not exist, or has no tags.
func (t tags) of(ctx context.Context, arn string) (map[string]string, error) {
	parsed, err := api.ParseARN(arn)
	if err != nil {
		return nil, nil
	}
	found, err := t.change(ctx, principal.Caller{Account: parsed.Account}, arn, nil)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return found, err
}

func (t tags) list(ctx context.Context, caller principal.Caller, r *api.ListTagsForResourceRequest) (*api.ListTagsForResourceResponse, error) {
	found, err := t.change(ctx, caller, r.ResourceArn, nil)
	if err != nil {
		return nil, err
	}
	return &api.ListTagsForResourceResponse{Tags: found}, nil
}

func (t tags) add(ctx context.Context, caller principal.Caller, r *api.TagResourceRequest) (*api.TagResourceResponse, error) {
	_, err := t.change(ctx, caller, r.ResourceArn, func(tags map[string]string) error {
		maps.Copy(tags, r.Tags)
		if len(tags) > tagLimit {
			return fault.New(fault.QuotaExceeded, "A resource has at most %d tags.", tagLimit)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.TagResourceResponse{}, nil
}

// remove takes tags away; those that are not there are no error, as at AWS.
func (t tags) remove(ctx context.Context, caller principal.Caller, r *api.UntagResourceRequest) (*api.UntagResourceResponse, error) {
	_, err := t.change(ctx, caller, r.ResourceArn, func(tags map[string]string) error {
		for _, key := range r.TagKeys {
			delete(tags, key)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.UntagResourceResponse{}, nil
}
