package runtime

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// runtimeRow is a runtime as stored.
type runtimeRow struct {
	id, account, name string
	workloadID        string
	latest            int64
	tags              map[string]string
	created           time.Time
}

const runtimeColumns = "id, account, name, workload_id, latest, tags, created"

type scanner interface{ Scan(...any) error }

func scanRuntime(from scanner) (*runtimeRow, error) {
	var r runtimeRow
	var tags string
	var created int64
	if err := from.Scan(&r.id, &r.account, &r.name, &r.workloadID, &r.latest, &tags, &created); err != nil {
		return nil, err
	}
	r.created = store.Time(created)
	return &r, json.Unmarshal([]byte(tags), &r.tags)
}

// findRuntime reads a runtime of the account; fault.NotFound.
func findRuntime(tx *store.Tx, account, id string) (*runtimeRow, error) {
	r, err := scanRuntime(tx.QueryRow("SELECT "+runtimeColumns+" FROM agent_runtimes WHERE id = $1 AND account = $2", id, account))
	if errors.Is(err, store.ErrNoRows) {
		return nil, noRuntime(id)
	}
	return r, fault.Wrap(err, "reading an agent runtime")
}

func (r *runtimeRow) insert(tx *store.Tx) (taken bool, err error) {
	tags, err := json.Marshal(r.tags)
	if err != nil {
		return false, fault.Wrap(err, "encoding tags")
	}
	rows, err := tx.Exec("INSERT INTO agent_runtimes (id, account, name, workload_id, latest, tags, created) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
		r.id, r.account, r.name, r.workloadID, r.latest, string(tags), store.Micros(tx.Now))
	return rows == 0, fault.Wrap(err, "storing an agent runtime")
}

// workload is the runtime's own identity, which its agents' tokens are of.
func (s *Service) workload(r *runtimeRow) principal.Workload {
	return principal.Workload{ID: r.workloadID, Name: r.id, ARN: api.WorkloadIdentityARN(s.options.Region, r.account, r.id), Owner: s.arn(r.account, r.id)}
}

// versionRow is a version as stored. Its settings are what was asked for, so
// that answers echo it.
type versionRow struct {
	runtimeID, account string
	version            int64
	settings           api.UpdateAgentRuntimeRequest
	code               string // SHA-256
	status             api.AgentRuntimeStatus
	failure            string
	created            time.Time
}

const versionColumns = "runtime_id, account, version, settings, code, status, failure, created"

// scanVersion reads a row, whose settings openVersion then opens: no row is read
// while a key may have to be.
func scanVersion(from scanner) (v *versionRow, sealed []byte, err error) {
	v = &versionRow{}
	var status string
	var created int64
	if err := from.Scan(&v.runtimeID, &v.account, &v.version, &sealed, &v.code, &status, &v.failure, &created); err != nil {
		return nil, nil, err
	}
	v.status, v.created = api.AgentRuntimeStatus(status), store.Time(created)
	return v, sealed, nil
}

func (s *Service) openVersion(tx *store.Tx, v *versionRow, sealed []byte) error {
	opened, err := s.keeper.Open(tx.Context(), v.sealContext(), sealed)
	if err != nil {
		return err
	}
	if _, err := api.Decode(opened, &v.settings); err != nil {
		return fault.Wrap(err, "reading an agent runtime's settings")
	}
	v.settings.AgentRuntimeId = v.runtimeID
	return nil
}

func (s *Service) findVersion(tx *store.Tx, account, id string, version int64) (*versionRow, error) {
	v, sealed, err := scanVersion(tx.QueryRow("SELECT "+versionColumns+" FROM agent_runtime_versions WHERE runtime_id = $1 AND account = $2 AND version = $3", id, account, version))
	if errors.Is(err, store.ErrNoRows) {
		return nil, noVersion(id, version)
	}
	if err == nil {
		err = s.openVersion(tx, v, sealed)
	}
	return v, fault.Wrap(err, "reading a version of an agent runtime")
}

// newestVersion is the newest that a runtime has: row.latest may be deleted. There
// is always one, that DEFAULT serves.
func (s *Service) newestVersion(tx *store.Tx, row *runtimeRow) (*versionRow, error) {
	v, sealed, err := scanVersion(tx.QueryRow("SELECT "+versionColumns+" FROM agent_runtime_versions WHERE runtime_id = $1 ORDER BY version DESC LIMIT 1", row.id))
	if err == nil {
		err = s.openVersion(tx, v, sealed)
	}
	return v, fault.Wrap(err, "reading the newest version of an agent runtime")
}

func (v *versionRow) sealContext() seal.Context {
	return seal.Context{Account: v.account, Purpose: seal.Secrets, Kind: "agent-runtime", Row: v.runtimeID, Version: v.version}
}

func (s *Service) insertVersion(tx *store.Tx, v *versionRow) error {
	sealed, err := s.keeper.Seal(tx.Context(), v.sealContext(), v.settings.AppendJSON(nil))
	if err != nil {
		return err
	}
	_, err = tx.Exec("INSERT INTO agent_runtime_versions (runtime_id, version, account, settings, code, status, failure, created) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
		v.runtimeID, v.version, v.account, sealed, v.code, string(v.status), v.failure, store.Micros(tx.Now))
	return fault.Wrap(err, "storing a version of an agent runtime")
}

// endpointRow is an endpoint as stored.
type endpointRow struct {
	runtimeID, name, account, id string
	version                      int64
	description                  *string
	tags                         map[string]string
	created, updated             time.Time
	failure                      string // why the version cannot be run: only the first, which DEFAULT serves for want of another
}

const endpointColumns = `runtime_id, name, account, id, version, description, tags, created, updated, coalesce((SELECT failure
	FROM agent_runtime_versions AS v WHERE v.runtime_id = agent_runtime_endpoints.runtime_id AND v.version = agent_runtime_endpoints.version), '')`

func scanEndpoint(from scanner) (*endpointRow, error) {
	var e endpointRow
	var tags string
	var created, updated int64
	if err := from.Scan(&e.runtimeID, &e.name, &e.account, &e.id, &e.version, &e.description, &tags, &created, &updated, &e.failure); err != nil {
		return nil, err
	}
	e.created, e.updated = store.Time(created), store.Time(updated)
	return &e, json.Unmarshal([]byte(tags), &e.tags)
}

func findEndpoint(tx *store.Tx, account, id, name string) (*endpointRow, error) {
	e, err := scanEndpoint(tx.QueryRow("SELECT "+endpointColumns+" FROM agent_runtime_endpoints WHERE runtime_id = $1 AND account = $2 AND name = $3", id, account, name))
	if errors.Is(err, store.ErrNoRows) {
		return nil, noEndpoint(id, name)
	}
	return e, fault.Wrap(err, "reading an endpoint of an agent runtime")
}

func (e *endpointRow) insert(tx *store.Tx) (taken bool, err error) {
	tags, err := json.Marshal(e.tags)
	if err != nil {
		return false, fault.Wrap(err, "encoding tags")
	}
	rows, err := tx.Exec("INSERT INTO agent_runtime_endpoints (runtime_id, name, account, id, version, description, tags, created, updated) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT DO NOTHING",
		e.runtimeID, e.name, e.account, e.id, e.version, e.description, string(tags), store.Micros(tx.Now))
	return rows == 0, fault.Wrap(err, "storing an endpoint of an agent runtime")
}
