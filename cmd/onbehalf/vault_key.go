package main

import (
	"context"
	"fmt"

	"github.com/onbehalf/onbehalf/internal/server"
)

type vaultCreateKeyCmd struct {
	File string `arg:"" name:"file" type:"path" help:"File to make; it must not exist."`
}

// Run makes a key file.
func (c vaultCreateKeyCmd) Run(_ context.Context, t *terminal) error {
	if err := server.CreateKeyFile(c.File); err != nil {
		return err
	}
	_, err := fmt.Fprintf(t.out, "%s: a new key-encryption key, readable by you alone; use it as file:%s\n", c.File, c.File)
	return err
}
