package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the README says the program says, it says; and each flag and variable is explained.
func TestREADME(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(content)
	var sources strings.Builder
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sources.Write(source)
	}
	_, table, _ := strings.Cut(readme, "| it says |")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")[2:]
	if len(rows) < 15 {
		t.Errorf("only %d rows", len(rows))
	}
	kinds := map[string]bool{}
	for _, row := range rows {
		cells := strings.Split(row, "|")
		for _, message := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			if said := strings.Replace(message[1], "9090", "%d", 1); !strings.Contains(sources.String(), strings.TrimSuffix(said, ": cancelled")) {
				t.Errorf("it never says %q", message[1])
			}
		}
		kinds[strings.TrimSpace(cells[2])] = true
	}
	for _, kind := range []string{"CredentialsError", "ConfigurationError", "OAuthError", "GatewayError", "IdentityError"} {
		if !kinds[kind] {
			t.Errorf("no row for a %s", kind)
		}
	}
	var help bytes.Buffer
	run(t.Context(), process{args: []string{"-h"}, lookup: func(string) (string, bool) { return "", false }, out: &help, err: &help})
	for _, flag := range regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllStringSubmatch(help.String(), -1) {
		if !strings.Contains(readme, "`--"+flag[1]+"`") {
			t.Errorf("--%s is not explained", flag[1])
		}
	}
	for _, variable := range regexp.MustCompile(`value\("([A-Z_]+)"\)`).FindAllStringSubmatch(sources.String(), -1) {
		if !strings.Contains(readme, "`"+variable[1]+"`") {
			t.Errorf("%s is not explained", variable[1])
		}
	}
}
