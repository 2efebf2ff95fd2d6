package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"

	"github.com/onbehalf/onbehalf/internal/server"
)

// settingsFile gives kong the values of the YAML file. A setting on the command
// line or in the environment wins; an unknown key is refused with its line, so
// that a misspelt security setting is not silently off.
func settingsFile() kong.Resolver {
	var loaded map[string]any
	return kong.ResolverFunc(func(context *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
		path := configFile(context)
		if path == "" || flag.Name == "config" || parent.Node() == nil || parent.Node().Name != "serve" {
			return nil, nil
		}
		for _, name := range flag.Envs {
			if _, set := os.LookupEnv(name); set {
				return nil, nil
			}
		}
		if loaded == nil {
			content, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("--config: %w", err)
			}
			var strict server.Config
			if err := yaml.NewDecoder(bytes.NewReader(content), yaml.Strict()).Decode(&strict); err != nil && !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("--config %s: %s", path, yaml.FormatError(err, false, true))
			}
			loaded = map[string]any{}
			if err := yaml.Unmarshal(content, &loaded); err != nil {
				return nil, fmt.Errorf("--config %s: %w", path, err)
			}
		}
		value, ok := loaded[flag.Name]
		if !ok {
			return nil, nil
		}
		if list, isList := value.([]any); isList {
			return joinList(list, flag.Tag.Sep), nil
		}
		return fmt.Sprint(value), nil
	})
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

func joinList(list []any, separator rune) string {
	parts := make([]string, len(list))
	for i, item := range list {
		parts[i] = fmt.Sprint(item)
	}
	return strings.Join(parts, string(separator))
}
