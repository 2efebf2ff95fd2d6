package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Storage is the part of a Config that says where an installation's database and
// keys are: what the operator's commands need of it. Each field is that of
// Config, under the same name and tags (a test compares them), so that a command
// finds its installation by the flags, variables and file that serve was given.
type Storage struct {
	Data        string      `name:"data" yaml:"data" env:"ONBEHALF_DATA" type:"path" placeholder:"DIR" help:"Data folder of the platform. Default ~/.local/share/onbehalf."`
	DatabaseURL secret.Text `name:"database-url" yaml:"database-url" env:"ONBEHALF_DATABASE_URL" placeholder:"URL" help:"The PostgreSQL database of serve, where it has one."`
	KeyFile     string      `name:"key-file" yaml:"key-file" env:"ONBEHALF_KEY_FILE" type:"path" placeholder:"FILE" help:"Key-encryption key. Default: key-encryption-key in the data folder."`
	KeyWrapper  string      `name:"key-wrapper" yaml:"key-wrapper" env:"ONBEHALF_KEY_WRAPPER" placeholder:"WRAPPER" help:"The key-encryption key of serve, where it is not a file of the data folder's."`
	KMSKeys     []string    `name:"kms-key" yaml:"kms-key" env:"ONBEHALF_KMS_KEY" sep:";" placeholder:"ARN=WRAPPER" help:"The keys of accounts' vaults, as for serve. Repeatable."`
}

// Config is these settings, and the defaults of all others.
func (s Storage) Config() Config {
	return Config{Data: s.Data, DatabaseURL: s.DatabaseURL, KeyFile: s.KeyFile, KeyWrapper: s.KeyWrapper, KMSKeys: s.KMSKeys}.WithDefaults()
}

// NoInstallationError says that there is nothing to work on.
type NoInstallationError struct{ Place, Missing string }

func (e *NoInstallationError) Error() string {
	return "no installation in " + e.Place + ": it has no " + e.Missing
}

// openStorage opens the database and the keys of an installation that exists,
// and makes none. What it returns beside an error is to be closed.
func openStorage(ctx context.Context, s Storage) (f folder, db *store.DB, keeper *seal.Keeper, err error) {
	c := s.Config()
	data, err := filepath.Abs(c.Data)
	if err != nil {
		return f, nil, nil, fmt.Errorf("--data %q cannot be resolved: %w", c.Data, err)
	}
	f = folder{path: data}
	if err := c.checkDatabaseURL(); err != nil {
		return f, nil, nil, err
	}
	url := c.DatabaseURL.Reveal()
	if before, _ := f.readEndpoint(); url == "" && before.Database != "" {
		return f, nil, nil, fmt.Errorf("%s belongs to a replica of a PostgreSQL database: set --database-url, as for serve", data)
	}
	c.Data = data
	k, err := c.keys()
	if err != nil {
		return f, nil, nil, err
	}
	if err := f.holds(k, url == ""); err != nil {
		return f, nil, nil, err
	}
	if db, err = store.Open(ctx, store.Options{Path: f.database(), URL: url}); err != nil {
		return f, nil, nil, err
	}
	sealed, err := seal.Sealed(ctx, db)
	if err == nil && !sealed {
		err = &NoInstallationError{Place: "the database", Missing: "keys: no platform was ever started on it"}
	}
	if err != nil {
		return f, db, nil, err
	}
	keeper, err = k.keeper(ctx, db, false)
	return f, db, keeper, err
}

// holds reports what the installation lacks of the files that it must have.
func (f folder) holds(k keys, database bool) error {
	var files []string
	if database {
		files = append(files, f.database())
	}
	if path := k.platform.FilePath(); path != "" {
		files = append(files, path)
	}
	for _, path := range files {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return &NoInstallationError{Place: f.path, Missing: filepath.Base(path)}
		} else if err != nil {
			return err
		}
	}
	return nil
}
