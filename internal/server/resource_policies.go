package server

import (
	"context"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/gateway"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/runtime"
	"github.com/onbehalf/onbehalf/internal/store"
)

// resourcePolicies are the operations on the policies of resources: policy keeps
// them, and the room that owns the resource says that it exists.
type resourcePolicies struct {
	db       *store.DB
	policies *policy.Engine
	region   string
	gateways *gateway.Service
	agents   *runtime.Service
}

// exists is the room's word on the resource of an ARN that may have a policy; nil
// for an ARN that is spelt otherwise than the room spells it.
func (p resourcePolicies) exists(arn api.ARN) (spelt string, check func(tx *store.Tx) error) {
	switch kind, name, _ := strings.Cut(arn.Resource, "/"); {
	case !policy.HasPolicy(arn):
		return "", nil
	case kind == "gateway":
		return api.GatewayARN(p.region, arn.Account, name), func(tx *store.Tx) error { return p.gateways.Check(tx, arn.Account, name) }
	default:
		id, endpoint, _ := strings.Cut(name, "/runtime-endpoint/")
		if endpoint == "" {
			return api.AgentRuntimeARN(p.region, arn.Account, id), func(tx *store.Tx) error { return p.agents.Check(tx, arn.Account, id, "") }
		}
		return api.AgentRuntimeEndpointARN(p.region, arn.Account, id, endpoint), func(tx *store.Tx) error { return p.agents.Check(tx, arn.Account, id, endpoint) }
	}
}

// on runs fn on a resource that exists and may have a policy. It may be another
// account's, where its policy says so: the gate has permitted this very ARN.
func (p resourcePolicies) on(ctx context.Context, arn string, act func(context.Context, func(*store.Tx) error) error, fn func(tx *store.Tx, account string) error) error {
	parsed, err := api.ParseARN(arn)
	if err != nil {
		return fault.InvalidField("resourceArn", "%s", fault.Of(err).Message)
	}
	spelt, check := p.exists(parsed)
	if spelt != arn || !gate.Permitted(ctx, arn) {
		return fault.New(fault.NotFound, "Resource %s was not found, or it is of a kind that has no policy of its own: gateways, agent runtimes and their endpoints have.", arn)
	}
	return act(ctx, func(tx *store.Tx) error {
		if err := check(tx); err != nil {
			return err
		}
		return fn(tx, parsed.Account)
	})
}

func (p resourcePolicies) put(ctx context.Context, _ principal.Caller, r *api.PutResourcePolicyRequest) (*api.PutResourcePolicyResponse, error) {
	err := p.on(ctx, r.ResourceArn, p.db.Update, func(tx *store.Tx, account string) error {
		return p.policies.PutResource(tx, account, r.ResourceArn, r.Policy)
	})
	if err != nil {
		return nil, err
	}
	return &api.PutResourcePolicyResponse{Policy: r.Policy}, nil
}

func (p resourcePolicies) get(ctx context.Context, _ principal.Caller, r *api.GetResourcePolicyRequest) (*api.GetResourcePolicyResponse, error) {
	var document string
	err := p.on(ctx, r.ResourceArn, p.db.View, func(tx *store.Tx, account string) (err error) {
		document, err = p.policies.Resource(tx, account, r.ResourceArn)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &api.GetResourcePolicyResponse{Policy: &document}, nil
}

// remove is idempotent, as the model says: a policy that is not there is no error.
func (p resourcePolicies) remove(ctx context.Context, _ principal.Caller, r *api.DeleteResourcePolicyRequest) (*api.DeleteResourcePolicyResponse, error) {
	err := p.on(ctx, r.ResourceArn, p.db.Update, func(tx *store.Tx, account string) error {
		_, err := p.policies.DeleteResource(tx, account, r.ResourceArn)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteResourcePolicyResponse{}, nil
}
