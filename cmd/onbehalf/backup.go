package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/onbehalf/onbehalf/internal/server"
)

type backupCmd struct {
	server.Storage
	Output string `name:"output" enum:"table,json" default:"table" help:"table or json."`
	File   string `arg:"" name:"file" type:"path" help:"File to make; it must not exist."`
}

// Help is shown below the flags.
func (backupCmd) Help() string {
	return `The copy is of one moment; the platform may run meanwhile. Secrets are in it as
they are in the database, sealed: keep the key-encryption key apart from it, or
it opens nothing. Either engine restores what the other wrote.
The copy is read back, and every secret in it opened, before it counts as made.
Secrets that do not open are named; the copy has them as they are, and the exit
code is 1.
Examples:
  onbehalf backup onbehalf-2026-11-22.backup
  onbehalf backup --database-url postgres://onbehalf@db/onbehalf --key-file key nightly.backup --output json`
}

// Run makes the backup.
func (c backupCmd) Run(ctx context.Context, t *terminal) error {
	i := installation{Storage: c.Storage, Output: c.Output}
	return i.open(ctx, t, func(o *server.Operator) error {
		_, person := screen(t.err) // a nightly job is told how it ended
		shown := time.Now()
		done, err := o.BackupFollowed(ctx, c.File, func(doing string, bytes int64) {
			if person && time.Since(shown) > time.Second {
				shown = time.Now()
				fmt.Fprintf(t.err, "%s, %d MB\n", doing, bytes>>20)
			}
		})
		if err != nil {
			return err
		}
		for _, line := range done.Damage {
			slog.Warn(line)
		}
		if err := c.tell(t, done); err != nil {
			return err
		}
		if done.Unopened != "" {
			return fmt.Errorf("the backup is made, and whether its secrets open could not be seen: %s", done.Unopened)
		}
		if n := len(done.Damage); n > 0 {
			return hinted{fmt.Errorf("the backup is made; %d of its secrets do not open, as in the database, and are named above", n), "onbehalf restore takes it with --damaged alone"}
		}
		return nil
	})
}

func (c backupCmd) tell(t *terminal, done server.BackedUp) error {
	if c.Output == "json" {
		return json.NewEncoder(t.out).Encode(map[string]any{"file": done.File, "rows": done.Rows, "bytes": done.Bytes, "keepApart": done.Keep,
			"sealedValues": done.Values, "lostVaults": done.Lost, "damagedValues": len(done.Damage)})
	}
	fmt.Fprintf(t.out, "%s: %d rows, %d bytes", done.File, done.Rows, done.Bytes)
	if done.Unopened == "" && len(done.Damage) == 0 {
		fmt.Fprintf(t.out, "; %d sealed values, each of which opens", done.Values)
	}
	fmt.Fprintln(t.out)
	for _, account := range done.Lost {
		fmt.Fprintf(t.out, "the vault of account %s is in it and stays shut: its own key is gone\n", account)
	}
	fmt.Fprintln(t.out, "Keep apart from it, because without them it opens nothing:")
	for _, line := range done.Keep {
		fmt.Fprintln(t.out, "  "+line)
	}
	_, err := fmt.Fprintln(t.out, "The file with the root access key is not in it: onbehalf keys reset-root makes another.")
	return err
}
