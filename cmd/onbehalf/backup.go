package main

import (
	"context"
	"encoding/json"
	"fmt"

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
Examples:
  onbehalf backup onbehalf-2026-11-22.backup
  onbehalf backup --database-url postgres://onbehalf@db/onbehalf --key-file key nightly.backup --output json`
}

// Run makes the backup.
func (c backupCmd) Run(ctx context.Context, t *terminal) error {
	i := installation{Storage: c.Storage, Output: c.Output}
	return i.open(ctx, t, func(o *server.Operator) error {
		done, err := o.Backup(ctx, c.File)
		if err != nil {
			return err
		}
		if c.Output == "json" {
			return json.NewEncoder(t.out).Encode(map[string]any{"file": done.File, "rows": done.Rows, "bytes": done.Bytes, "keepApart": done.Keep})
		}
		fmt.Fprintf(t.out, "%s: %d rows, %d bytes\n", done.File, done.Rows, done.Bytes)
		fmt.Fprintln(t.out, "Keep apart from it, because without them it opens nothing:")
		for _, line := range done.Keep {
			fmt.Fprintln(t.out, "  "+line)
		}
		_, err = fmt.Fprintln(t.out, "The file with the root access key is not in it: onbehalf keys reset-root makes another.")
		return err
	})
}
