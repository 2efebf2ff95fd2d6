package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/server"
)

func TestSourcesInTheSettingsFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "onbehalf.yaml")
	const text = "secret-source:\n  - {name: aws, kind: secretsmanager, aws-account: \"123456789012\"}\n  - name=env,kind=env,prefix=AGENT_\nsigning-key: [\"arn:x=file:/k.pem\"]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	settings, err := readSettings(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []server.Declaration{"aws-account=123456789012,kind=secretsmanager,name=aws", "name=env,kind=env,prefix=AGENT_"}
	if diff := cmp.Diff(want, settings["secret-source"].Interface()); diff != "" {
		t.Error(diff)
	}
	if err := os.WriteFile(path, []byte("secret-source:\n  - {name: aws, prefix: [a]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readSettings(path); err == nil {
		t.Error("a list is a part of a source")
	}
}
