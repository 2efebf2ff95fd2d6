package server

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/gateway"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// resourcePolicies are the operations on the policies of resources: policy keeps
// them, and the room that owns the resource says that it exists.
type resourcePolicies struct {
	db       *store.DB
	policies *policy.Engine
	region   string
	gateways *gateway.Service
}

// on runs fn on a resource that exists and may have a policy. It may be another
// account's, where its policy says so: the gate has permitted this very ARN.
func (p resourcePolicies) on(ctx context.Context, arn string, act func(context.Context, func(*store.Tx) error) error, fn func(tx *store.Tx, account string) error) error {
	parsed, err := api.ParseARN(arn)
	if err != nil {
		return fault.InvalidField("resourceArn", "%s", fault.Of(err).Message)
	}
	if !policy.HasPolicy(parsed) || api.GatewayARN(p.region, parsed.Account, parsed.Name()) != arn || !gate.Permitted(ctx, arn) {
		return fault.New(fault.NotFound, "Resource %s was not found, or it is of a kind that has no policy of its own: gateways have.", arn)
	}
	return act(ctx, func(tx *store.Tx) error {
		if err := p.gateways.Check(tx, parsed.Account, parsed.Name()); err != nil {
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
