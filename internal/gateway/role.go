package gateway

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
)

// The calls that a gateway makes for a target with a credential. Made here, they
// are function calls; what its role must allow is the same as at AWS.
const (
	actionOwnToken      = "bedrock-agentcore:GetWorkloadAccessToken"
	actionWorkloadToken = "bedrock-agentcore:GetWorkloadAccessTokenForJWT"
	actionResourceToken = "bedrock-agentcore:GetResourceOauth2Token"
	actionResourceKey   = "bedrock-agentcore:GetResourceApiKey"
)

// underRole asks whether the gateway's role may fetch the credential of a
// tool. The role's policies are remembered, so the answer costs no statement.
func (s *Service) underRole(ctx context.Context, x *exchange, t *tool) error {
	e := x.endpoint
	directory := api.WorkloadIdentityDirectoryARN(s.options.Region, e.account)
	c, mint, fetch := t.target.credential, actionOwnToken, actionResourceToken
	var claims map[string][]string
	if c.ofUser() {
		mint, claims = actionWorkloadToken, gate.ClaimValues(x.caller.UserToken.Reveal())
	}
	if c.grant == "" {
		fetch = actionResourceKey
	}
	checks := []gate.Check{
		{Action: mint, Resource: directory, Values: claims}, {Action: mint, Resource: e.workload.ARN, Values: claims},
		{Action: fetch, Resource: directory}, {Action: fetch, Resource: e.workload.ARN},
		{Action: fetch, Resource: api.TokenVaultARN(s.options.Region, e.account)}, {Action: fetch, Resource: c.provider},
	}
	err := s.gate.Under(ctx, e.account, e.role, e.id, checks)
	if fault.Is(err, fault.Denied) {
		return fault.New(fault.Denied, "The role that gateway %s runs under must allow this. %s", e.id, fault.Of(err).Message)
	}
	return err
}
