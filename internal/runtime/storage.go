package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// storageUnused is how long storage is kept that no session has used, as AWS has it.
const storageUnused = 14 * 24 * time.Hour

// Storage lies in a folder for each session and whose it is: two people may use the
// same id one after the other, and have nothing of each other.
//
//	storage/RUNTIME/NAME/VERSION    NAME: a hash of the session's id and owner

func (s *Service) storageFolder(runtime string) string {
	return filepath.Join(s.options.Folder, "storage", runtime)
}

// storage is where a session's storage is kept; nil for a runtime that has none.
func (s *Service) storage(n *session) *Archive {
	if len(mounts(n.version.settings.FilesystemConfigurations)) == 0 {
		return nil
	}
	who := n.owner
	if s.options.SharedSessions {
		who = owner{} // the id is all that counts
	}
	sum := sha256.New()
	for _, part := range []string{n.key.id, who.account, who.principal, who.user} {
		fmt.Fprintf(sum, "%d:%s\n", len(part), part) // no two of them look like another two
	}
	a := NewArchive(filepath.Join(s.storageFolder(n.key.runtime), hex.EncodeToString(sum.Sum(nil))), n.version.version, func(text string, cause error) {
		n.log.note(text)
		if cause != nil {
			slog.Warn("an agent's session storage: "+text, "runtime", n.key.runtime, "session", n.name, "error", cause)
		}
	})
	a.hold(true) // until the agent answers
	return a
}

// sweepStorage removes what nobody has used for long, what belongs to versions and
// runtimes that are gone, and what an earlier process left half written.
func (s *Service) sweepStorage(ctx context.Context) {
	runtimes, err := os.ReadDir(s.storageFolder(""))
	if err != nil {
		return // there is none
	}
	for _, runtime := range runtimes {
		if err := s.sweepStorageOf(ctx, runtime.Name()); err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "could not sweep the storage of sessions", "runtime", runtime.Name(), "error", err)
		}
	}
}

func (s *Service) sweepStorageOf(ctx context.Context, runtime string) error {
	versions, err := s.versionsOf(ctx, runtime)
	if err != nil {
		return err
	}
	sessions, err := os.ReadDir(s.storageFolder(runtime))
	if err != nil {
		return err
	}
	for _, session := range sessions {
		if ctx.Err() != nil {
			return ctx.Err() // there may be many
		}
		folder := filepath.Join(s.storageFolder(runtime), session.Name())
		files, _ := os.ReadDir(folder) // it may be gone already
		for _, file := range files {
			if info, infoErr := file.Info(); infoErr == nil && s.outdated(info, versions) {
				err = errors.Join(err, removed(filepath.Join(folder, file.Name())))
			}
		}
		_ = os.Remove(folder) // unless something is in it
	}
	_ = os.Remove(s.storageFolder(runtime))
	return err
}

// outdated is whether a file is of no use any more. A young one may be of a version
// that is younger than what was read of versions.
func (s *Service) outdated(file os.FileInfo, versions map[int64]bool) bool {
	if strings.HasPrefix(file.Name(), draftPrefix) {
		return !strings.HasPrefix(file.Name(), draftPrefix+thisProcess+"-")
	}
	version, is := versionOf(file.Name())
	unused := s.now().Sub(file.ModTime())
	return unused > storageUnused || unused > time.Hour && (!is || !versions[version])
}

func (s *Service) versionsOf(ctx context.Context, runtime string) (versions map[int64]bool, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		versions = map[int64]bool{}
		rows, err := tx.Query("SELECT version FROM agent_runtime_versions WHERE runtime_id = $1", runtime)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var version int64
			if err := rows.Scan(&version); err != nil {
				return err
			}
			versions[version] = true
		}
		return rows.Err()
	})
	return versions, fault.Wrap(err, "looking for the versions of an agent runtime")
}

// removeStorage removes what the sessions of a deleted runtime have kept, or those of
// a deleted version. What is being written goes with whoever writes it.
func (s *Service) removeStorage(runtime string, version int64) {
	sessions, err := os.ReadDir(s.storageFolder(runtime))
	if err != nil {
		return // there is none
	}
	for _, session := range sessions {
		folder := filepath.Join(s.storageFolder(runtime), session.Name())
		files, _ := os.ReadDir(folder)
		for _, file := range files {
			if of, is := versionOf(file.Name()); is && (version == 0 || of == version) {
				if err := removed(filepath.Join(folder, file.Name())); err != nil {
					slog.Warn("what a deleted agent's sessions had stored could not be removed", "runtime", runtime, "error", err)
					return
				}
			}
		}
		_ = os.Remove(folder) // unless something is in it
	}
	_ = os.Remove(s.storageFolder(runtime))
}
