package e2e

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/onbehalf/onbehalf/internal/seal"
)

// declareVaultKeys makes two keys that the account may put its vault under, and
// the flags that say so: one in a file, and one whose server loses it as soon as
// the vault has moved there.
func declareVaultKeys(t *testing.T) (lasting, doomed string, flags []string) {
	t.Helper()
	lasting = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000001"
	doomed = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000002"
	file := filepath.Join(t.TempDir(), "vault-key")
	if err := seal.CreateFileKey(file); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&forgetful{wrapped: map[string]string{}})
	t.Cleanup(server.Close)
	return lasting, doomed, []string{"--kms-key", lasting + "=file:" + file, "--kms-key", doomed + "=transit:" + server.URL + "#doomed"}
}

// forgetful is the transit engine of OpenBao with a key that is deleted once it
// has given back a data key.
type forgetful struct {
	mu      sync.Mutex
	wrapped map[string]string
	gone    bool
}

func (f *forgetful) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var asked struct{ Plaintext, Ciphertext string }
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		http.Error(w, "{}", http.StatusBadRequest)
		return
	}
	answer := map[string]string{}
	switch {
	case f.gone:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"errors":["encryption key not found"]}`)
		return
	case strings.HasSuffix(r.URL.Path, "/encrypt/doomed"):
		answer["ciphertext"] = "vault:v1:" + rand.Text()
		f.wrapped[answer["ciphertext"]] = asked.Plaintext
	default:
		answer["plaintext"], f.gone = f.wrapped[asked.Ciphertext], true
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"data": answer})
}
