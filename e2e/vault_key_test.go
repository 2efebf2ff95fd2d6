package e2e

import (
	"path/filepath"
	"testing"

	"github.com/onbehalf/onbehalf/internal/seal"
)

// declareVaultKey makes a key that the account may put its vault under, and the flag that says so.
func declareVaultKey(t *testing.T) (arn string, flags []string) {
	t.Helper()
	arn = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000001"
	file := filepath.Join(t.TempDir(), "vault-key")
	if err := seal.CreateFileKey(file); err != nil {
		t.Fatal(err)
	}
	return arn, []string{"--kms-key", arn + "=file:" + file}
}
