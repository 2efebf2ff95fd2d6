package server_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// A setting of an operator's command is serve's, under the same names, and reaches the configuration.
func TestStorageIsPartOfConfig(t *testing.T) {
	t.Parallel()
	storage, config := reflect.TypeFor[server.Storage](), reflect.TypeFor[server.Config]()
	for i := range storage.NumField() {
		ours := storage.Field(i)
		theirs, found := config.FieldByName(ours.Name)
		if !found || theirs.Type != ours.Type {
			t.Errorf("Config has no %s of the same type", ours.Name)
			continue
		}
		for _, key := range []string{"name", "yaml", "env", "type", "sep", "placeholder"} {
			if ours.Tag.Get(key) != theirs.Tag.Get(key) {
				t.Errorf("%s: %s is %q here and %q in Config", ours.Name, key, ours.Tag.Get(key), theirs.Tag.Get(key))
			}
		}
		given := reflect.New(storage).Elem()
		fill(given.Field(i))
		whole := given.Interface().(server.Storage).Config()
		if got := reflect.ValueOf(whole).FieldByName(ours.Name); !reflect.DeepEqual(got.Interface(), given.Field(i).Interface()) {
			t.Errorf("%s does not reach the Config", ours.Name)
		}
	}
}

func fill(field reflect.Value) {
	switch field.Kind() {
	case reflect.String:
		field.SetString("x")
	case reflect.Bool:
		field.SetBool(true)
	case reflect.Slice:
		field.Set(reflect.Append(field, reflect.ValueOf("x").Convert(field.Type().Elem())))
	default:
		field.Set(reflect.ValueOf(secret.New("x")))
	}
}

// The operator works beside a running platform, on either engine, and sees what it sees.
func TestOperatorBesideServer(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			var url secret.Text
			if engine == "postgres" {
				if os.Getenv(storetest.Variable) == "" {
					t.Skip(storetest.Variable + " is not set")
				}
				url = secret.New(storetest.Postgres(t))
			}
			p := servertest.Start(t, func(c *server.Config) { c.DatabaseURL = url })
			o, err := server.OpenOperator(t.Context(), server.Storage{Data: p.Config.Data, DatabaseURL: url})
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			key, err := o.CreateKey(t.Context(), server.DefaultAccount, "arn:aws:iam::000000000000:user/ada")
			if err != nil {
				t.Fatal(err)
			}
			if err := o.SetKey(t.Context(), key.ID, false); err != nil {
				t.Fatal(err)
			}
			_, file, err := o.ResetRoot(t.Context(), server.DefaultAccount)
			if err != nil || file != p.CredentialsFile() {
				t.Errorf("the root key that this replica made went to %q (%v)", file, err)
			}
		})
	}
}

// Beside PostgreSQL, whoever has the key but no data folder is the operator, too: nothing is made there.
func TestOperatorWithoutFolder(t *testing.T) {
	t.Parallel()
	if os.Getenv(storetest.Variable) == "" {
		t.Skip(storetest.Variable + " is not set")
	}
	url := secret.New(storetest.Postgres(t))
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	empty := server.Storage{Data: elsewhere, DatabaseURL: secret.New(storetest.Postgres(t))}
	p := servertest.Start(t, func(c *server.Config) { c.DatabaseURL = url })
	key := filepath.Join(p.Config.Data, "key-encryption-key")

	o, err := server.OpenOperator(t.Context(), server.Storage{Data: elsewhere, DatabaseURL: url, KeyFile: key})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	fresh, file, err := o.ResetRoot(t.Context(), server.DefaultAccount)
	if err != nil || file != "" || fresh.Secret.Empty() {
		t.Errorf("the root key went to %q (%v), and belongs to whoever asked", file, err)
	}
	if _, err := os.Stat(elsewhere); err == nil {
		t.Error("a data folder was made")
	}

	empty.KeyFile = key
	for name, wrong := range map[string]struct {
		storage server.Storage
		says    string
	}{
		"a database without an installation": {empty, "no platform was ever started"},
		"a key file that is not there":       {server.Storage{Data: elsewhere, DatabaseURL: url}, "no key-encryption-key"},
		"no database":                        {server.Storage{Data: p.Config.Data}, "set --database-url"},
		"another kind of database":           {server.Storage{Data: elsewhere, DatabaseURL: secret.New("mysql://u:hunter2@h/d")}, "does not begin with postgres"},
	} {
		if _, err := server.OpenOperator(t.Context(), wrong.storage); err == nil || !strings.Contains(err.Error(), wrong.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
