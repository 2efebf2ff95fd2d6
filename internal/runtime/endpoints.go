package runtime

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// createEndpoint is what client tokens of endpoints are kept under, with the runtime's id.
const createEndpoint = "CreateAgentRuntimeEndpoint "

// CreateAgentRuntimeEndpoint makes a name for a version, or for the newest. It is
// READY at once, and moves only by UpdateAgentRuntimeEndpoint.
func (s *Service) CreateAgentRuntimeEndpoint(ctx context.Context, caller principal.Caller, r *api.CreateAgentRuntimeEndpointRequest) (*api.CreateAgentRuntimeEndpointResponse, error) {
	unsigned := *r
	unsigned.ClientToken = nil
	request := unsigned.AppendJSON(nil)
	name := r.Name.Reveal()
	var e *endpointRow
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		c, err := s.claim(tx, caller.Account, createEndpoint+r.AgentRuntimeId, r.ClientToken, request)
		if err != nil {
			return err
		}
		row, err := findRuntime(tx, caller.Account, r.AgentRuntimeId)
		if err != nil {
			return err
		}
		_, earlier, found, err := c.Earlier(tx)
		if err != nil {
			return err
		}
		if found {
			e, err = findEndpoint(tx, caller.Account, row.id, earlier)
			return err
		}
		version, err := s.servable(tx, row, r.AgentRuntimeVersion)
		if err != nil {
			return err
		}
		var count int64
		if err := tx.QueryRow("SELECT count(*) FROM agent_runtime_endpoints WHERE runtime_id = $1", row.id).Scan(&count); err != nil {
			return fault.Wrap(err, "counting endpoints")
		}
		if count >= maxEndpoints {
			return fault.New(fault.QuotaExceeded, "The agent runtime has %d endpoints, and may not have more.", maxEndpoints)
		}
		e = &endpointRow{runtimeID: row.id, name: name, account: caller.Account, id: newID(name), version: version, description: r.Description, tags: r.Tags, created: tx.Now, updated: tx.Now}
		taken, err := e.insert(tx)
		if err != nil {
			return err
		}
		if taken {
			return fault.New(fault.Conflict, "The agent runtime has an endpoint %s already.", name)
		}
		return c.Keep(tx, row.id, name)
	})
	if err != nil {
		return nil, err
	}
	return &api.CreateAgentRuntimeEndpointResponse{
		AgentRuntimeArn: s.arn(e.account, e.runtimeID), AgentRuntimeEndpointArn: s.endpointARN(e.account, e.runtimeID, e.name), AgentRuntimeId: &e.runtimeID,
		CreatedAt: api.ISO(e.created), EndpointName: nameOf(e), Status: api.AgentRuntimeEndpointStatusReady, TargetVersion: text(e.version),
	}, nil
}

// servable is the version that an endpoint may serve: the one named, or the
// newest. What cannot be run cannot be served.
func (s *Service) servable(tx *store.Tx, row *runtimeRow, named *string) (int64, error) {
	v, err := s.version(tx, row, named)
	if err != nil {
		return 0, err
	}
	if v.status != api.AgentRuntimeStatusReady {
		return 0, fault.New(fault.Conflict, "Version %d of the agent runtime is %s and cannot be served: %s", v.version, v.status, v.failure)
	}
	return v.version, nil
}

// version is the one named, or the newest.
func (s *Service) version(tx *store.Tx, row *runtimeRow, named *string) (*versionRow, error) {
	if named == nil {
		return s.newestVersion(tx, row)
	}
	return s.findVersion(tx, row.account, row.id, number(*named))
}

func nameOf(e *endpointRow) *secret.Text {
	name := secret.New(e.name)
	return &name
}

// GetAgentRuntimeEndpoint describes an endpoint.
func (s *Service) GetAgentRuntimeEndpoint(ctx context.Context, caller principal.Caller, r *api.GetAgentRuntimeEndpointRequest) (*api.GetAgentRuntimeEndpointResponse, error) {
	var e *endpointRow
	err := s.db.View(ctx, func(tx *store.Tx) (err error) {
		if _, err = findRuntime(tx, caller.Account, r.AgentRuntimeId); err == nil {
			e, err = findEndpoint(tx, caller.Account, r.AgentRuntimeId, r.EndpointName.Reveal())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	d := s.described(e)
	return &api.GetAgentRuntimeEndpointResponse{
		AgentRuntimeArn: d.AgentRuntimeArn, AgentRuntimeEndpointArn: d.AgentRuntimeEndpointArn, CreatedAt: d.CreatedAt, Description: d.Description, Id: d.Id,
		LastUpdatedAt: d.LastUpdatedAt, LiveVersion: d.LiveVersion, Name: d.Name, Status: d.Status, TargetVersion: d.TargetVersion, FailureReason: optional(e.failure),
	}, nil
}

func optional(failure string) *string {
	if failure == "" {
		return nil
	}
	return &failure
}

func (s *Service) described(e *endpointRow) api.AgentRuntimeEndpoint {
	version := text(e.version)
	live, status := &version, api.AgentRuntimeEndpointStatusReady
	if e.failure != "" {
		live, status = nil, api.AgentRuntimeEndpointStatusCreateFailed
	}
	return api.AgentRuntimeEndpoint{
		AgentRuntimeArn: s.arn(e.account, e.runtimeID), AgentRuntimeEndpointArn: s.endpointARN(e.account, e.runtimeID, e.name), CreatedAt: api.ISO(e.created),
		Description: e.description, Id: e.id, LastUpdatedAt: api.ISO(e.updated), LiveVersion: live, Name: secret.New(e.name),
		Status: status, TargetVersion: &version,
	}
}

// UpdateAgentRuntimeEndpoint moves an endpoint to another version, or describes it
// anew. Sessions that run go on with the version that they began with.
func (s *Service) UpdateAgentRuntimeEndpoint(ctx context.Context, caller principal.Caller, r *api.UpdateAgentRuntimeEndpointRequest) (*api.UpdateAgentRuntimeEndpointResponse, error) {
	var e *endpointRow
	name := r.EndpointName.Reveal()
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		row, err := findRuntime(tx, caller.Account, r.AgentRuntimeId)
		if err != nil {
			return err
		}
		if e, err = findEndpoint(tx, caller.Account, row.id, name); err != nil {
			return err
		}
		version := e.version
		switch {
		case r.AgentRuntimeVersion == nil || number(*r.AgentRuntimeVersion) == e.version:
		case name == DefaultEndpoint:
			return fault.New(fault.Conflict, "The endpoint %s follows the newest version. Make an endpoint of your own for another.", DefaultEndpoint)
		default:
			if version, err = s.servable(tx, row, r.AgentRuntimeVersion); err != nil {
				return err
			}
		}
		e.version, e.updated = version, tx.Now
		if r.Description != nil {
			e.description = r.Description
		}
		_, err = tx.Exec("UPDATE agent_runtime_endpoints SET version = $1, description = $2, updated = $3 WHERE runtime_id = $4 AND name = $5",
			e.version, e.description, store.Micros(tx.Now), row.id, name)
		return fault.Wrap(err, "storing an endpoint")
	})
	if err != nil {
		return nil, err
	}
	s.shelf.DropAll()
	d := s.described(e)
	return &api.UpdateAgentRuntimeEndpointResponse{
		AgentRuntimeArn: d.AgentRuntimeArn, AgentRuntimeEndpointArn: d.AgentRuntimeEndpointArn, CreatedAt: d.CreatedAt, LastUpdatedAt: d.LastUpdatedAt,
		LiveVersion: d.LiveVersion, Status: d.Status, TargetVersion: d.TargetVersion,
	}, nil
}

// DeleteAgentRuntimeEndpoint deletes an endpoint, and ends the sessions that were
// opened through it: nobody could reach them by its name. DEFAULT goes with its runtime alone.
func (s *Service) DeleteAgentRuntimeEndpoint(ctx context.Context, caller principal.Caller, r *api.DeleteAgentRuntimeEndpointRequest) (*api.DeleteAgentRuntimeEndpointResponse, error) {
	name := r.EndpointName.Reveal()
	err := s.db.Update(ctx, func(tx *store.Tx) error {
		c, err := s.claim(tx, caller.Account, "DeleteAgentRuntimeEndpoint "+r.AgentRuntimeId, r.ClientToken, []byte(name))
		if err != nil {
			return err
		}
		if _, _, again, err := c.Earlier(tx); err != nil || again {
			return err
		}
		if _, err := findRuntime(tx, caller.Account, r.AgentRuntimeId); err != nil {
			return err
		}
		e, err := findEndpoint(tx, caller.Account, r.AgentRuntimeId, name)
		if err != nil {
			return err
		}
		if name == DefaultEndpoint {
			return fault.New(fault.Conflict, "The endpoint %s is part of the agent runtime, and goes with it.", DefaultEndpoint)
		}
		_, err = tx.Exec("DELETE FROM agent_runtime_endpoints WHERE runtime_id = $1 AND name = $2", e.runtimeID, name)
		if err != nil {
			return fault.Wrap(err, "deleting an endpoint")
		}
		if _, err := tx.Exec("DELETE FROM agent_sessions WHERE runtime_id = $1 AND endpoint = $2", e.runtimeID, name); err != nil {
			return fault.Wrap(err, "forgetting sessions")
		}
		// As a runtime's own goes with it, so that its token makes a new one, and not the answer of what is gone.
		if _, err := tx.Exec("DELETE FROM agent_runtime_client_tokens WHERE account = $1 AND operation = $2 AND result = $3", e.account, createEndpoint+e.runtimeID, name); err != nil {
			return fault.Wrap(err, "forgetting client tokens")
		}
		if err := s.options.Deleted(tx, e.account, s.endpointARN(e.account, e.runtimeID, name)); err != nil {
			return err
		}
		return c.Keep(tx, "", name)
	})
	if err != nil {
		return nil, err
	}
	s.shelf.DropAll()
	s.endEndpoint(r.AgentRuntimeId, name, "The endpoint was deleted.")
	return &api.DeleteAgentRuntimeEndpointResponse{AgentRuntimeId: &r.AgentRuntimeId, EndpointName: &r.EndpointName, Status: api.AgentRuntimeEndpointStatusDeleting}, nil
}

// ListAgentRuntimeEndpoints lists a runtime's endpoints by name.
func (s *Service) ListAgentRuntimeEndpoints(ctx context.Context, caller principal.Caller, r *api.ListAgentRuntimeEndpointsRequest) (*api.ListAgentRuntimeEndpointsResponse, error) {
	limit, after := api.Page(r.MaxResults, r.NextToken, pageSize)
	out := &api.ListAgentRuntimeEndpointsResponse{}
	err := s.db.View(ctx, func(tx *store.Tx) error {
		out.RuntimeEndpoints, out.NextToken = []api.AgentRuntimeEndpoint{}, nil
		if _, err := findRuntime(tx, caller.Account, r.AgentRuntimeId); err != nil {
			return err
		}
		rows, err := tx.Query("SELECT "+endpointColumns+" FROM agent_runtime_endpoints WHERE runtime_id = $1 AND name > $2 ORDER BY name LIMIT $3", r.AgentRuntimeId, after, limit+1)
		if err != nil {
			return err
		}
		defer rows.Close()
		last := ""
		for rows.Next() {
			if len(out.RuntimeEndpoints) == limit {
				out.NextToken = &last
				return nil
			}
			e, err := scanEndpoint(rows)
			if err != nil {
				return err
			}
			last = e.name
			out.RuntimeEndpoints = append(out.RuntimeEndpoints, s.described(e))
		}
		return rows.Err()
	})
	return out, fault.Wrap(err, "listing endpoints of an agent runtime")
}

// endpointARNs are those of a runtime's endpoints: what else is kept by them goes with the runtime.
func (s *Service) endpointARNs(tx *store.Tx, row *runtimeRow) (arns []string, err error) {
	rows, err := tx.Query("SELECT name FROM agent_runtime_endpoints WHERE runtime_id = $1 ORDER BY name", row.id)
	if err != nil {
		return nil, fault.Wrap(err, "reading endpoints of an agent runtime")
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fault.Wrap(err, "reading endpoints of an agent runtime")
		}
		arns = append(arns, s.endpointARN(row.account, row.id, name))
	}
	return arns, fault.Wrap(rows.Err(), "reading endpoints of an agent runtime")
}
