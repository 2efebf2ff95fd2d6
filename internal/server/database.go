package server

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
)

// elsewhere is the engine of a database that is not the folder's own, which
// other replicas may be at work on; empty for the folder's own.
func (s *Server) elsewhere() string {
	if s.config.DatabaseURL.Empty() {
		return ""
	}
	return "postgres"
}

// sameDatabase refuses a folder that belongs to another database: its root key
// would be overwritten by that of a new, empty installation.
func (s *Server) sameDatabase(before endpoint) error {
	_, err := os.Stat(s.folder.database())
	own := err == nil
	switch {
	case s.elsewhere() != "" && own:
		return fmt.Errorf("--database-url: %s holds an installation with a database of its own, whose root key would be overwritten; name another --data", s.folder.path)
	case s.elsewhere() == "" && before.Database != "":
		return fmt.Errorf("%s belongs to a replica of a PostgreSQL database: set --database-url as before, or name another --data", s.folder.path)
	}
	return nil
}

// openKeys opens the key-encryption key, which a first start makes, and with it the data keys.
func (s *Server) openKeys(ctx context.Context) (*seal.Keeper, error) {
	c := s.config
	c.Data = s.folder.path
	k, err := c.keys()
	if err != nil {
		return nil, err
	}
	keeper, err := k.keeper(ctx, s.db, true)
	if file := k.platform.FilePath(); file != "" && s.elsewhere() != "" && fault.Is(err, fault.NotFound) {
		return nil, errors.New("the database was sealed by another replica, and its key file " + file + " is missing here: name that replica's key file, or a copy of it, with --key-file")
	}
	if err != nil {
		return nil, err
	}
	return keeper, keeper.EnsureAccount(ctx, s.config.Account)
}

// missCredentials tells where to look for the root key that is not here.
func (s *Server) missCredentials() {
	if _, err := os.Stat(s.folder.credentials()); err == nil {
		return
	}
	if s.elsewhere() != "" {
		s.log.Info("the root access key is with the replica that made it", "file", s.folder.credentials())
		return
	}
	s.log.Warn("the file with the root access key is gone: put it back from a backup, or make another key with onbehalf keys reset-root", "file", s.folder.credentials())
}
