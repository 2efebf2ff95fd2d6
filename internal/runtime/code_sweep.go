package runtime

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/store"
)

const (
	// codeUnused is how long an archive is kept that no version names: since it was
	// put, or since the last version that named it was deleted.
	codeUnused = 24 * time.Hour
	sweepEvery = 10 * time.Minute

	actionForget = "onbehalf:ForgetAgentCode"
)

// KeepCode removes archives that nothing uses, this machine's folders of archives
// that are gone, and storage that no session comes back for, until the context ends.
func (s *Service) KeepCode(ctx context.Context) error {
	s.sweepStorage(ctx) // what an earlier process left half written
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := s.sweepCode(ctx); err != nil && ctx.Err() == nil {
				slog.WarnContext(ctx, "could not sweep agents' code", "error", err)
			}
			s.sweepStorage(ctx)
		}
	}
}

type archiveName struct{ account, sum string }

func (s *Service) sweepCode(ctx context.Context) error {
	unused, err := s.unusedCode(ctx)
	if err != nil {
		return err
	}
	for _, name := range unused {
		checks := []gate.Check{{Action: actionForget, Resource: s.arn(name.account, "*")}}
		err := s.gate.Do(ctx, gate.System(name.account), checks, func(ctx context.Context) error {
			gate.Detail(ctx, "sha256", name.sum)
			return s.forgetCode(ctx, name)
		})
		if err != nil {
			return err
		}
	}
	return s.sweepFolders(ctx)
}

const isUnused = `created < $1 AND NOT EXISTS (SELECT 1 FROM agent_runtime_versions v WHERE v.account = agent_code.account AND v.code = agent_code.sha256)`

// unusedCode are the archives to forget; one replica looks for all of them.
func (s *Service) unusedCode(ctx context.Context) (found []archiveName, err error) {
	err = s.db.Sweep(ctx, "agents' code", sweepEvery, func(tx *store.Tx) error {
		found = nil
		rows, err := tx.Query("SELECT account, sha256 FROM agent_code WHERE "+isUnused+" ORDER BY created LIMIT 100", store.Micros(tx.Now.Add(-codeUnused)))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name archiveName
			if err := rows.Scan(&name.account, &name.sum); err != nil {
				return err
			}
			found = append(found, name)
		}
		return rows.Err()
	})
	return found, fault.Wrap(err, "looking for code that nothing uses")
}

// forgetCode takes an archive away, a part at a time. First it is not there any
// more (size 0), so that nobody names it meanwhile; whoever puts it again makes
// the row young, and this ends.
func (s *Service) forgetCode(ctx context.Context, name archiveName) error {
	for going := true; going; {
		err := s.db.Update(ctx, func(tx *store.Tx) error {
			old := store.Micros(tx.Now.Add(-codeUnused))
			marked, err := tx.Exec("UPDATE agent_code SET size = 0 WHERE "+isUnused+" AND account = $2 AND sha256 = $3", old, name.account, name.sum)
			if going = marked == 1; !going || err != nil {
				return err
			}
			parts, err := tx.Exec(`DELETE FROM agent_code_parts WHERE account = $1 AND sha256 = $2 AND part >=
				(SELECT coalesce(max(part), 0) - 3 FROM agent_code_parts WHERE account = $1 AND sha256 = $2)`, name.account, name.sum)
			if err != nil || parts > 0 {
				return err
			}
			going = false
			_, err = tx.Exec("DELETE FROM agent_code WHERE account = $1 AND sha256 = $2", name.account, name.sum)
			return err
		})
		if err != nil {
			return fault.Wrap(err, "forgetting code")
		}
	}
	return nil
}

// sweepFolders removes this machine's folders of archives that are gone. One that
// is young may be of an archive that is being stored.
func (s *Service) sweepFolders(ctx context.Context) error {
	s.unpacking.first.Do(s.distrust)
	entries, err := os.ReadDir(s.codeFolder())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		account, sum, found := strings.Cut(entry.Name(), "-")
		info, infoErr := os.Stat(filepath.Join(s.codeFolder(), entry.Name()))
		if !found || len(account) != 12 || infoErr != nil || s.now().Sub(info.ModTime()) < time.Hour {
			continue
		}
		kept := false
		if err := s.db.View(ctx, func(tx *store.Tx) (err error) {
			kept, err = holdsCode(tx, account, sum)
			return err
		}); err != nil {
			return err
		}
		if !kept {
			if err := s.discard(entry.Name()); err != nil {
				return err
			}
		}
	}
	return err
}
