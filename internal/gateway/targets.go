package gateway

import (
	"context"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

const (
	maxToolName = 256      // characters of target___tool, as AWS has it
	maxGateway  = 64 << 20 // bytes of a gateway's compiled targets: they are served from memory
)

// prepared is a target's settings after everything that needs no database.
type prepared struct {
	settings   *api.UpdateGatewayTargetRequest
	credential *credential
	kind       Kind
	compiled   []byte
	tools      []Tool
}

func (s *Service) prepare(r *api.UpdateGatewayTargetRequest) (*prepared, error) {
	credential, err := checkTarget(r)
	if err != nil {
		return nil, err
	}
	kind, err := s.kindOf(r.TargetConfiguration)
	if err != nil {
		return nil, err
	}
	compiled, err := kind.Compile(r.TargetConfiguration)
	if err != nil {
		return nil, err
	}
	target, err := kind.Open(compiled)
	if err != nil {
		return nil, fault.Wrap(err, "opening a target just compiled")
	}
	return &prepared{r, credential, kind, compiled, target.Tools()}, nil
}

// CreateGatewayTarget adds a target; its tools can be called at once.
func (s *Service) CreateGatewayTarget(ctx context.Context, caller principal.Caller, r *api.CreateGatewayTargetRequest) (*api.CreateGatewayTargetResponse, error) {
	gateway, err := s.gatewayID(caller.Account, r.GatewayIdentifier)
	if err != nil {
		return nil, err
	}
	p, err := s.prepare(&api.UpdateGatewayTargetRequest{
		CertificateConfigurations: r.CertificateConfigurations, CredentialProviderConfigurations: r.CredentialProviderConfigurations, Description: r.Description,
		MetadataConfiguration: r.MetadataConfiguration, Name: r.Name, PrivateEndpoint: r.PrivateEndpoint, TargetConfiguration: r.TargetConfiguration,
	})
	if err != nil {
		return nil, err
	}
	unsigned := *r
	unsigned.ClientToken = nil
	claim := newClaim(caller.Account, "CreateGatewayTarget "+gateway, r.ClientToken, unsigned.AppendJSON(nil))
	id := newTargetID()
	var made *targetRow
	settings := p.settings
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		_, earlier, found, err := claim.Earlier(tx)
		if err != nil {
			return err
		}
		if found {
			if made, err = findTarget(tx, caller.Account, gateway, earlier); err != nil {
				return err
			}
			settings, err = s.openTarget(tx, made)
			return err
		}
		settings = p.settings
		if made, err = s.createTarget(tx, caller.Account, gateway, id, p); err != nil {
			return err
		}
		return claim.Keep(tx, gateway, id)
	})
	if err != nil {
		return nil, err
	}
	s.shelf.Drop(gateway)
	return s.describedTarget(made, settings), nil
}

func (s *Service) createTarget(tx *store.Tx, account, gateway, id string, p *prepared) (*targetRow, error) {
	g, err := findGateway(tx, account, gateway)
	if err != nil {
		return nil, err
	}
	name := "target-" + strings.ToLower(id)
	if p.settings.Name != nil {
		name = p.settings.Name.Reveal()
	}
	t := &targetRow{gatewayID: gateway, id: id, account: account, name: name, version: 1, created: tx.Now, updated: tx.Now}
	if err := s.admit(tx, g, t, p); err != nil {
		return nil, err
	}
	var count int64
	if err := tx.QueryRow("SELECT count(*) FROM gateway_targets WHERE gateway_id = $1", gateway).Scan(&count); err != nil {
		return nil, fault.Wrap(err, "counting targets")
	}
	taken, err := t.insert(tx)
	switch {
	case err != nil:
		return nil, err
	case taken:
		return nil, targetNameTaken(gateway, name)
	case count >= maxTargets:
		return nil, fault.New(fault.QuotaExceeded, "The gateway has %d targets, and may not have more.", maxTargets)
	}
	return t, s.settled(tx, g)
}

func targetNameTaken(gateway, name string) error {
	return fault.New(fault.Conflict, "Gateway %s already has a target with the name %s.", gateway, name)
}

// admit holds a target against its gateway and its provider, and fills the row.
func (s *Service) admit(tx *store.Tx, g *gatewayRow, t *targetRow, p *prepared) error {
	for _, tool := range p.tools {
		if len(t.name)+len(separator)+len(tool.Name) > maxToolName {
			return fault.InvalidField("name", "The tool name %s___%s is longer than %d characters.", t.name, tool.Name, maxToolName)
		}
	}
	t.returnURL = ""
	if p.credential != nil {
		if p.credential.ofUser() && g.settings.AuthorizerType == api.AuthorizerTypeNone {
			return fault.InvalidField("credentialProviderConfigurations", "The gateway has no inbound authorization, so there is no user for whom the target could act (grant type %s).", p.credential.grant)
		}
		if err := s.hasProvider(tx, t.account, p.credential); err != nil {
			return err
		}
		t.returnURL = p.credential.returnURL
	}
	t.kind, t.compiled = string(p.kind.Type), p.compiled
	return s.sealTarget(tx, t, p.settings)
}

// hasProvider checks that the provider that a target names is there, and of the kind that it needs.
func (s *Service) hasProvider(tx *store.Tx, account string, c *credential) error {
	member, err := memberCredential+"oauthCredentialProvider.providerArn", error(nil)
	if c.grant == "" {
		member, err = memberCredential+"apiKeyCredentialProvider.providerArn", s.broker.HasAPIKey(tx, account, c.provider)
	} else {
		_, err = s.broker.ProviderByARN(tx, account, c.provider)
	}
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) {
		return fault.InvalidField(member, "The credential provider %s was not found.", c.provider)
	}
	return err
}

// settled is what every change of a target ends with: the targets together are
// not too large, the identity's return URLs are the union of theirs, and
// replicas load the gateway anew.
func (s *Service) settled(tx *store.Tx, g *gatewayRow) error {
	var size int64
	if err := tx.QueryRow("SELECT coalesce(sum(length(compiled)), 0) FROM gateway_targets WHERE gateway_id = $1", g.id).Scan(&size); err != nil {
		return fault.Wrap(err, "measuring targets")
	}
	if size > maxGateway {
		return fault.New(fault.QuotaExceeded, "The gateway's targets are too large together: %d MB of tools, and %d are allowed.", size>>20, maxGateway>>20)
	}
	rows, err := tx.Query("SELECT DISTINCT return_url FROM gateway_targets WHERE gateway_id = $1 AND return_url <> '' ORDER BY return_url", g.id)
	if err != nil {
		return fault.Wrap(err, "collecting return URLs")
	}
	urls := []string{}
	for rows.Next() {
		var url string
		if err := rows.Scan(&url); err != nil {
			rows.Close()
			return fault.Wrap(err, "collecting return URLs")
		}
		urls = append(urls, url)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return fault.Wrap(err, "collecting return URLs")
	}
	if err := s.identity.SetReturnURLs(tx, g.account, g.workloadID, urls); err != nil {
		if refused := fault.Of(err); refused.Kind == fault.Invalid {
			return fault.InvalidField("credentialProviderConfigurations[0].credentialProvider.oauthCredentialProvider.defaultReturnUrl", "%s", refused.Message)
		}
		return err
	}
	return touch(tx, g.id)
}

// GetGatewayTarget describes a target.
func (s *Service) GetGatewayTarget(ctx context.Context, caller principal.Caller, r *api.GetGatewayTargetRequest) (*api.GetGatewayTargetResponse, error) {
	gateway, err := s.gatewayID(caller.Account, r.GatewayIdentifier)
	if err != nil {
		return nil, err
	}
	var t *targetRow
	var settings *api.UpdateGatewayTargetRequest
	err = s.db.View(ctx, func(tx *store.Tx) error {
		if _, err := findGateway(tx, caller.Account, gateway); err != nil {
			return err
		}
		if t, err = findTarget(tx, caller.Account, gateway, r.TargetId); err != nil {
			return err
		}
		settings, err = s.openTarget(tx, t)
		return err
	})
	if err != nil {
		return nil, err
	}
	return (*api.GetGatewayTargetResponse)(s.describedTarget(t, settings)), nil
}

// UpdateGatewayTarget replaces a target's settings. Without a name it keeps its own.
func (s *Service) UpdateGatewayTarget(ctx context.Context, caller principal.Caller, r *api.UpdateGatewayTargetRequest) (*api.UpdateGatewayTargetResponse, error) {
	gateway, err := s.gatewayID(caller.Account, r.GatewayIdentifier)
	if err != nil {
		return nil, err
	}
	p, err := s.prepare(r)
	if err != nil {
		return nil, err
	}
	var t *targetRow
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		g, err := findGateway(tx, caller.Account, gateway)
		if err != nil {
			return err
		}
		if t, err = findTarget(tx, caller.Account, gateway, r.TargetId); err != nil {
			return err
		}
		if r.Name != nil {
			t.name = r.Name.Reveal()
		}
		t.version, t.updated = t.version+1, tx.Now
		if err := s.admit(tx, g, t, p); err != nil {
			return err
		}
		if err := t.update(tx); err != nil {
			return err
		}
		return s.settled(tx, g)
	})
	if err != nil {
		return nil, err
	}
	s.shelf.Drop(gateway)
	return (*api.UpdateGatewayTargetResponse)(s.describedTarget(t, p.settings)), nil
}

func (t *targetRow) update(tx *store.Tx) error {
	var named int64
	if err := tx.QueryRow("SELECT count(*) FROM gateway_targets WHERE gateway_id = $1 AND name = $2 AND id <> $3", t.gatewayID, t.name, t.id).Scan(&named); err != nil {
		return fault.Wrap(err, "looking for a target's name")
	}
	if named > 0 {
		return targetNameTaken(t.gatewayID, t.name)
	}
	_, err := tx.Exec("UPDATE gateway_targets SET name = $1, kind = $2, settings = $3, compiled = $4, return_url = $5, version = $6, updated = $7 WHERE gateway_id = $8 AND id = $9",
		t.name, t.kind, t.settings, t.compiled, t.returnURL, t.version, store.Micros(tx.Now), t.gatewayID, t.id)
	return fault.Wrap(err, "storing a target")
}

// DeleteGatewayTarget deletes a target. Its return URL leaves the allow-list
// where no other target has it; grants stay with the gateway's identity.
func (s *Service) DeleteGatewayTarget(ctx context.Context, caller principal.Caller, r *api.DeleteGatewayTargetRequest) (*api.DeleteGatewayTargetResponse, error) {
	gateway, err := s.gatewayID(caller.Account, r.GatewayIdentifier)
	if err != nil {
		return nil, err
	}
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		g, err := findGateway(tx, caller.Account, gateway)
		if err != nil {
			return err
		}
		deleted, err := tx.Exec("DELETE FROM gateway_targets WHERE gateway_id = $1 AND id = $2 AND account = $3", gateway, r.TargetId, caller.Account)
		if err != nil {
			return fault.Wrap(err, "deleting a target")
		}
		if deleted == 0 {
			return noTarget(gateway, r.TargetId)
		}
		if _, err := tx.Exec("DELETE FROM gateway_client_tokens WHERE gateway_id = $1 AND target_id = $2", gateway, r.TargetId); err != nil {
			return fault.Wrap(err, "forgetting client tokens")
		}
		return s.settled(tx, g)
	})
	if err != nil {
		return nil, err
	}
	s.shelf.Drop(gateway)
	return &api.DeleteGatewayTargetResponse{GatewayArn: s.arn(caller.Account, gateway), TargetId: r.TargetId, Status: api.TargetStatusDeleting}, nil
}

// ListGatewayTargets lists a gateway's targets by name. A page's cursor is the
// last name of the one before.
func (s *Service) ListGatewayTargets(ctx context.Context, caller principal.Caller, r *api.ListGatewayTargetsRequest) (*api.ListGatewayTargetsResponse, error) {
	gateway, err := s.gatewayID(caller.Account, r.GatewayIdentifier)
	if err != nil {
		return nil, err
	}
	limit, after := api.Page(r.MaxResults, r.NextToken, pageSize)
	out := &api.ListGatewayTargetsResponse{Items: []api.TargetSummary{}}
	err = s.db.View(ctx, func(tx *store.Tx) error {
		out.Items, out.NextToken = out.Items[:0], nil
		if _, err := findGateway(tx, caller.Account, gateway); err != nil {
			return err
		}
		targets, err := targetsOf(tx, gateway)
		if err != nil {
			return err
		}
		for _, t := range targets {
			if t.name <= after {
				continue
			}
			if len(out.Items) == limit {
				last := out.Items[limit-1].Name.Reveal()
				out.NextToken = &last
				break
			}
			settings, err := s.openTarget(tx, t)
			if err != nil {
				return err
			}
			out.Items = append(out.Items, api.TargetSummary{CreatedAt: api.ISO(t.created), Description: settings.Description, Name: secret.New(t.name),
				Status: api.TargetStatusReady, TargetId: t.id, TargetType: api.TargetType(t.kind), UpdatedAt: api.ISO(t.updated)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// describedTarget is a target as every answer has it.
func (s *Service) describedTarget(t *targetRow, r *api.UpdateGatewayTargetRequest) *api.CreateGatewayTargetResponse {
	credentials := r.CredentialProviderConfigurations
	if credentials == nil {
		credentials = []api.CredentialProviderConfiguration{}
	}
	return &api.CreateGatewayTargetResponse{
		CreatedAt: api.ISO(t.created), CredentialProviderConfigurations: credentials, Description: r.Description, GatewayArn: s.arn(t.account, t.gatewayID),
		Name: secret.New(t.name), PrivateEndpoint: r.PrivateEndpoint, ProtocolType: api.TargetProtocolTypeMcp, Status: api.TargetStatusReady,
		TargetConfiguration: r.TargetConfiguration, TargetId: t.id, UpdatedAt: api.ISO(t.updated),
	}
}
