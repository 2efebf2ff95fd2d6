package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/onbehalf/onbehalf/internal/servertest"
)

// What a session keeps is said once and stays, until it is said anew.
func TestConfigureSessionStorage(t *testing.T) {
	t.Parallel()
	o := &office{servertest.Start(t), t}
	file := filepath.Join(t.TempDir(), "onbehalf-agent.yaml")
	settings := func() string {
		t.Helper()
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	o.does("agent", "configure", "--file", file, "--name", "storing", "--language", "command", "--entrypoint", "./run", "--session-storage", "/mnt/data", "--session-storage", "/mnt/more")
	wants(t, settings(), "session-storage:\n- /mnt/data\n- /mnt/more\n")
	o.does("agent", "configure", "--file", file, "--idle-timeout", "5m")
	wants(t, settings(), "session-storage:\n- /mnt/data\n- /mnt/more\n")
	o.does("agent", "configure", "--file", file, "--session-storage", "/mnt/other")
	wants(t, settings(), "session-storage:\n- /mnt/other\n")
	_, errOut, code := o.says("agent", "configure", "--file", file, "--session-storage", "/home/me")
	if code != 2 {
		t.Errorf("exit code %d", code)
	}
	wants(t, errOut, "such as /mnt/data")
	wants(t, settings(), "session-storage:\n- /mnt/other\n")
}
