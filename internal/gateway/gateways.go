package gateway

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// AWS's quotas.
const (
	maxGateways = 1000 // of an account
	maxTargets  = 100  // of a gateway
	pageSize    = 100  // of a list that does not say
)

// CreateGateway makes a gateway and the workload identity that it owns. It is
// READY at once.
func (s *Service) CreateGateway(ctx context.Context, caller principal.Caller, r *api.CreateGatewayRequest) (*api.CreateGatewayResponse, error) {
	settings := api.UpdateGatewayRequest{
		AuthorizerConfiguration: r.AuthorizerConfiguration, AuthorizerType: r.AuthorizerType, Description: r.Description, ExceptionLevel: r.ExceptionLevel,
		InterceptorConfigurations: r.InterceptorConfigurations, KmsKeyArn: r.KmsKeyArn, Name: r.Name, PolicyEngineConfiguration: r.PolicyEngineConfiguration,
		ProtocolConfiguration: r.ProtocolConfiguration, ProtocolType: r.ProtocolType, RoleArn: r.RoleArn,
	}
	authorizer, err := checkSettings(&settings)
	if err != nil {
		return nil, err
	}
	unsigned := *r
	unsigned.ClientToken = nil
	claim := newClaim(caller.Account, "CreateGateway", r.ClientToken, unsigned.AppendJSON(nil))
	id := newGatewayID(r.Name)
	var made *gatewayRow
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		earlier, _, found, err := claim.Earlier(tx)
		if err != nil {
			return err
		}
		if found {
			made, err = findGateway(tx, caller.Account, earlier)
			return err
		}
		made = &gatewayRow{id: id, account: caller.Account, settings: settings, tags: r.Tags, version: 1, created: tx.Now, updated: tx.Now}
		if err := s.createGateway(tx, made, authorizer); err != nil {
			return err
		}
		return claim.Keep(tx, id, "")
	})
	if err != nil {
		return nil, err
	}
	return s.described(made), nil
}

func (s *Service) createGateway(tx *store.Tx, g *gatewayRow, authorizer *auth.Authorizer) error {
	var count, named int64
	if err := tx.QueryRow("SELECT count(*), coalesce(sum(CASE WHEN name = $2 THEN 1 ELSE 0 END), 0) FROM gateways WHERE account = $1", g.account, g.settings.Name).Scan(&count, &named); err != nil {
		return fault.Wrap(err, "counting gateways")
	}
	if named > 0 {
		return nameTaken(g.settings.Name)
	}
	if count >= maxGateways {
		return fault.New(fault.QuotaExceeded, "The account has %d gateways, and may not have more.", maxGateways)
	}
	if err := s.checkRole(tx, g); err != nil {
		return err
	}
	workload, err := s.identity.CreateOwned(tx, g.account, g.id, s.arn(g.account, g.id), nil, nil)
	if err != nil {
		return err
	}
	g.workloadID = workload.ID
	taken, err := g.insert(tx)
	if err != nil {
		return err
	}
	if taken {
		return nameTaken(g.settings.Name)
	}
	return s.putAuthorizer(tx, g, authorizer)
}

func (s *Service) checkRole(tx *store.Tx, g *gatewayRow) error {
	if s.options.CheckRole == nil {
		return nil
	}
	return s.options.CheckRole(tx, g.account, g.settings.RoleArn, s.arn(g.account, g.id))
}

func nameTaken(name string) error {
	return fault.New(fault.Conflict, "A gateway with the name %s already exists.", name)
}

// putAuthorizer tells the guard whose tokens count for this gateway: sessions
// that its users open are completed under it.
func (s *Service) putAuthorizer(tx *store.Tx, g *gatewayRow, authorizer *auth.Authorizer) error {
	if authorizer == nil {
		return s.auth.DeleteAuthorizer(tx, s.arn(g.account, g.id))
	}
	return s.auth.PutAuthorizer(tx, g.account, s.arn(g.account, g.id), *authorizer)
}

// GetGateway describes a gateway.
func (s *Service) GetGateway(ctx context.Context, caller principal.Caller, r *api.GetGatewayRequest) (*api.GetGatewayResponse, error) {
	id, err := s.gatewayID(caller.Account, r.GatewayIdentifier)
	if err != nil {
		return nil, err
	}
	var g *gatewayRow
	err = s.db.View(ctx, func(tx *store.Tx) (err error) {
		g, err = findGateway(tx, caller.Account, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return (*api.GetGatewayResponse)(s.described(g)), nil
}

// UpdateGateway replaces a gateway's settings: what is left out is gone. The
// name stays; it is in the id.
func (s *Service) UpdateGateway(ctx context.Context, caller principal.Caller, r *api.UpdateGatewayRequest) (*api.UpdateGatewayResponse, error) {
	id, err := s.gatewayID(caller.Account, r.GatewayIdentifier)
	if err != nil {
		return nil, err
	}
	authorizer, err := checkSettings(r)
	if err != nil {
		return nil, err
	}
	var g *gatewayRow
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		if g, err = findGateway(tx, caller.Account, id); err != nil {
			return err
		}
		if g.settings.Name != r.Name {
			return fault.InvalidField("name", "The name of a gateway cannot be changed; it is %s.", g.settings.Name)
		}
		if authorizer == nil {
			if err := refuseUserTargets(tx, id); err != nil {
				return err
			}
		}
		g.settings, g.updated = *r, tx.Now
		if err := s.checkRole(tx, g); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE gateways SET settings = $1, updated = $2, version = version + 1 WHERE id = $3", string(r.AppendJSON(nil)), store.Micros(tx.Now), id); err != nil {
			return fault.Wrap(err, "storing a gateway")
		}
		return s.putAuthorizer(tx, g, authorizer)
	})
	if err != nil {
		return nil, err
	}
	s.shelf.Drop(id)
	return (*api.UpdateGatewayResponse)(s.described(g)), nil
}

// refuseUserTargets keeps a gateway with targets that act for a user from
// losing its inbound authorization: there would be nobody to act for.
func refuseUserTargets(tx *store.Tx, id string) error {
	var name string
	err := tx.QueryRow("SELECT coalesce(min(name), '') FROM gateway_targets WHERE gateway_id = $1 AND return_url <> ''", id).Scan(&name)
	if err != nil {
		return fault.Wrap(err, "looking for targets with users")
	}
	if name != "" {
		return fault.InvalidField("authorizerType", "The target %s acts for users (grant type AUTHORIZATION_CODE), so the gateway cannot be without inbound authorization.", name)
	}
	return nil
}

// DeleteGateway deletes a gateway without targets and the identity it owns,
// whose grants go with it.
func (s *Service) DeleteGateway(ctx context.Context, caller principal.Caller, r *api.DeleteGatewayRequest) (*api.DeleteGatewayResponse, error) {
	id, err := s.gatewayID(caller.Account, r.GatewayIdentifier)
	if err != nil {
		return nil, err
	}
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		g, err := findGateway(tx, caller.Account, id)
		if err != nil {
			return err
		}
		var targets int64
		if err := tx.QueryRow("SELECT count(*) FROM gateway_targets WHERE gateway_id = $1", id).Scan(&targets); err != nil {
			return fault.Wrap(err, "counting targets")
		}
		if targets > 0 {
			return fault.New(fault.Conflict, "Gateway %s has %d targets. Delete all targets before deleting the gateway.", id, targets)
		}
		if _, err := tx.Exec("DELETE FROM gateways WHERE id = $1", id); err != nil {
			return fault.Wrap(err, "deleting a gateway")
		}
		if err := s.auth.DeleteAuthorizer(tx, s.arn(g.account, id)); err != nil {
			return err
		}
		if s.options.Deleted != nil {
			if err := s.options.Deleted(tx, g.account, s.arn(g.account, id)); err != nil {
				return err
			}
		}
		return s.identity.DeleteOwned(tx, g.account, g.workloadID)
	})
	if err != nil {
		return nil, err
	}
	s.shelf.Drop(id)
	return &api.DeleteGatewayResponse{GatewayId: id, Status: api.GatewayStatusDeleting}, nil
}

// ListGateways lists the account's gateways by name. A page's cursor is the
// last name of the one before.
func (s *Service) ListGateways(ctx context.Context, caller principal.Caller, r *api.ListGatewaysRequest) (*api.ListGatewaysResponse, error) {
	limit, after := api.Page(r.MaxResults, r.NextToken, pageSize)
	out := &api.ListGatewaysResponse{Items: []api.GatewaySummary{}}
	err := s.db.View(ctx, func(tx *store.Tx) error {
		out.Items, out.NextToken = out.Items[:0], nil
		rows, err := tx.Query("SELECT "+gatewayColumns+" FROM gateways WHERE account = $1 AND name > $2 ORDER BY name LIMIT $3", caller.Account, after, limit+1)
		if err != nil {
			return fault.Wrap(err, "listing gateways")
		}
		defer rows.Close()
		for rows.Next() {
			g, err := scanGateway(rows)
			if err != nil {
				return fault.Wrap(err, "listing gateways")
			}
			if len(out.Items) == limit {
				out.NextToken = &out.Items[limit-1].Name
				break
			}
			out.Items = append(out.Items, api.GatewaySummary{AuthorizerType: g.settings.AuthorizerType, CreatedAt: api.ISO(g.created), Description: g.settings.Description,
				GatewayId: g.id, Name: g.settings.Name, ProtocolType: g.settings.ProtocolType, Status: api.GatewayStatusReady, UpdatedAt: api.ISO(g.updated)})
		}
		return fault.Wrap(rows.Err(), "listing gateways")
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// described is a gateway as every answer has it.
func (s *Service) described(g *gatewayRow) *api.CreateGatewayResponse {
	url := s.url(g.id)
	r := &g.settings
	return &api.CreateGatewayResponse{
		AuthorizerConfiguration: r.AuthorizerConfiguration, AuthorizerType: r.AuthorizerType, CreatedAt: api.ISO(g.created), Description: r.Description,
		ExceptionLevel: r.ExceptionLevel, GatewayArn: s.arn(g.account, g.id), GatewayId: g.id, GatewayUrl: &url, KmsKeyArn: r.KmsKeyArn, Name: r.Name,
		ProtocolConfiguration: r.ProtocolConfiguration, ProtocolType: r.ProtocolType, RoleArn: &r.RoleArn, Status: api.GatewayStatusReady,
		UpdatedAt: api.ISO(g.updated), WafConfiguration: r.WafConfiguration,
		WorkloadIdentityDetails: &api.WorkloadIdentityDetails{WorkloadIdentityArn: s.workload(g).ARN},
	}
}
