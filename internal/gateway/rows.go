package gateway

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

// gatewayRow is a gateway as stored. Its settings are what was asked for, so
// that answers echo it, fields of no consequence here included.
type gatewayRow struct {
	id, account      string
	workloadID       string
	settings         api.UpdateGatewayRequest
	tags             map[string]string
	version          int64
	created, updated time.Time
}

const gatewayColumns = "id, account, workload_id, settings, tags, version, created, updated"

type scanner interface{ Scan(...any) error }

func scanGateway(from scanner) (*gatewayRow, error) {
	var g gatewayRow
	var settings, tags string
	var created, updated int64
	if err := from.Scan(&g.id, &g.account, &g.workloadID, &settings, &tags, &g.version, &created, &updated); err != nil {
		return nil, err
	}
	if err := errors.Join(json.Unmarshal([]byte(settings), &g.settings), json.Unmarshal([]byte(tags), &g.tags)); err != nil {
		return nil, fault.Wrap(err, "reading a gateway's settings")
	}
	g.created, g.updated = store.Time(created), store.Time(updated)
	return &g, nil
}

// findGateway reads a gateway of the account; fault.NotFound.
func findGateway(tx *store.Tx, account, id string) (*gatewayRow, error) {
	g, err := scanGateway(tx.QueryRow("SELECT "+gatewayColumns+" FROM gateways WHERE id = $1 AND account = $2", id, account))
	if errors.Is(err, store.ErrNoRows) {
		return nil, noGateway(id)
	}
	return g, fault.Wrap(err, "reading a gateway")
}

func (g *gatewayRow) insert(tx *store.Tx) (taken bool, err error) {
	tags, err := json.Marshal(g.tags)
	if err != nil {
		return false, fault.Wrap(err, "encoding tags")
	}
	rows, err := tx.Exec("INSERT INTO gateways (id, account, name, workload_id, settings, tags, version, created, updated) VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $7) ON CONFLICT DO NOTHING",
		g.id, g.account, g.settings.Name, g.workloadID, string(g.settings.AppendJSON(nil)), string(tags), store.Micros(tx.Now))
	return rows == 0, fault.Wrap(err, "storing a gateway")
}

// touch raises a gateway's version, so that every replica loads it anew.
func touch(tx *store.Tx, id string) error {
	_, err := tx.Exec("UPDATE gateways SET version = version + 1 WHERE id = $1", id)
	return fault.Wrap(err, "raising a gateway's version")
}

// workload is the gateway's own identity, which the broker's grants belong to.
func (s *Service) workload(g *gatewayRow) principal.Workload {
	return principal.Workload{ID: g.workloadID, Name: g.id, ARN: api.WorkloadIdentityARN(s.options.Region, g.account, g.id), Owner: s.arn(g.account, g.id)}
}

// targetRow is a target as stored, its settings sealed.
type targetRow struct {
	gatewayID, id    string
	account, name    string
	kind             string
	settings         []byte
	compiled         []byte
	returnURL        string
	version          int64
	created, updated time.Time
}

const targetColumns = "gateway_id, id, account, name, kind, settings, compiled, return_url, version, created, updated"

func scanTarget(from scanner) (*targetRow, error) {
	var t targetRow
	var created, updated int64
	err := from.Scan(&t.gatewayID, &t.id, &t.account, &t.name, &t.kind, &t.settings, &t.compiled, &t.returnURL, &t.version, &created, &updated)
	t.created, t.updated = store.Time(created), store.Time(updated)
	return &t, err
}

// findTarget reads a target of a gateway of the account; fault.NotFound.
func findTarget(tx *store.Tx, account, gateway, id string) (*targetRow, error) {
	t, err := scanTarget(tx.QueryRow("SELECT "+targetColumns+" FROM gateway_targets WHERE gateway_id = $1 AND id = $2 AND account = $3", gateway, id, account))
	if errors.Is(err, store.ErrNoRows) {
		return nil, noTarget(gateway, id)
	}
	return t, fault.Wrap(err, "reading a target")
}

// targetsOf reads all targets of a gateway, by name.
func targetsOf(tx *store.Tx, gateway string) ([]*targetRow, error) {
	rows, err := tx.Query("SELECT "+targetColumns+" FROM gateway_targets WHERE gateway_id = $1 ORDER BY name", gateway)
	if err != nil {
		return nil, fault.Wrap(err, "reading targets")
	}
	defer rows.Close()
	var out []*targetRow
	for rows.Next() {
		t, err := scanTarget(rows)
		if err != nil {
			return nil, fault.Wrap(err, "reading targets")
		}
		out = append(out, t)
	}
	return out, fault.Wrap(rows.Err(), "reading targets")
}

// insert stores a new target; taken says that the name is.
func (t *targetRow) insert(tx *store.Tx) (taken bool, err error) {
	rows, err := tx.Exec("INSERT INTO gateway_targets (gateway_id, id, account, name, kind, settings, compiled, return_url, version, created, updated) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10) ON CONFLICT DO NOTHING",
		t.gatewayID, t.id, t.account, t.name, t.kind, t.settings, t.compiled, t.returnURL, t.version, store.Micros(tx.Now))
	return rows == 0, fault.Wrap(err, "storing a target")
}

// sealTarget and openTarget keep a target's settings sealed, each version for itself.
func (s *Service) sealTarget(tx *store.Tx, t *targetRow, settings *api.UpdateGatewayTargetRequest) error {
	sealed, err := s.keeper.Seal(tx.Context(), t.sealContext(), settings.AppendJSON(nil))
	t.settings = sealed
	return err
}

func (s *Service) openTarget(tx *store.Tx, t *targetRow) (*api.UpdateGatewayTargetRequest, error) {
	opened, err := s.keeper.Open(tx.Context(), t.sealContext(), t.settings)
	if err != nil {
		return nil, err
	}
	defer clear(opened)
	var settings api.UpdateGatewayTargetRequest
	if err := json.Unmarshal(opened, &settings); err != nil {
		return nil, fault.Wrap(err, "reading a target's settings")
	}
	return &settings, nil
}

func (t *targetRow) sealContext() seal.Context {
	return seal.Context{Account: t.account, Purpose: seal.Secrets, Kind: "gateway-target", Row: t.gatewayID + "/" + t.id, Version: t.version}
}
