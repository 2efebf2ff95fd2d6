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
		earlier, _, found, err := c.earlier(tx)
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
		return c.keep(tx, id, "1")
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

// addVersion stores a runtime's next version, and says whether it can be run. What
// cannot be is stored as well: the caller reads why in GetAgentRuntime.
func (s *Service) addVersion(tx *store.Tx, r *runtimeRow, settings api.UpdateAgentRuntimeRequest, ready readiness, failed api.AgentRuntimeStatus) (*versionRow, error) {
	settings.ClientToken = nil
	v := &versionRow{runtimeID: r.id, account: r.account, version: r.latest, settings: settings, code: ready.code, status: api.AgentRuntimeStatusReady, created: tx.Now}
	if ready.code != "" { // from here on it is used, and stays
		held, err := holdsCode(tx, r.account, ready.code)
		if err != nil {
			return nil, err
		}
		if !held {
			v.code, ready.why = "", noCode(ready.code)
		}
	}
	if ready.why != "" {
		v.status, v.failure = failed, ready.why
	}
	return v, s.insertVersion(tx, v)
}

// madeBefore is the version that a repeated request made; it was READY where it is deleted meanwhile.
func (s *Service) madeBefore(tx *store.Tx, row *runtimeRow, version int64) (*versionRow, error) {
	v, err := s.findVersion(tx, row.account, row.id, version)
	if fault.Is(err, fault.NotFound) {
		return &versionRow{version: version, status: api.AgentRuntimeStatusReady, created: row.created}, nil
	}
	return v, err
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

// UpdateAgentRuntime makes the next version; what is left out is gone. DEFAULT
// moves to it where it can be run, and stays where it is otherwise.
func (s *Service) UpdateAgentRuntime(ctx context.Context, caller principal.Caller, r *api.UpdateAgentRuntimeRequest) (*api.UpdateAgentRuntimeResponse, error) {
	authorizer, err := checkSettings(r)
	if err != nil {
		return nil, err
	}
	ready, err := s.prepare(ctx, caller.Account, r)
	if err != nil {
		return nil, err
	}
	unsigned := *r
	unsigned.ClientToken = nil
	request := unsigned.AppendJSON(nil)
	var row *runtimeRow
	var v *versionRow
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		c, err := s.claim(tx, caller.Account, "UpdateAgentRuntime "+r.AgentRuntimeId, r.ClientToken, request)
		if err != nil {
			return err
		}
		if row, err = findRuntime(tx, caller.Account, r.AgentRuntimeId); err != nil {
			return err
		}
		_, version, found, err := c.earlier(tx)
		if err != nil {
			return err
		}
		if found {
			v, err = s.madeBefore(tx, row, number(version))
			return err
		}
		if v, err = s.updateRuntime(tx, row, *r, ready, authorizer); err != nil {
			return err
		}
		return c.keep(tx, row.id, text(v.version))
	})
	if err != nil {
		return nil, err
	}
	s.shelf.drop()
	withoutEffect(row.id, r)
	return &api.UpdateAgentRuntimeResponse{
		AgentRuntimeArn: s.arn(row.account, row.id), AgentRuntimeId: row.id, AgentRuntimeVersion: text(v.version), CreatedAt: api.ISO(row.created),
		LastUpdatedAt: api.ISO(v.created), Status: v.status, WorkloadIdentityDetails: s.identityDetails(row),
	}, nil
}

func (s *Service) updateRuntime(tx *store.Tx, row *runtimeRow, settings api.UpdateAgentRuntimeRequest, ready readiness, authorizer *auth.Authorizer) (*versionRow, error) {
	var count int64
	if err := tx.QueryRow("SELECT count(*) FROM agent_runtime_versions WHERE runtime_id = $1", row.id).Scan(&count); err != nil {
		return nil, fault.Wrap(err, "counting versions")
	}
	if count >= maxVersions {
		return nil, fault.New(fault.QuotaExceeded, "The agent runtime has %d versions, and may not have more. Delete some: DeleteAgentRuntime with a version.", maxVersions)
	}
	if err := s.options.CheckRole(tx, row.account, settings.RoleArn, s.arn(row.account, row.id)); err != nil {
		return nil, err
	}
	row.latest++
	v, err := s.addVersion(tx, row, settings, ready, api.AgentRuntimeStatusUpdateFailed)
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec("UPDATE agent_runtimes SET latest = $1 WHERE id = $2", row.latest, row.id); err != nil {
		return nil, fault.Wrap(err, "storing an agent runtime")
	}
	if v.status != api.AgentRuntimeStatusReady {
		return v, nil
	}
	if _, err := tx.Exec("UPDATE agent_runtime_endpoints SET version = $1, updated = $2 WHERE runtime_id = $3 AND name = $4", v.version, store.Micros(tx.Now), row.id, DefaultEndpoint); err != nil {
		return nil, fault.Wrap(err, "moving an endpoint")
	}
	return v, s.putAuthorizer(tx, row, authorizer)
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
		if _, _, again, err := c.earlier(tx); err != nil || again {
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
		return c.keep(tx, "", request)
	})
	if err != nil {
		return nil, err
	}
	s.shelf.drop()
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

// letCodeGo says that a version, or with 0 each of them, stops using its code
// now: the archive's day begins.
func letCodeGo(tx *store.Tx, row *runtimeRow, version int64) error {
	_, err := tx.Exec(`UPDATE agent_code SET created = $1 WHERE account = $2 AND sha256 IN
		(SELECT code FROM agent_runtime_versions WHERE runtime_id = $3 AND ($4 = 0 OR version = $4))`, store.Micros(tx.Now), row.account, row.id, version)
	return fault.Wrap(err, "letting code go")
}

func deleteVersion(tx *store.Tx, row *runtimeRow, version int64) error {
	var serving string
	if err := tx.QueryRow("SELECT coalesce(min(name), '') FROM agent_runtime_endpoints WHERE runtime_id = $1 AND version = $2", row.id, version).Scan(&serving); err != nil {
		return fault.Wrap(err, "looking for endpoints")
	}
	if serving != "" {
		return fault.New(fault.Conflict, "Version %d is served by the endpoint %s. Move the endpoint first.", version, serving)
	}
	if err := letCodeGo(tx, row, version); err != nil {
		return err
	}
	if _, err := tx.Exec("DELETE FROM agent_sessions WHERE runtime_id = $1 AND version = $2", row.id, version); err != nil {
		return fault.Wrap(err, "forgetting sessions")
	}
	deleted, err := tx.Exec("DELETE FROM agent_runtime_versions WHERE runtime_id = $1 AND version = $2", row.id, version)
	if err == nil && deleted == 0 {
		return noVersion(row.id, version)
	}
	return fault.Wrap(err, "deleting a version")
}

// ListAgentRuntimes lists the account's runtimes by id, each in its newest version.
func (s *Service) ListAgentRuntimes(ctx context.Context, caller principal.Caller, r *api.ListAgentRuntimesRequest) (*api.ListAgentRuntimesResponse, error) {
	limit, after := page(r.MaxResults, r.NextToken)
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

// ListAgentRuntimeVersions lists a runtime's versions, the newest first.
func (s *Service) ListAgentRuntimeVersions(ctx context.Context, caller principal.Caller, r *api.ListAgentRuntimeVersionsRequest) (*api.ListAgentRuntimeVersionsResponse, error) {
	limit, cursor := page(r.MaxResults, r.NextToken)
	below := int64(1 << 40)
	if cursor != "" {
		below = number(cursor)
	}
	out := &api.ListAgentRuntimeVersionsResponse{AgentRuntimes: []api.AgentRuntime{}}
	err := s.db.View(ctx, func(tx *store.Tx) error {
		out.AgentRuntimes, out.NextToken = out.AgentRuntimes[:0], nil
		row, err := findRuntime(tx, caller.Account, r.AgentRuntimeId)
		if err != nil {
			return err
		}
		rows, err := tx.Query("SELECT "+versionColumns+" FROM agent_runtime_versions WHERE runtime_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3", row.id, below, limit+1)
		if err != nil {
			return err
		}
		defer rows.Close()
		var found []*versionRow
		var sealed [][]byte
		for rows.Next() {
			v, settings, err := scanVersion(rows)
			if err != nil {
				return err
			}
			found, sealed = append(found, v), append(sealed, settings)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for i, v := range found {
			if i == limit {
				out.NextToken = &out.AgentRuntimes[limit-1].AgentRuntimeVersion
				break
			}
			if err := s.openVersion(tx, v, sealed[i]); err != nil {
				return err
			}
			out.AgentRuntimes = append(out.AgentRuntimes, s.summary(row, v))
		}
		return nil
	})
	return out, fault.Wrap(err, "listing versions of an agent runtime")
}

func (s *Service) summary(r *runtimeRow, v *versionRow) api.AgentRuntime {
	out := api.AgentRuntime{
		AgentRuntimeArn: s.arn(r.account, r.id), AgentRuntimeId: r.id, AgentRuntimeName: r.name, AgentRuntimeVersion: text(v.version),
		LastUpdatedAt: api.ISO(v.created), Status: v.status,
	}
	if v.settings.Description != nil {
		out.Description = *v.settings.Description
	}
	return out
}

func page(limit *int32, token *string) (int, string) {
	n, after := pageSize, ""
	if limit != nil {
		n = int(*limit)
	}
	if token != nil {
		after = *token
	}
	return n, after
}
