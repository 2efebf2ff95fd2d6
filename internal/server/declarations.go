package server

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/onbehalf/onbehalf/internal/external"
)

// Declaration is a setting of several parts: name=VALUE,name=VALUE on the command
// line and in the environment; in the YAML file the same, or a map of its parts.
type Declaration string

// UnmarshalYAML takes both forms.
func (d *Declaration) UnmarshalYAML(decode func(any) error) error {
	var text string
	if decode(&text) == nil {
		*d = Declaration(text)
		return nil
	}
	var parts map[string]string
	if err := decode(&parts); err != nil {
		return errors.New("must be name=VALUE,name=VALUE or a map of names and texts; numbers need quotes")
	}
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if strings.ContainsAny(parts[name], ",;") {
			return fmt.Errorf("%s must have no comma and no semicolon", name)
		}
		pairs = append(pairs, name+"="+parts[name])
	}
	*d = Declaration(strings.Join(pairs, ","))
	return nil
}

// secretSources reads --secret-source.
func (c Config) secretSources() ([]external.Source, error) {
	var sources []external.Source
	for _, text := range c.SecretSources {
		source, err := external.ParseSource(string(text), c.Account)
		if err != nil {
			return nil, fmt.Errorf("--secret-source %q: %w", text, err)
		}
		sources = append(sources, source)
	}
	return sources, nil
}

// signingKeys reads --signing-key.
func (c Config) signingKeys() ([]external.SigningKey, error) {
	var keys []external.SigningKey
	for _, text := range c.SigningKeys {
		key, err := external.ParseSigningKey(text)
		if err != nil {
			return nil, fmt.Errorf("--signing-key %q: %w", text, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// openExternal opens what lies elsewhere. Folder is the data folder.
func (c Config) openExternal(folder string) (*external.Secrets, *external.Keys, error) {
	sources, err := c.secretSources()
	if err != nil {
		return nil, nil, err
	}
	declared, err := c.signingKeys()
	if err != nil {
		return nil, nil, err
	}
	files, variables, err := c.own(folder)
	if err != nil {
		return nil, nil, err
	}
	secrets, err := external.New(sources, external.Options{Region: c.Region, Protected: files, Variables: variables})
	if err != nil {
		return nil, nil, err
	}
	keys, err := external.NewKeys(declared, secrets)
	return secrets, keys, err
}

// own are the platform's files and variables, apart from those that begin as its
// own do: no tenant's reference opens one, wherever it lies.
func (c Config) own(folder string) (files, variables []string, err error) {
	sources, err := c.secretSources()
	if err != nil {
		return nil, nil, err
	}
	signing, err := c.signingKeys()
	if err != nil {
		return nil, nil, err
	}
	wrapped, err := c.keys()
	if err != nil {
		return nil, nil, err
	}
	files = append([]string{folder, c.Data, c.KeyFile, c.TLSKey, c.SettingsFile, c.WebhookSecretFile}, c.databaseFiles()...)
	if home, err := os.UserHomeDir(); err == nil {
		files = append(files, filepath.Join(home, ".pgpass"), filepath.Join(home, ".aws"))
	}
	for _, client := range c.SignIns {
		if _, file, found := strings.Cut(client, ","); found {
			files = append(files, file)
		}
	}
	for _, s := range sources {
		files = append(files, s.Files()...)
	}
	for _, k := range signing {
		files = append(files, k.Files()...)
	}
	files, variables = append(files, wrapped.platform.Files()...), wrapped.platform.Variables()
	for _, k := range wrapped.declared {
		files, variables = append(files, k.spec.Files()...), append(variables, k.spec.Variables()...)
	}
	return slices.DeleteFunc(files, func(file string) bool { return file == "" }), variables, nil
}

// databaseFiles are those with which the platform signs in at PostgreSQL.
func (c Config) databaseFiles() []string {
	files := []string{os.Getenv("PGPASSFILE"), os.Getenv("PGSERVICEFILE"), os.Getenv("PGSSLKEY")}
	if address, err := url.Parse(c.DatabaseURL.Reveal()); err == nil {
		for _, name := range []string{"passfile", "servicefile", "sslkey"} {
			files = append(files, address.Query().Get(name))
		}
	}
	return files
}
