package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"

	"github.com/onbehalf/onbehalf/internal/server"
)

// settingsError is a complaint about the file that --config names.
type settingsError struct{ error }

// settingsFile gives kong the values of the YAML file. A setting on the command
// line or in the environment wins; an unknown key is refused with its line, so
// that a misspelt security setting is not silently off.
func settingsFile() kong.Resolver {
	var loaded map[string]reflect.Value
	return kong.ResolverFunc(func(context *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
		path := configFile(context)
		if path == "" || len(flag.Envs) == 0 || flag.Name == "config" { // every setting has a variable
			return nil, nil
		}
		if loaded == nil {
			var err error
			if loaded, err = readSettings(path); err != nil {
				return nil, &settingsError{fmt.Errorf("--config %s: %w", path, err)}
			}
		}
		for _, name := range flag.Envs {
			if _, set := os.LookupEnv(name); set {
				return nil, nil
			}
		}
		value, ok := loaded[flag.Name]
		if !ok {
			return nil, nil
		}
		if hidden, isSecret := value.Interface().(interface{ Reveal() string }); isSecret {
			return hidden.Reveal(), nil
		}
		if value.Kind() == reflect.Slice {
			list := make([]string, value.Len())
			for i := range list {
				list[i] = value.Index(i).String()
			}
			return strings.Join(list, string(flag.Tag.Sep)), nil
		}
		return fmt.Sprint(value.Interface()), nil
	})
}

// quotedSecret is where an error that quotes the file would quote a password.
var quotedSecret = regexp.MustCompile(`(?i)(postgres(?:ql)?://|database-url["']?\s*:\s*)\S+`)

// readSettings reads the file's settings, by the names of their flags. A setting
// that is empty or false is as good as one that is not there.
func readSettings(path string) (map[string]reflect.Value, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, errors.Unwrap(err) // the path is said already
	}
	var config server.Config
	if err := yaml.NewDecoder(bytes.NewReader(content), yaml.Strict()).Decode(&config); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New(quotedSecret.ReplaceAllString(yaml.FormatError(err, false, true), "$1[redacted]"))
	}
	settings := map[string]reflect.Value{}
	fields := reflect.ValueOf(config)
	for i := range fields.NumField() {
		if name := fields.Type().Field(i).Tag.Get("name"); name != "" && !fields.Field(i).IsZero() {
			settings[name] = fields.Field(i)
		}
	}
	return settings, nil
}

// configFile is the value of --config, which kong has parsed but not yet applied when it resolves the others.
func configFile(context *kong.Context) string {
	for _, flag := range context.Model.Flags {
		if flag.Name == "config" {
			path, _ := context.FlagValue(flag).(string)
			return path
		}
	}
	return ""
}
