package runtime

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

const (
	// beat is how often a node says that it lives, and what its sessions are at.
	beat = 10 * time.Second
	// nodeLease is how long after its last word a node counts as alive.
	nodeLease = 3 * beat
)

// machine is this process among those that share a database: the installation's own
// name, which its folder keeps, and the process's. So a process knows the rows that
// an earlier one of its installation left behind.
type machine struct{ home, name string }

func openNode(folder string) machine {
	path := filepath.Join(folder, "node")
	home, err := os.ReadFile(path)
	if err != nil || len(home) != 26 {
		home = []byte(strings.ToLower(rand.Text()))
		if folder == "" {
			return machine{home: string(home), name: string(home)}
		}
		if err := os.WriteFile(path, home, 0o600); err != nil {
			slog.Warn("this server's name for its sessions could not be kept", "error", err)
		}
	}
	return machine{home: string(home), name: string(home) + "." + strings.ToLower(rand.Text())}
}

func (m machine) lease() string { return "agents of " + m.name }

// left reports whether a row is one that an earlier process of this installation left
// behind: nothing of it runs, and it will be cleared away.
func (m machine) left(holder string) bool {
	return holder != m.name && strings.HasPrefix(holder, m.home+".")
}

// enroll writes down that a session is this node's. It is another's only as long as
// that one lives; whose the session is, is looked at first. Nodes that enroll many at
// once do not clash: what was read decides in the statement that writes.
func (s *Service) enroll(ctx context.Context, n *session) error {
	if err := s.holdLease(ctx); err != nil {
		return fault.Wrap(err, "writing a session down")
	}
	for range 3 {
		var holder string
		err := s.db.View(ctx, func(tx *store.Tx) (err error) {
			holder, err = s.notElsewhere(tx, n.key, n.owner)
			return err
		})
		if err != nil {
			return err
		}
		var rows int64
		err = s.db.Swap(ctx, func(tx *store.Tx) (err error) {
			rows, err = tx.Exec(`INSERT INTO agent_sessions (runtime_id, session, account, endpoint, version, principal, user_line, node, created, last_used)
				SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $9 FROM agent_runtimes WHERE id = $1
				ON CONFLICT (runtime_id, session) DO UPDATE SET account = excluded.account, endpoint = excluded.endpoint, version = excluded.version,
					principal = excluded.principal, user_line = excluded.user_line, node = excluded.node, created = excluded.created, last_used = excluded.last_used
				WHERE agent_sessions.node = $10`,
				n.key.runtime, n.key.id, n.runtime.account, n.endpoint, n.version.version, n.owner.principal, n.user.String(), s.node.name, store.Micros(tx.Now), holder)
			return err
		})
		if err != nil || rows == 1 {
			return fault.Wrap(err, "writing a session down")
		}
	}
	return noRuntime(n.key.runtime)
}

// holdLease makes sure that this node counts as alive until it says so again.
func (s *Service) holdLease(ctx context.Context) error {
	s.leasing.Lock()
	defer s.leasing.Unlock()
	if s.now().Before(s.leased.Add(beat)) {
		return nil
	}
	err := s.db.Append(ctx, func(tx *store.Tx) error {
		_, _, err := tx.Lease(s.node.lease(), s.node.name, nodeLease)
		return err
	})
	if err == nil {
		s.leased = s.now()
	}
	return err
}

// elsewhere is notElsewhere in a look of its own.
func (s *Service) elsewhere(ctx context.Context, key sessionKey, who owner) error {
	return s.db.View(ctx, func(tx *store.Tx) error {
		_, err := s.notElsewhere(tx, key, who)
		return err
	})
}

// notElsewhere refuses a session that another live replica runs. Of others it
// answers whose row is in the way, "" where there is none.
func (s *Service) notElsewhere(tx *store.Tx, key sessionKey, who owner) (holder string, err error) {
	var principal, user string
	err = tx.QueryRow("SELECT node, principal, user_line FROM agent_sessions WHERE runtime_id = $1 AND session = $2", key.runtime, key.id).Scan(&holder, &principal, &user)
	if errors.Is(err, store.ErrNoRows) || err == nil && strings.HasPrefix(holder, s.node.home+".") {
		return holder, nil // its own rows are in the way of nobody: what runs here, the table in memory knows
	}
	if err != nil {
		return "", fault.Wrap(err, "looking for a session")
	}
	var lives int64
	err = tx.QueryRow("SELECT count(*) FROM leases WHERE name = $1 AND expires > $2", machine{name: holder}.lease(), store.Micros(tx.Now)).Scan(&lives)
	switch {
	case err != nil:
		return "", fault.Wrap(err, "looking for a server")
	case lives == 0:
		return holder, nil
	case (principal != who.principal || user != who.user) && !s.options.SharedSessions:
		return "", errForeign()
	}
	return "", fault.New(fault.Concurrent, "The session runs on another server of this platform. The load balancer must send calls with the same %s header to the same server.", headerSession)
}

// strike takes a session's row away, where it still is this node's.
func (s *Service) strike(ctx context.Context, n *session) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := s.db.Swap(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("DELETE FROM agent_sessions WHERE runtime_id = $1 AND session = $2 AND node = $3", n.key.runtime, n.key.id, s.node.name)
		return err
	})
	if err != nil {
		s.unstruck.Store(true)
		slog.Warn("the row of an ended session is left behind for now", "error", err)
	}
}

// strikeAgain takes away the rows of sessions that have ended here and could not be
// struck then, for a disk that was slow or a database that was away. A session is in
// the table in memory before it has a row, and one of the same id has another time.
func (s *Service) strikeAgain(ctx context.Context) error {
	if !s.unstruck.Swap(false) {
		return nil
	}
	rows := map[sessionKey]int64{}
	err := s.db.View(ctx, func(tx *store.Tx) (err error) {
		clear(rows)
		found, err := tx.Query("SELECT runtime_id, session, created FROM agent_sessions WHERE node = $1", s.node.name)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, found.Close()) }()
		for found.Next() {
			var key sessionKey
			var created int64
			if err := found.Scan(&key.runtime, &key.id, &created); err != nil {
				return err
			}
			rows[key] = created
		}
		return found.Err()
	})
	if err == nil {
		err = s.db.Swap(ctx, func(tx *store.Tx) error {
			for key, created := range rows {
				if s.runs(key) {
					continue
				}
				if _, err := tx.Exec("DELETE FROM agent_sessions WHERE runtime_id = $1 AND session = $2 AND node = $3 AND created = $4", key.runtime, key.id, s.node.name, created); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		s.unstruck.Store(true)
	}
	return err
}

// runs reports whether a session is in the table of this process.
func (s *Service) runs(key sessionKey) bool {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	return s.live.all[key] != nil
}

// Run says every ten seconds that this node lives and what its sessions are at, and
// clears away what dead ones left. It returns when ctx ends.
func (s *Service) Run(ctx context.Context) error {
	if err := s.clear(ctx); err != nil {
		slog.Warn("the rows of earlier sessions could not be cleared away", "error", err)
	}
	s.sweepLogs(ctx)
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			s.tell(ctx)
			if err := s.strikeAgain(ctx); err != nil && ctx.Err() == nil {
				slog.Warn("the rows of ended sessions are still left behind", "error", err)
			}
		}
	}
}

// clear removes what earlier processes of this installation left behind, and nodes
// whose lease has run out. It writes only where there is something.
func (s *Service) clear(ctx context.Context) error {
	const left = " WHERE node <> $1 AND (node LIKE $2 OR NOT EXISTS (SELECT 1 FROM leases WHERE leases.name = 'agents of ' || node AND expires > $3))"
	var rows int64
	if err := s.db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow("SELECT count(*) FROM agent_sessions"+left, s.node.name, s.node.home+".%", store.Micros(tx.Now)).Scan(&rows)
	}); err != nil || rows == 0 {
		return err
	}
	return s.db.Append(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("DELETE FROM agent_sessions"+left, s.node.name, s.node.home+".%", store.Micros(tx.Now))
		return err
	})
}

// tell renews this node's lease and writes when its sessions were last used. One
// whose row is gone was deleted by another replica, or taken over while this one
// slept: it ends.
func (s *Service) tell(ctx context.Context) {
	all := s.those(func(n *session) bool { return n.stopped() == "" && n.enrolled() })
	if len(all) == 0 {
		return
	}
	var lost []*session
	uses := make([]time.Time, len(all))
	if err := s.holdLease(ctx); err != nil {
		if ctx.Err() == nil {
			slog.Warn("this server's lease could not be renewed: other servers will take its sessions for ended", "error", err)
		}
		return
	}
	err := s.db.Swap(ctx, func(tx *store.Tx) error {
		lost = lost[:0]
		for i, n := range all {
			uses[i] = n.used(s.now())
			rows, err := tx.Exec("UPDATE agent_sessions SET last_used = $1 WHERE runtime_id = $2 AND session = $3 AND node = $4",
				store.Micros(uses[i]), n.key.runtime, n.key.id, s.node.name)
			if err != nil {
				return err
			}
			if rows == 0 {
				lost = append(lost, n)
			}
		}
		return nil
	})
	if err != nil {
		if ctx.Err() == nil {
			slog.Warn("this server's sessions could not be written down", "error", err)
		}
		return
	}
	for _, n := range lost {
		n.finish(endedLost, "Its runtime, version or endpoint was deleted, or another server has taken it over.")
	}
	runtimes := map[string]bool{}
	for _, n := range all {
		runtimes[n.key.runtime] = true
	}
	for runtime := range runtimes {
		trimLogs(s.logFolder(runtime))
	}
	if err := s.clear(ctx); err != nil {
		slog.Warn("the rows of dead servers' sessions could not be cleared away", "error", err)
	}
}
