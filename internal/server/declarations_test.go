package server

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestDeclarationInYAML(t *testing.T) {
	t.Parallel()
	as := func(value any) func(any) error {
		return func(into any) error {
			switch into := into.(type) {
			case *string:
				if text, ok := value.(string); ok {
					*into = text
					return nil
				}
			case *map[string]string:
				if parts, ok := value.(map[string]string); ok {
					*into = parts
					return nil
				}
			}
			return errors.New("not of this type")
		}
	}
	var d Declaration
	for want, value := range map[string]any{"name=a,kind=env": "name=a,kind=env", "kind=env,name=b,prefix=X_": map[string]string{"name": "b", "prefix": "X_", "kind": "env"}} {
		if err := d.UnmarshalYAML(as(value)); err != nil || string(d) != want {
			t.Errorf("got %q, %v", d, err)
		}
	}
	for _, value := range []any{7, []string{"a"}, map[string]string{"folder": "/a,account=111111111111"}, map[string]string{"folder": "/a;b"}} {
		if err := d.UnmarshalYAML(as(value)); err == nil {
			t.Errorf("%v became %q", value, d)
		}
	}
}

func TestDeclarationsAreChecked(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000001"
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{SecretSources: []Declaration{"name=env,kind=env,prefix=AGENT_"}, SigningKeys: []string{arn + "=file:/k.pem"}}, ""},
		{Config{SecretSources: []Declaration{"name=env,kind=env,prefix=ONBEHALF_"}}, "--secret-source"},
		{Config{SecretSources: []Declaration{"name=env,kind=env,prefix=A_,account=7"}}, "12-digit"},
		{Config{SigningKeys: []string{arn}}, "--signing-key"},
	} {
		err := c.config.WithDefaults().Check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	if _, _, err := (Config{Region: "us-east-1", SigningKeys: []string{arn + "=file:/not/there.pem"}}).openExternal(t.TempDir()); err == nil || !strings.Contains(err.Error(), arn) {
		t.Errorf("a key that is not there: %v", err)
	}
}

// Whatever file an operator's settings name is the platform's own.
func TestOwnFiles(t *testing.T) {
	t.Parallel()
	got := Config{
		Data: "/data", KeyFile: "/key", TLSKey: "/tls", SettingsFile: "/settings", KeyWrapper: "transit:https://bao#k,token-file=/token1",
		KMSKeys: []string{"arn:a=file:/kek", "arn:b=awskms:arn:c,credentials-file=/aws1,profile=x"}, SigningKeys: []string{"arn:d=file:/sign.pem", "arn:e=awskms:arn:f,credentials-file=/aws2"},
		SecretSources: []Declaration{"name=a,kind=vault,token-file=/token2", "kind=secretsmanager,credentials-file=/aws3,name=b"}, SignIns: []string{"https://idp.example=client,/sign-in-secret", "https://other.example=public"},
	}.ownFiles("/folder")
	for _, file := range []string{"/folder", "/data", "/key", "/tls", "/settings", "/token1", "/token2", "/kek", "/aws1", "/aws2", "/aws3", "/sign.pem", "/sign-in-secret"} {
		if !slices.Contains(got, file) {
			t.Errorf("%s may be named: %v", file, got)
		}
	}
}
