package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// signingKeyARN is what the clients' steps call the key of declareSecrets.
const signingKeyARN = "arn:aws:kms:us-east-1:000000000000:key/5a5a5a5a-0000-0000-0000-00000000000e"

// declareSecrets makes a folder of secrets and a client's key, and the flags that declare them.
func declareSecrets(t testing.TB, clientSecret string) []string {
	t.Helper()
	folder := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pemFile := filepath.Join(folder, "client.pem")
	if err := errors.Join(
		os.WriteFile(filepath.Join(folder, "weather.json"), []byte(`{"key":"key that lies elsewhere","number":7}`), 0o600),
		os.WriteFile(filepath.Join(folder, "people.json"), []byte(`{"clientSecret":"`+clientSecret+`"}`), 0o600),
		os.WriteFile(pemFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	return []string{"--secret-source", "name=files,kind=file,folder=" + folder, "--signing-key", signingKeyARN + "=file:" + pemFile}
}
