package gateway

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
)

// The calls that a gateway makes for a target that acts for a user. Made here,
// they are function calls; what its role must allow is the same as at AWS.
const (
	actionWorkloadToken = "bedrock-agentcore:GetWorkloadAccessTokenForJWT"
	actionResourceToken = "bedrock-agentcore:GetResourceOauth2Token"
)

// underRole asks whether the gateway's role may fetch the user's token for a
// tool. The role's policies are remembered, so the answer costs no statement.
func (s *Service) underRole(ctx context.Context, x *exchange, t *tool) error {
	e := x.endpoint
	directory := api.WorkloadIdentityDirectoryARN(s.options.Region, e.account)
	claims := gate.ClaimValues(x.caller.UserToken.Reveal())
	checks := []gate.Check{
		{Action: actionWorkloadToken, Resource: directory, Values: claims}, {Action: actionWorkloadToken, Resource: e.workload.ARN, Values: claims},
		{Action: actionResourceToken, Resource: directory}, {Action: actionResourceToken, Resource: e.workload.ARN},
		{Action: actionResourceToken, Resource: api.TokenVaultARN(s.options.Region, e.account)}, {Action: actionResourceToken, Resource: t.target.credential.provider},
	}
	err := s.gate.Under(ctx, e.account, e.role, e.id, checks)
	if fault.Is(err, fault.Denied) {
		return fault.New(fault.Denied, "The role that gateway %s runs under must allow this. %s", e.id, fault.Of(err).Message)
	}
	return err
}
