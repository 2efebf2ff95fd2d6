package sigv4

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadProfile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "credentials")
	const content = "# keys\n[default]\naws_access_key_id = AKIDDEFAULT\naws_secret_access_key = canary-one\n\n[ temporary ]\naws_access_key_id=ASIATEMP\nAWS_SECRET_ACCESS_KEY=canary=two\naws_session_token = canary-three\n; aws_session_token = old\n[half]\naws_access_key_id = AKIDHALF\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for profile, want := range map[string][3]string{
		"":          {"AKIDDEFAULT", "canary-one", ""},
		"default":   {"AKIDDEFAULT", "canary-one", ""},
		"temporary": {"ASIATEMP", "canary=two", "canary-three"},
	} {
		key, err := ReadProfile(path, profile)
		if err != nil || [3]string{key.AccessKeyID, key.Secret.Reveal(), key.SessionToken.Reveal()} != want {
			t.Errorf("%q: %s, %v", profile, key.AccessKeyID, err)
		}
	}
	for _, profile := range []string{"half", "nobody", "[default"} {
		if _, err := ReadProfile(path, profile); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", profile, err)
		}
	}
	if _, err := ReadProfile(path+"-not-there", ""); err == nil {
		t.Error("a missing file has keys")
	}
}
