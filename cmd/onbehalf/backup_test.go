package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/onbehalf/onbehalf/internal/servertest"
)

// What does not open is told when the backup is made, by the exit code too, and the backup is made.
func TestBackupTellsOfDamage(t *testing.T) {
	t.Parallel()
	o := &office{servertest.Start(t), t}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("sunshine"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.does("providers", "create", "api-key", "--name", "weather", "--api-key-file", key)
	folder := t.TempDir()
	wants(t, o.does("backup", filepath.Join(folder, "whole")), "each of which opens", "Keep apart from it", "key-encryption-key")
	wants(t, o.does("backup", filepath.Join(folder, "whole in JSON"), "--output", "json"), `"damagedValues":0`, `"sealedValues":`)

	o.Tamper(t, "UPDATE api_key_providers SET version = version + 1")
	out, errOut, code := o.says("backup", filepath.Join(folder, "damaged"))
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	wants(t, out, "Keep apart from it")
	wants(t, errOut, "api_key_providers.api_key of row ", "the backup is made; 1 of its secrets do not open", "--damaged")
	if _, err := os.Stat(filepath.Join(folder, "damaged")); err != nil {
		t.Error(err)
	}
}
