package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/onbehalf/onbehalf/internal/server"
)

type restoreCmd struct {
	server.Storage
	Output  string `name:"output" enum:"table,json" default:"table" help:"table or json."`
	Damaged bool   `name:"damaged" help:"Restore also values that do not open, as they are; each is named."`
	File    string `arg:"" name:"file" type:"path" help:"What onbehalf backup made."`
}

// Help is shown below the flags.
func (restoreCmd) Help() string {
	return `Fills an empty database: a data folder without one, or an empty PostgreSQL
schema. The key-encryption key must be there first. Every data key and every
secret is opened before anything counts; where one does not open, or the
backup was altered, nothing is restored. --damaged takes values that did not
open before the backup was made, either; a backup that was altered it does not.
Examples:
  mkdir -m 700 data && cp kept-elsewhere/key-encryption-key data/ && onbehalf restore --data data nightly.backup
  onbehalf restore --database-url postgres://onbehalf@db/onbehalf --key-file key nightly.backup`
}

// Run restores the backup.
func (c restoreCmd) Run(ctx context.Context, t *terminal) error {
	slog.SetDefault(server.Logger(server.Config{LogLevel: "warn"}.WithDefaults(), t.err))
	done, err := server.Restore(ctx, c.Storage, c.File, c.Damaged)
	if err != nil {
		return hinted{err, "nothing was restored"}
	}
	for _, line := range done.Damage {
		slog.Warn(line)
	}
	if c.Output == "json" {
		return json.NewEncoder(t.out).Encode(map[string]any{"rows": done.Rows, "sealedValues": done.Values, "lostVaults": done.Lost, "damagedValues": len(done.Damage)})
	}
	fmt.Fprintf(t.out, "restored: %d rows; %d sealed values, each of which opens\n", done.Rows, done.Values)
	if n := len(done.Damage); n > 0 {
		fmt.Fprintf(t.out, "%d more do not open, as before the backup; they are named above\n", n)
	}
	for _, account := range done.Lost {
		fmt.Fprintf(t.out, "the vault of account %s stays shut: its own key is gone (ResetTokenVaultKeyMaterial empties it)\n", account)
	}
	_, err = fmt.Fprintln(t.out, "The root access key works as before; if its file is lost: onbehalf keys reset-root")
	return err
}
