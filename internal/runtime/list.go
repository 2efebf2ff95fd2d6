package runtime

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

const (
	actionListSessions = "onbehalf:ListAgentRuntimeSessions"
	pageSessions       = 50 // of a list that does not say
)

// sessionRow is a session as stored.
type sessionRow struct {
	key             sessionKey
	endpoint        string
	version         int64
	principal, user string
	node            string
	created, used   time.Time
}

// ListAgentRuntimeSessions lists the sessions that run, on whichever replica. Those
// of runtimes that the caller may not ask about are left out: a page can be shorter
// than its size.
func (s *Service) ListAgentRuntimeSessions(ctx context.Context, caller principal.Caller, r *api.ListAgentRuntimeSessionsRequest) (*api.ListAgentRuntimeSessionsResponse, error) {
	most := pageSessions
	if r.MaxResults != nil {
		most = int(*r.MaxResults)
	}
	var after sessionKey
	if r.NextToken != nil {
		runtime, id, ok := strings.Cut(*r.NextToken, " ")
		if !ok {
			return nil, fault.InvalidField("nextToken", "The token is none of this list's.")
		}
		after = sessionKey{runtime, id}
	}
	var rows []sessionRow
	err := s.db.View(ctx, func(tx *store.Tx) (err error) {
		if r.AgentRuntimeId != nil {
			if _, err := findRuntime(tx, caller.Account, *r.AgentRuntimeId); err != nil {
				return err
			}
		}
		rows, err = listSessions(tx, caller.Account, r.AgentRuntimeId, after, most+1)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := &api.ListAgentRuntimeSessionsResponse{Sessions: []api.AgentRuntimeSession{}}
	if len(rows) > most {
		rows = rows[:most]
		last := rows[most-1].key
		token := last.runtime + " " + last.id
		out.NextToken = &token
	}
	allowed := map[string]bool{}
	for _, row := range rows {
		if s.node.left(row.node) || row.node == s.node.name && !s.runs(row.key) {
			continue // nothing of it runs
		}
		arn := s.arn(caller.Account, row.key.runtime)
		may, asked := allowed[arn]
		if !asked {
			err := s.gate.May(ctx, caller, gate.Check{Action: actionListSessions, Resource: arn})
			if err != nil && !fault.Is(err, fault.Denied) {
				return nil, err
			}
			may = err == nil
			allowed[arn] = may
		}
		if may {
			out.Sessions = append(out.Sessions, s.describeSession(arn, row))
		}
	}
	return out, nil
}

func listSessions(tx *store.Tx, account string, runtime *string, after sessionKey, most int) (found []sessionRow, err error) {
	query := "SELECT runtime_id, session, endpoint, version, principal, user_line, created, last_used, node FROM agent_sessions WHERE account = $1 AND (runtime_id > $2 OR runtime_id = $2 AND session > $3)"
	arguments := []any{account, after.runtime, after.id, most}
	if runtime != nil {
		query += " AND runtime_id = $5"
		arguments = append(arguments, *runtime)
	}
	rows, err := tx.Query(query+" ORDER BY runtime_id, session LIMIT $4", arguments...)
	if err != nil {
		return nil, fault.Wrap(err, "listing sessions")
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r sessionRow
		var created, used int64
		if err := rows.Scan(&r.key.runtime, &r.key.id, &r.endpoint, &r.version, &r.principal, &r.user, &created, &used, &r.node); err != nil {
			return nil, fault.Wrap(err, "listing sessions")
		}
		r.created, r.used = store.Time(created), store.Time(used)
		found = append(found, r)
	}
	return found, fault.Wrap(rows.Err(), "listing sessions")
}

// describeSession says what is known of a session: of one that runs here what is so
// now, of another replica's what its row says, which is up to ten seconds old.
func (s *Service) describeSession(arn string, r sessionRow) api.AgentRuntimeSession {
	out := api.AgentRuntimeSession{
		AgentRuntimeArn: arn, AgentRuntimeVersion: text(r.version), EndpointName: r.endpoint, RuntimeSessionId: r.key.id,
		Status: api.AgentRuntimeSessionStatusIdle, CreatedAt: api.ISO(r.created), LastUsedAt: api.ISO(r.used), User: endUser(r.user),
	}
	if strings.HasPrefix(r.principal, "arn:") {
		out.Principal = &r.principal
	}
	s.live.mu.Lock()
	n := s.live.all[r.key]
	s.live.mu.Unlock()
	if n == nil {
		if s.now().Sub(r.used) < beat {
			out.Status = api.AgentRuntimeSessionStatusActive
		}
		return out
	}
	starting, active, stopping := n.state()
	switch {
	case stopping:
		out.Status = api.AgentRuntimeSessionStatusStopping
	case starting:
		out.Status = api.AgentRuntimeSessionStatusStarting
	case active:
		out.Status = api.AgentRuntimeSessionStatusActive
	}
	out.LastUsedAt = api.ISO(n.used(s.now()))
	return out
}

// endUser is the person of a line that principal.User made.
func endUser(line string) *api.EndUser {
	if id, ok := strings.CutPrefix(line, "id:"); ok {
		return &api.EndUser{UserId: &id}
	}
	if named, ok := strings.CutPrefix(line, "jwt:"); ok {
		if issuer, subject, ok := strings.Cut(named, "#"); ok {
			return &api.EndUser{Issuer: &issuer, Subject: &subject}
		}
	}
	return nil
}
