package server

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/secret"
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

// Whatever file an operator's settings name is the platform's own, and whatever
// variable holds what opens its keys.
func TestOwnFiles(t *testing.T) {
	t.Setenv("PGSSLKEY", "/pg-key")
	const arn, key = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-00000000000", "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000001"
	files, variables, err := Config{
		Account: DefaultAccount, Data: "/data", TLSKey: "/tls", SettingsFile: "/settings", KeyWrapper: "transit:https://bao#k,token-file=/token1", WebhookSecretFile: "/webhook",
		DatabaseURL: secret.New("postgres://onbehalf@db/onbehalf?passfile=/passwords&sslkey=/db-key"),
		KMSKeys:     []string{arn + "1=file:/kek", arn + "2=awskms:" + key + ",credentials-file=/aws1,profile=x", arn + "3=transit:https://bao#k,token-env=BAO_AT_HOME", arn + "4=awskms:" + key + ",credentials-env=THEIRS"},
		SigningKeys: []string{arn + "5=file:/sign.pem", arn + "6=awskms:" + key + ",credentials-file=/aws2"},
		SecretSources: []Declaration{"name=a,kind=vault,address=https://bao,prefix=a, token-file = /token2",
			"kind=secretsmanager,region=us-east-1,aws-account=123456789012,prefix=a,credentials-file=/aws3,name=b"},
		SignIns: []string{"https://idp.example=client,/sign-in-secret", "https://other.example=public"},
	}.own("/folder")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"/folder", "/data", "/tls", "/settings", "/webhook", "/passwords", "/db-key", "/pg-key", "/token1", "/token2", "/kek", "/aws1", "/aws2", "/aws3", "/sign.pem", "/sign-in-secret"} {
		if !slices.Contains(files, file) {
			t.Errorf("%s may be named: %v", file, files)
		}
	}
	if want := []string{"BAO_AT_HOME", "THEIRS_ACCESS_KEY_ID", "THEIRS_SECRET_ACCESS_KEY", "THEIRS_SESSION_TOKEN"}; !slices.Equal(variables, want) {
		t.Errorf("got %v, want %v", variables, want)
	}
	if files, _, err := (Config{Account: DefaultAccount, Data: "/data", KeyFile: "/key"}).own("/folder"); err != nil || !slices.Contains(files, "/key") {
		t.Errorf("got %v, %v", files, err)
	}
}
