package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"

	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

const account = "000000000000"

func stop(t *testing.T, p *servertest.Platform) {
	t.Helper()
	if err := p.Server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func rotate(t *testing.T, s server.Storage) server.Rotated {
	t.Helper()
	o, err := server.OpenOperator(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	done, err := o.RotateVault(t.Context(), account, func(server.Rotation) {})
	if err != nil {
		t.Fatal(err)
	}
	states, err := o.Vaults(t.Context(), "")
	if err != nil || len(states) != 1 || states[0].Account != account || states[0].Rotation.Finished.IsZero() {
		t.Errorf("%+v, %v", states, err)
	}
	return done
}

// An operator rotates beside a running server, which does the work, and without one.
func TestRotatingAVault(t *testing.T) {
	p := servertest.Start(t)
	name, key := "model", "canary-api-key"
	if _, err := p.Control.CreateApiKeyCredentialProvider(t.Context(), &bedrockagentcorecontrol.CreateApiKeyCredentialProviderInput{Name: &name, ApiKey: &key}); err != nil {
		t.Fatal(err)
	}
	agent := "agent"
	if _, err := p.Control.CreateWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: &agent}); err != nil {
		t.Fatal(err)
	}
	storage := server.Storage{Data: p.Config.Data}
	check := func(when string) {
		t.Helper()
		token, err := p.Data.GetWorkloadAccessToken(t.Context(), &bedrockagentcore.GetWorkloadAccessTokenInput{WorkloadName: &agent})
		if err != nil {
			t.Fatalf("%s: %v", when, err) // the access key opens, too
		}
		got, err := p.Data.GetResourceApiKey(t.Context(), &bedrockagentcore.GetResourceApiKeyInput{WorkloadIdentityToken: token.WorkloadAccessToken, ResourceCredentialProviderName: &name})
		if err != nil || *got.ApiKey != key {
			t.Fatalf("%s: %v", when, err)
		}
	}
	check("before")
	if done := rotate(t, storage); done.Resumed || done.Destroyed != 0 || done.Rotation.Done != 2 || done.Rotation.Failed != 0 { // the root key, the API key
		t.Errorf("beside a server: %+v", done)
	}
	check("beside a server")
	stop(t, p)
	if done := rotate(t, storage); done.Destroyed != 4 || done.Rotation.Done != 2 {
		t.Errorf("without a server: %+v", done)
	}
	p.Restart(t)
	check("after a restart")
}

// Whatever is wrong with a key stops the start, and says what to do.
func TestStartsWithWrongKeys(t *testing.T) {
	p := servertest.Start(t)
	stop(t, p)
	original := filepath.Join(p.Config.Data, "key-encryption-key")
	kept, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	another := write("another", "onbehalf-key-1:"+strings.Repeat("A", 43)+"\n")
	const arn = "arn:aws:kms:us-east-1:000000000000:key/11111111-2222-3333-4444-555555555555"
	for name, test := range map[string]struct {
		change func(*server.Config)
		want   string
	}{
		"a missing file":              {func(c *server.Config) { c.KeyFile = filepath.Join(folder, "missing") }, "Put the key file back"},
		"another file":                {func(c *server.Config) { c.KeyFile = another }, "Put back the key that belongs to this database"},
		"a damaged file":              {func(c *server.Config) { c.KeyWrapper = "file:" + write("damaged", string(kept[:len(kept)-9])) }, "is damaged"},
		"transit that is not there":   {func(c *server.Config) { c.KeyWrapper = "transit:http://127.0.0.1:1#onbehalf" }, "was sealed with the key file:"},
		"KMS that is not there":       {func(c *server.Config) { c.KeyWrapper = "awskms:" + arn + "@http://127.0.0.1:1" }, "was sealed with the key file:"},
		"a declared file that is not": {func(c *server.Config) { c.KMSKeys = []string{arn + "=file:" + filepath.Join(folder, "missing")} }, "--kms-key " + arn},
		"a certificate that is not": {func(c *server.Config) {
			c.KeyWrapper = "transit:https://bao.example.com#k,ca-file=" + filepath.Join(folder, "missing")
		}, "The certificates"},
		"two names for one key": {func(c *server.Config) { c.KeyFile, c.KeyWrapper = another, "file:"+original }, "both name"},
	} {
		c := p.Config
		test.change(&c)
		s, err := server.Start(t.Context(), c, server.Logger(server.Config{LogLevel: "error"}.WithDefaults(), os.Stderr))
		if err == nil {
			_ = s.Close(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), string(kept[len(kept)-30:])) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if found, _ := os.ReadDir(folder); len(found) != 2 {
		t.Errorf("a start made a key: %v", found)
	}
	p.Restart(t)
}

// A first start whose key's server does not answer makes nothing that the next start would trip over.
func TestFirstStartWithoutItsKeyServer(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	c := server.Config{Data: data, Addr: "127.0.0.1:0", KeyWrapper: "transit:http://127.0.0.1:1#onbehalf"}
	log := server.Logger(server.Config{LogLevel: "error"}.WithDefaults(), os.Stderr)
	if _, err := server.Start(t.Context(), c, log); err == nil || !strings.Contains(err.Error(), "The server of the key transit:transit/onbehalf cannot be reached") {
		t.Fatalf("%v", err)
	}
	c.KeyWrapper = ""
	s, err := server.Start(t.Context(), c, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// The platform itself moves to another key while it is stopped, and to none while it runs.
func TestThePlatformsKeyIsChanged(t *testing.T) {
	p := servertest.Start(t)
	next := filepath.Join(t.TempDir(), "next")
	if err := server.CreateKeyFile(next); err != nil {
		t.Fatal(err)
	}
	rewrap := func(to string) (int, error) {
		o, err := server.OpenOperator(t.Context(), server.Storage{Data: p.Config.Data})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		return o.Rewrap(t.Context(), to, false)
	}
	if _, err := rewrap("file:" + next); err == nil || !strings.Contains(err.Error(), "is running") {
		t.Errorf("beside a server: %v", err)
	}
	stop(t, p)
	for _, to := range []string{"gone", "file:" + next + "x", "transit:http://127.0.0.1:1#onbehalf", "file:" + filepath.Join(p.Config.Data, "key-encryption-key")} {
		if _, err := rewrap(to); err == nil {
			t.Errorf("moved to %s", to)
		}
	}
	p.Restart(t)
	stop(t, p)
	if n, err := rewrap("file:" + next); err != nil || n != 12 { // the account's and the platform's own
		t.Fatalf("%d, %v", n, err)
	}
	if _, err := server.Start(t.Context(), p.Config, server.Logger(server.Config{LogLevel: "error"}.WithDefaults(), os.Stderr)); err == nil || !strings.Contains(err.Error(), "Put back the key") {
		t.Errorf("started with the old key: %v", err)
	}
	p.Config.KeyWrapper = "file:" + next
	p.Restart(t)
	if _, err := p.Control.ListWorkloadIdentities(t.Context(), &bedrockagentcorecontrol.ListWorkloadIdentitiesInput{}); err != nil {
		t.Errorf("the root key after the move: %v", err)
	}
}
