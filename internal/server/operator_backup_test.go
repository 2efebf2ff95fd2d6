package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"

	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const backedUpKey = "canary-api-key-in-a-backup"

// furnished is a platform with an API key, on one engine.
func furnished(t *testing.T, url secret.Text) *servertest.Platform {
	t.Helper()
	p := servertest.Start(t, func(c *server.Config) { c.DatabaseURL = url })
	name, key := "model", backedUpKey
	if _, err := p.Control.CreateApiKeyCredentialProvider(t.Context(), &bedrockagentcorecontrol.CreateApiKeyCredentialProviderInput{Name: &name, ApiKey: &key}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Control.CreateWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: &name}); err != nil {
		t.Fatal(err)
	}
	return p
}

func wantKey(t *testing.T, p *servertest.Platform) {
	t.Helper()
	name := "model"
	token, err := p.Data.GetWorkloadAccessToken(t.Context(), &bedrockagentcore.GetWorkloadAccessTokenInput{WorkloadName: &name})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Data.GetResourceApiKey(t.Context(), &bedrockagentcore.GetResourceApiKeyInput{WorkloadIdentityToken: token.WorkloadAccessToken, ResourceCredentialProviderName: &name})
	if err != nil || *got.ApiKey != backedUpKey {
		t.Errorf("the API key after a restore: %v", err)
	}
}

// damageTheKey makes the API key be sealed for another version than its row's.
func damageTheKey(t *testing.T, p *servertest.Platform) {
	t.Helper()
	if n := p.Tamper(t, "UPDATE api_key_providers SET version = version + 1"); n != 1 {
		t.Fatalf("%d rows", n)
	}
}

func backup(t *testing.T, s server.Storage) (string, server.BackedUp) {
	t.Helper()
	o, err := server.OpenOperator(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	path := filepath.Join(t.TempDir(), "onbehalf.backup")
	done, err := o.Backup(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Backup(t.Context(), path); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("overwrote a backup: %v", err)
	}
	return path, done
}

func databases(t *testing.T, fn func(t *testing.T, url func() secret.Text)) {
	t.Run("sqlite", func(t *testing.T) { fn(t, func() secret.Text { return secret.Text{} }) })
	t.Run("postgres", func(t *testing.T) {
		if os.Getenv(storetest.Variable) == "" {
			t.Skip(storetest.Variable + " is not set")
		}
		fn(t, func() secret.Text { return secret.New(storetest.Postgres(t)) })
	})
}

// newFolder is a data folder with nothing but a copy of another's key.
func newFolder(t *testing.T, from string) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	key, err := os.ReadFile(filepath.Join(from, "key-encryption-key"))
	if err == nil {
		err = errors.Join(os.Mkdir(data, 0o700), os.WriteFile(filepath.Join(data, "key-encryption-key"), key, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A whole installation moves, from each engine to each, while its server runs.
func TestAnInstallationMoves(t *testing.T) {
	databases(t, func(t *testing.T, url func() secret.Text) {
		from := url()
		source := furnished(t, from)
		path, done := backup(t, server.Storage{Data: source.Config.Data, DatabaseURL: from})
		content, err := os.ReadFile(path)
		if err != nil || int64(len(content)) != done.Bytes || done.Rows == 0 || len(done.Keep) != 1 || !strings.Contains(done.Keep[0], "key-encryption-key") {
			t.Fatalf("%+v, %v", done, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the backup's mode is %v", info.Mode())
		}
		root, err := os.ReadFile(source.CredentialsFile())
		if err != nil {
			t.Fatal(err)
		}
		_, rootSecret, _ := strings.Cut(strings.TrimSpace(string(root)), "aws_secret_access_key = ")
		keyFile, err := os.ReadFile(filepath.Join(source.Config.Data, "key-encryption-key"))
		if err != nil {
			t.Fatal(err)
		}
		for _, clear := range []string{backedUpKey, rootSecret, string(keyFile[len(keyFile)-40:])} {
			if len(clear) < 10 || bytes.Contains(content, []byte(clear)) {
				t.Errorf("the backup has a secret in clear")
			}
		}
		databases(t, func(t *testing.T, url func() secret.Text) {
			to := url()
			data := newFolder(t, source.Config.Data)
			storage := server.Storage{Data: data, DatabaseURL: to}
			restored, err := server.Restore(t.Context(), storage, path, false)
			if err != nil || restored.Rows != done.Rows || restored.Values < 2 || len(restored.Lost) != 0 {
				t.Fatalf("%+v, %v", restored, err)
			}
			if _, err := server.Restore(t.Context(), storage, path, false); err == nil || !strings.Contains(err.Error(), "exist") && !strings.Contains(err.Error(), "not empty") {
				t.Errorf("restored twice: %v", err)
			}
			if err := os.WriteFile(filepath.Join(data, "credentials"), root, 0o600); err != nil {
				t.Fatal(err)
			}
			wantKey(t, servertest.Start(t, func(c *server.Config) { c.Data, c.DatabaseURL = data, to }))
		})
	})
}

// Whatever is wrong with a backup, its key or its place, nothing is restored.
func TestBackupsThatAreNotRestored(t *testing.T) {
	source := furnished(t, secret.Text{})
	path, _ := backup(t, server.Storage{Data: source.Config.Data})
	stop(t, source)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	altered := bytes.Clone(good)
	altered[bytes.LastIndex(altered, []byte("model"))] = 'M'
	rotated := good[:len(good)-32]
	for name, content := range map[string][]byte{
		"altered":       altered,
		"another MAC":   append(bytes.Clone(rotated), make([]byte, 32)...),
		"without a MAC": rotated,
		"longer":        append(bytes.Clone(good), 0),
		"cut":           good[:len(good)/2],
		"empty":         nil,
	} {
		file := filepath.Join(t.TempDir(), "bad.backup")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		data := newFolder(t, source.Config.Data)
		if _, err := server.Restore(t.Context(), server.Storage{Data: data}, file, false); err == nil {
			t.Errorf("%s: restored", name)
		}
		wantOnly(t, data, "key-encryption-key", "lock")
	}
	refuse := func(name string, storage server.Storage, want string) {
		t.Helper()
		if _, err := server.Restore(t.Context(), storage, path, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	data := newFolder(t, source.Config.Data)
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("onbehalf-key-1:"+strings.Repeat("A", 43)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse("another key", server.Storage{Data: data, KeyFile: other}, "was wrapped with the key file:")
	refuse("no key", server.Storage{Data: data, KeyFile: other + "x"}, "is missing")
	wantOnly(t, data, "key-encryption-key", "lock")
	if err := os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), filepath.Join(data, "onbehalf.db")); err != nil {
		t.Fatal(err)
	}
	refuse("a link where the database goes", server.Storage{Data: data}, "exists")
	refuse("over its own installation", server.Storage{Data: source.Config.Data}, "exists")
	source.Restart(t)
	refuse("beside a server", server.Storage{Data: source.Config.Data}, "another onbehalf is running")
	wantKey(t, source)
}

// One value that does not open must not make every later backup worthless: the
// rest is restored for who says so.
func TestABackupOfADamagedInstallation(t *testing.T) {
	source := furnished(t, secret.Text{})
	stop(t, source)
	damageTheKey(t, source)
	path, done := backup(t, server.Storage{Data: source.Config.Data})
	data := newFolder(t, source.Config.Data)
	if _, err := server.Restore(t.Context(), server.Storage{Data: data}, path, false); err == nil || !strings.Contains(err.Error(), "api_key_providers.api_key of row ") {
		t.Fatalf("restored, or refused for another reason: %v", err)
	}
	wantOnly(t, data, "key-encryption-key", "lock")
	restored, err := server.Restore(t.Context(), server.Storage{Data: data}, path, true)
	if err != nil || restored.Rows != done.Rows || len(restored.Damage) != 1 || !strings.Contains(restored.Damage[0], "api_key_providers.api_key of row ") {
		t.Fatalf("%+v, %v", restored, err)
	}
	root, err := os.ReadFile(source.CredentialsFile())
	if err == nil {
		err = os.WriteFile(filepath.Join(data, "credentials"), root, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := servertest.Start(t, func(c *server.Config) { c.Data = data })
	if _, err := p.Control.ListWorkloadIdentities(t.Context(), &bedrockagentcorecontrol.ListWorkloadIdentitiesInput{}); err != nil {
		t.Error(err)
	}
}

func wantOnly(t *testing.T, folder string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		found = append(found, e.Name())
	}
	for _, name := range found {
		if !strings.Contains(strings.Join(names, " "), name) {
			t.Errorf("%s was left behind: %v", name, found)
		}
	}
}

// A restore that is killed leaves no database, or the whole one.
func TestKilledWhileRestoring(t *testing.T) {
	if data := os.Getenv("ONBEHALF_TEST_RESTORE"); data != "" {
		fmt.Println("begun")
		if _, err := server.Restore(t.Context(), server.Storage{Data: data}, os.Getenv("ONBEHALF_TEST_BACKUP"), false); err != nil {
			t.Fatal(err)
		}
		return
	}
	source := furnished(t, secret.Text{})
	path, _ := backup(t, server.Storage{Data: source.Config.Data})
	stop(t, source)
	data := newFolder(t, source.Config.Data)
	complete := 0
	for range 12 {
		child := exec.Command(os.Args[0], "-test.run=^TestKilledWhileRestoring$")
		child.Env = append(os.Environ(), "ONBEHALF_TEST_RESTORE="+data, "ONBEHALF_TEST_BACKUP="+path)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(150 * time.Millisecond)) // the point of the kill: what the test is about
		_ = child.Process.Kill()
		_ = child.Wait()
		if _, err := os.Lstat(filepath.Join(data, "onbehalf.db")); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		complete++
		o, err := server.OpenOperator(t.Context(), server.Storage{Data: data})
		if err != nil {
			t.Fatal(err)
		}
		if states, err := o.Vaults(t.Context(), ""); err != nil || len(states) != 1 {
			t.Errorf("%+v, %v", states, err)
		}
		if err := errors.Join(o.Close(), os.Remove(filepath.Join(data, "onbehalf.db"))); err != nil {
			t.Fatal(err)
		}
		for _, suffix := range []string{"-wal", "-shm"} {
			_ = os.Remove(filepath.Join(data, "onbehalf.db"+suffix))
		}
	}
	t.Logf("%d of 12 were complete", complete)
	if _, err := server.Restore(t.Context(), server.Storage{Data: data}, path, false); err != nil {
		t.Fatal(err)
	}
	wantOnly(t, data, "key-encryption-key", "lock", "onbehalf.db", "onbehalf.db-wal", "onbehalf.db-shm")
}
