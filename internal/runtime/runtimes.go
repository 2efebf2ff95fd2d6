package runtime

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// CreateAgentRuntime makes a runtime with its first version, its endpoint DEFAULT
// and the workload identity that it owns. It is READY, or CREATE_FAILED, at once.
func (s *Service) CreateAgentRuntime(ctx context.Context, caller principal.Caller, r *api.CreateAgentRuntimeRequest) (*api.CreateAgentRuntimeResponse, error) {
	settings := api.UpdateAgentRuntimeRequest{
		AgentRuntimeArtifact: r.AgentRuntimeArtifact, AllowedPorts: r.AllowedPorts, AuthorizerConfiguration: r.AuthorizerConfiguration,
		CapacityProviderConfiguration: r.CapacityProviderConfiguration, Description: r.Description, EnvironmentVariables: r.EnvironmentVariables,
		FilesystemConfigurations: r.FilesystemConfigurations, LifecycleConfiguration: r.LifecycleConfiguration, NetworkConfiguration: r.NetworkConfiguration,
		PlatformVersion: r.PlatformVersion, ProtocolConfiguration: r.ProtocolConfiguration, RequestHeaderConfiguration: r.RequestHeaderConfiguration, RoleArn: r.RoleArn,
	}
	authorizer, err := checkSettings(&settings)
	if err != nil {
		return nil, err
	}
	ready, err := s.prepare(ctx, caller.Account, &settings)
	if err != nil {
		return nil, err
	}
	unsigned := *r
	unsigned.ClientToken = nil
	request := unsigned.AppendJSON(nil)
	id := newID(r.AgentRuntimeName)
	var made *runtimeRow
	var first *versionRow
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		c, err := s.claim(tx, caller.Account, "CreateAgentRuntime", r.ClientToken, request)
		if err != nil {
			return err
		}
		earlier, _, found, err := c.Earlier(tx)
		if err != nil {
			return err
		}
		if found {
			if made, err = findRuntime(tx, caller.Account, earlier); err != nil {
				return err
			}
			first, err = s.madeBefore(tx, made, 1)
			return err
		}
		made = &runtimeRow{id: id, account: caller.Account, name: r.AgentRuntimeName, latest: 1, tags: r.Tags, created: tx.Now}
		if err := s.createRuntime(tx, made, settings.RoleArn, authorizer); err != nil {
			return err
		}
		if first, err = s.addVersion(tx, made, settings, ready, api.AgentRuntimeStatusCreateFailed); err != nil {
			return err
		}
		endpoint := &endpointRow{runtimeID: id, name: DefaultEndpoint, account: caller.Account, id: newID(DefaultEndpoint), version: 1}
		if _, err := endpoint.insert(tx); err != nil {
			return err
		}
		return c.Keep(tx, id, "1")
	})
	if err != nil {
		return nil, err
	}
	withoutEffect(made.id, &settings)
	return &api.CreateAgentRuntimeResponse{
		AgentRuntimeArn: s.arn(made.account, made.id), AgentRuntimeId: made.id, AgentRuntimeVersion: "1", CreatedAt: api.ISO(made.created),
		Status: first.status, WorkloadIdentityDetails: s.identityDetails(made),
	}, nil
}

func (s *Service) createRuntime(tx *store.Tx, r *runtimeRow, role string, authorizer *auth.Authorizer) error {
	var count, named int64
	if err := tx.QueryRow("SELECT count(*), coalesce(sum(CASE WHEN name = $2 THEN 1 ELSE 0 END), 0) FROM agent_runtimes WHERE account = $1", r.account, r.name).Scan(&count, &named); err != nil {
		return fault.Wrap(err, "counting agent runtimes")
	}
	if named > 0 {
		return nameTaken(r.name)
	}
	if count >= maxRuntimes {
		return fault.New(fault.QuotaExceeded, "The account has %d agent runtimes, and may not have more.", maxRuntimes)
	}
	if err := s.options.CheckRole(tx, r.account, role, s.arn(r.account, r.id)); err != nil {
		return err
	}
	workload, err := s.identity.CreateOwned(tx, r.account, r.id, s.arn(r.account, r.id), nil, nil)
	if err != nil {
		return err
	}
	r.workloadID = workload.ID
	taken, err := r.insert(tx)
	if err != nil {
		return err
	}
	if taken {
		return nameTaken(r.name)
	}
	return s.putAuthorizer(tx, r, authorizer)
}

func nameTaken(name string) error {
	return fault.New(fault.Conflict, "An agent runtime with the name %s already exists.", name)
}

// putAuthorizer tells the guard whose tokens count for this runtime: sessions that
// its users open are completed under it.
func (s *Service) putAuthorizer(tx *store.Tx, r *runtimeRow, authorizer *auth.Authorizer) error {
	if authorizer == nil {
		return s.auth.DeleteAuthorizer(tx, s.arn(r.account, r.id))
	}
	return s.auth.PutAuthorizer(tx, r.account, s.arn(r.account, r.id), *authorizer)
}

func (s *Service) identityDetails(r *runtimeRow) *api.WorkloadIdentityDetails {
	return &api.WorkloadIdentityDetails{WorkloadIdentityArn: s.workload(r).ARN}
}

// GetAgentRuntime describes a runtime in one of its versions, or in the newest.
func (s *Service) GetAgentRuntime(ctx context.Context, caller principal.Caller, r *api.GetAgentRuntimeRequest) (*api.GetAgentRuntimeResponse, error) {
	var row *runtimeRow
	var v *versionRow
	err := s.db.View(ctx, func(tx *store.Tx) (err error) {
		if row, err = findRuntime(tx, caller.Account, r.AgentRuntimeId); err != nil {
			return err
		}
		v, err = s.version(tx, row, r.AgentRuntimeVersion)
		return err
	})
	if err != nil {
		return nil, err
	}
	c := &v.settings
	out := &api.GetAgentRuntimeResponse{
		AgentRuntimeArn: s.arn(row.account, row.id), AgentRuntimeArtifact: c.AgentRuntimeArtifact, AgentRuntimeId: row.id, AgentRuntimeName: row.name,
		AgentRuntimeVersion: text(v.version), AllowedPorts: c.AllowedPorts, AuthorizerConfiguration: c.AuthorizerConfiguration,
		CapacityProviderConfiguration: c.CapacityProviderConfiguration, CreatedAt: api.ISO(row.created), Description: c.Description,
		EnvironmentVariables: c.EnvironmentVariables, FilesystemConfigurations: c.FilesystemConfigurations, LastUpdatedAt: api.ISO(v.created),
		LifecycleConfiguration: describeLifecycle(c.LifecycleConfiguration), MetadataConfiguration: c.MetadataConfiguration, NetworkConfiguration: network(c.NetworkConfiguration),
		PlatformVersion: c.PlatformVersion, ProtocolConfiguration: c.ProtocolConfiguration, RequestHeaderConfiguration: c.RequestHeaderConfiguration,
		RoleArn: c.RoleArn, Status: v.status, WorkloadIdentityDetails: s.identityDetails(row),
	}
	out.FailureReason = optional(v.failure)
	return out, nil
}

// DeleteAgentRuntime deletes a runtime with all that it has, and ends its
// sessions; or one version that no endpoint serves.
func (s *Service) DeleteAgentRuntime(ctx context.Context, caller principal.Caller, r *api.DeleteAgentRuntimeRequest) (*api.DeleteAgentRuntimeResponse, error) {
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		request := ""
		if r.AgentRuntimeVersion != nil {
			request = *r.AgentRuntimeVersion
		}
		c, err := s.claim(tx, caller.Account, "DeleteAgentRuntime "+r.AgentRuntimeId, r.ClientToken, []byte(request))
		if err != nil {
			return err
		}
		if _, _, again, err := c.Earlier(tx); err != nil || again {
			return err
		}
		row, err := findRuntime(tx, caller.Account, r.AgentRuntimeId)
		if err != nil {
			return err
		}
		if r.AgentRuntimeVersion != nil {
			err = deleteVersion(tx, row, number(request))
		} else {
			err = s.deleteRuntime(tx, row)
		}
		if err != nil {
			return err
		}
		return c.Keep(tx, "", request)
	})
	if err != nil {
		return nil, err
	}
	s.shelf.DropAll()
	out := &api.DeleteAgentRuntimeResponse{AgentRuntimeId: &r.AgentRuntimeId, AgentRuntimeVersion: r.AgentRuntimeVersion, Status: api.AgentRuntimeStatusDeleting}
	version := int64(0)
	if r.AgentRuntimeVersion != nil {
		version = number(*r.AgentRuntimeVersion)
	}
	s.endSessions(r.AgentRuntimeId, version, "The agent runtime, or its version, was deleted.")
	return out, nil
}

// deleteRuntime deletes a runtime and all that is kept with it: versions,
// endpoints, their policies and tags, its authorizer, its identity with that one's grants.
func (s *Service) deleteRuntime(tx *store.Tx, row *runtimeRow) error {
	arns, err := s.endpointARNs(tx, row)
	if err != nil {
		return err
	}
	for _, arn := range append(arns, s.arn(row.account, row.id)) {
		if err := s.options.Deleted(tx, row.account, arn); err != nil {
			return err
		}
	}
	if err := letCodeGo(tx, row, 0); err != nil {
		return err
	}
	if _, err := tx.Exec("DELETE FROM agent_runtimes WHERE id = $1", row.id); err != nil {
		return fault.Wrap(err, "deleting an agent runtime")
	}
	if err := s.auth.DeleteAuthorizer(tx, s.arn(row.account, row.id)); err != nil {
		return err
	}
	return s.identity.DeleteOwned(tx, row.account, row.workloadID)
}

// ListAgentRuntimes lists the account's runtimes by id, each in its newest version.
func (s *Service) ListAgentRuntimes(ctx context.Context, caller principal.Caller, r *api.ListAgentRuntimesRequest) (*api.ListAgentRuntimesResponse, error) {
	limit, after := api.Page(r.MaxResults, r.NextToken, pageSize)
	out := &api.ListAgentRuntimesResponse{AgentRuntimes: []api.AgentRuntime{}}
	err := s.db.View(ctx, func(tx *store.Tx) error {
		out.AgentRuntimes, out.NextToken = out.AgentRuntimes[:0], nil
		rows, err := tx.Query("SELECT "+runtimeColumns+" FROM agent_runtimes WHERE account = $1 AND id > $2 ORDER BY id LIMIT $3", caller.Account, after, limit+1)
		if err != nil {
			return err
		}
		defer rows.Close()
		var found []*runtimeRow
		for rows.Next() {
			row, err := scanRuntime(rows)
			if err != nil {
				return err
			}
			found = append(found, row)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for i, row := range found {
			if i == limit {
				out.NextToken = &found[i-1].id
				break
			}
			v, err := s.newestVersion(tx, row)
			if err != nil {
				return err
			}
			out.AgentRuntimes = append(out.AgentRuntimes, s.summary(row, v))
		}
		return nil
	})
	return out, fault.Wrap(err, "listing agent runtimes")
}
