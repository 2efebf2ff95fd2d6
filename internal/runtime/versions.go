package runtime

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

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
		_, version, found, err := c.Earlier(tx)
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
		return c.Keep(tx, row.id, text(v.version))
	})
	if err != nil {
		return nil, err
	}
	s.shelf.DropAll()
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

// ListAgentRuntimeVersions lists a runtime's versions, the newest first.
func (s *Service) ListAgentRuntimeVersions(ctx context.Context, caller principal.Caller, r *api.ListAgentRuntimeVersionsRequest) (*api.ListAgentRuntimeVersionsResponse, error) {
	limit, cursor := api.Page(r.MaxResults, r.NextToken, pageSize)
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
