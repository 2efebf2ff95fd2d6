package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/onbehalf/onbehalf/internal/server"
)

// installation is what the commands for operators have in common: they work on
// the data folder or database, beside a running server or without one.
type installation struct {
	server.Storage
	Account string `name:"account" env:"ONBEHALF_ACCOUNT" placeholder:"ID" help:"12-digit account. Default: the only one, or 000000000000."`
	Output  string `name:"output" enum:"table,json" default:"table" help:"table or json."`
}

// open opens the installation for fn. Log lines below warnings stay out of the terminal.
func (i installation) open(ctx context.Context, t *terminal, fn func(*server.Operator) error) error {
	slog.SetDefault(server.Logger(server.Config{LogLevel: "warn"}.WithDefaults(), t.err))
	o, err := server.OpenOperator(ctx, i.Storage)
	var missing *server.NoInstallationError
	if errors.As(err, &missing) {
		return hinted{err, "start the platform first: onbehalf serve; or name its folder with --data, or its database with --database-url"}
	}
	if err != nil {
		return err
	}
	return errors.Join(fn(o), o.Close())
}

// inAccount is open with the account that the command means.
func (i installation) inAccount(ctx context.Context, t *terminal, fn func(o *server.Operator, account string) error) error {
	return i.open(ctx, t, func(o *server.Operator) error {
		account, err := o.Account(ctx, i.Account)
		if err != nil {
			return err
		}
		return fn(o, account)
	})
}

// show prints value as JSON, or rows as a table under their heads.
func (i installation) show(t *terminal, value any, heads []string, rows [][]string) error {
	if i.Output == "json" {
		encoder := json.NewEncoder(t.out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(value)
	}
	table := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(heads, "\t"))
	for _, row := range rows {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	return table.Flush()
}

// done says in a word what happened, where no JSON was asked for.
func (i installation) done(t *terminal, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if i.Output == "json" {
		return json.NewEncoder(t.out).Encode(map[string]string{"status": text})
	}
	_, err := fmt.Fprintln(t.out, text)
	return err
}

// newKey is an access key as it is shown, once. The names are those of AWS's
// credential_process, so that its output can be used as such.
type newKey struct {
	Version         int        `json:"Version"`
	AccessKeyID     string     `json:"AccessKeyId"`
	SecretAccessKey string     `json:"SecretAccessKey"`
	SessionToken    string     `json:"SessionToken,omitempty"`
	Expiration      *time.Time `json:"Expiration,omitempty"`
}

func (i installation) showKey(t *terminal, key newKey) error {
	key.Version = 1
	if i.Output == "json" {
		return json.NewEncoder(t.out).Encode(key)
	}
	lines := "aws_access_key_id = " + key.AccessKeyID + "\naws_secret_access_key = " + key.SecretAccessKey + "\n"
	if key.SessionToken != "" {
		lines += "aws_session_token = " + key.SessionToken + "\n"
	}
	_, err := io.WriteString(t.out, lines)
	fmt.Fprintln(t.err, "The secret is shown now and never again.")
	return err
}

// document reads a policy: from a file, or from standard input for "-".
func document(t *terminal, path string) (string, error) {
	var content []byte
	var err error
	if path == "-" {
		content, err = io.ReadAll(io.LimitReader(t.in, 1<<20))
	} else {
		content, err = os.ReadFile(path)
	}
	return string(content), err
}

// when is a time in a table.
func when(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.UTC().Format("2006-01-02 15:04:05Z")
}
