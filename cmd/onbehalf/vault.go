package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/onbehalf/onbehalf/internal/server"
)

type vaultCmd struct {
	Status    vaultStatusCmd    `cmd:"" help:"Show which key each account's vault is under." example:"onbehalf vault status"`
	Rotate    vaultRotateCmd    `cmd:"" help:"Make new data keys and seal every row anew."`
	Rewrap    vaultRewrapCmd    `cmd:"" help:"Put the stopped platform under another key-encryption key."`
	CreateKey vaultCreateKeyCmd `cmd:"" help:"Make a key-encryption key in a file, for --key-file or --kms-key." example:"onbehalf vault create-key team-key"`
}

type vaultStatusCmd struct{ installation }

// Run shows the vaults of one account, or of all.
func (c vaultStatusCmd) Run(ctx context.Context, t *terminal) error {
	return c.open(ctx, t, func(o *server.Operator) error {
		states, err := o.Vaults(ctx, c.Account)
		if err != nil {
			return err
		}
		type state struct {
			Account  string     `json:"account"`
			Key      string     `json:"key"`
			Wrapper  string     `json:"wrapper"`
			DataKeys int        `json:"dataKeys"`
			Newest   time.Time  `json:"newestDataKey"`
			Rotating bool       `json:"rotating"`
			Rotated  *time.Time `json:"rotated,omitempty"`
			Failed   int64      `json:"failed,omitempty"`
		}
		list, rows := []state{}, [][]string{}
		for _, s := range states {
			shown := state{Account: s.Account, Key: s.ARN, Wrapper: s.Wrapper, DataKeys: s.DataKeys, Newest: s.Newest, Failed: s.Rotation.Failed}
			if shown.Key == "" {
				shown.Key = "the platform's own"
			}
			rotated := "never"
			switch r := s.Rotation; {
			case r.Begun.IsZero():
			case r.Finished.IsZero():
				shown.Rotating, rotated = true, fmt.Sprintf("under way, %d of %d rows", r.Done, r.Total)
			default:
				shown.Rotated, rotated = &r.Finished, when(r.Finished)
			}
			list = append(list, shown)
			rows = append(rows, []string{s.Account, shown.Key, s.Wrapper, strconv.Itoa(s.DataKeys), when(s.Newest), rotated})
		}
		return c.show(t, list, []string{"ACCOUNT", "KEY", "WRAPPED BY", "DATA KEYS", "NEWEST MADE", "ROTATED"}, rows)
	})
}

type vaultRotateCmd struct {
	installation
}

// Help is shown below the flags.
func (vaultRotateCmd) Help() string {
	return `Every secret of the account, or of all accounts without --account, is sealed
anew with a new data key, in short transactions, while the platform goes on
answering. It may be interrupted at any moment; run again, it goes on where it
was. Old data keys are destroyed once nothing is sealed with them. With
--output json, progress is one JSON object a line.
Examples:
  onbehalf vault rotate
  onbehalf vault rotate --account 111111111111 --output json`
}

// Run rotates one account's vault, or all.
func (c vaultRotateCmd) Run(ctx context.Context, t *terminal) error {
	return c.open(ctx, t, func(o *server.Operator) error {
		states, err := o.Vaults(ctx, c.Account)
		if err != nil {
			return err
		}
		if len(states) == 0 {
			return fmt.Errorf("there is no account %s", c.Account)
		}
		failed := int64(0)
		for _, s := range states {
			p := progress{t: t, json: c.Output == "json", began: time.Now(), Account: s.Account}
			done, err := o.RotateVault(ctx, s.Account, p.follow)
			if errors.Is(err, context.Canceled) {
				return hinted{errors.New("interrupted; nothing is lost"), "onbehalf vault rotate goes on where it was"}
			}
			if err != nil {
				return err
			}
			if err := p.end(done); err != nil {
				return err
			}
			failed += done.Rotation.Failed
		}
		if failed > 0 {
			return hinted{fmt.Errorf("%d values do not open and were left as they are; their old data keys are kept", failed), "the log above names their rows; restore them from a backup, or delete them"}
		}
		return nil
	})
}

// progress is what is shown of a rotation.
type progress struct {
	t     *terminal
	json  bool
	began time.Time
	from  int64 // rows that were done before we looked
	begun bool
	shown time.Time

	Account       string  `json:"account"`
	Rows          int64   `json:"rows"`
	Total         int64   `json:"total"`
	RowsPerSecond float64 `json:"rowsPerSecond"`
	SecondsLeft   float64 `json:"secondsLeft,omitempty"`
	Failed        int64   `json:"failed,omitempty"`
	Resumed       bool    `json:"resumed,omitempty"`
	Destroyed     int     `json:"destroyedDataKeys,omitempty"`
	Finished      bool    `json:"finished"`
}

func (p *progress) follow(r server.Rotation) {
	if !p.begun {
		p.begun, p.from, p.began = true, r.Done, time.Now()
	}
	p.set(r)
	if !r.Finished.IsZero() || r.Total == 0 || time.Since(p.shown) < time.Second {
		return
	}
	p.shown = time.Now()
	if p.json {
		_ = json.NewEncoder(p.t.out).Encode(p)
		return
	}
	left := "…"
	if p.SecondsLeft > 0 {
		left = (time.Duration(p.SecondsLeft) * time.Second).String() + " left"
	}
	fmt.Fprintf(p.t.err, "%s: %d of %d rows, %.0f/s, %s\n", p.Account, p.Rows, p.Total, p.RowsPerSecond, left)
}

func (p *progress) set(r server.Rotation) {
	p.Rows, p.Total, p.Failed = r.Done, r.Total, r.Failed
	p.RowsPerSecond, p.SecondsLeft = 0, 0
	if seconds := time.Since(p.began).Seconds(); seconds > 0 {
		p.RowsPerSecond = math.Round(float64(p.Rows-p.from) / seconds)
	}
	if p.RowsPerSecond > 0 && p.Total > p.Rows {
		p.SecondsLeft = math.Ceil(float64(p.Total-p.Rows) / p.RowsPerSecond)
	}
}

func (p *progress) end(done server.Rotated) error {
	p.set(done.Rotation)
	p.Finished, p.Resumed, p.Destroyed = true, done.Resumed, done.Destroyed
	if p.json {
		return json.NewEncoder(p.t.out).Encode(p)
	}
	keys := "the server destroys the old data keys within half an hour"
	if done.Destroyed > 0 {
		keys = fmt.Sprintf("%d old data keys destroyed", done.Destroyed)
	}
	if done.Rotation.Failed > 0 {
		keys = "the old data keys are kept"
	}
	_, err := fmt.Fprintf(p.t.out, "%s: %d rows sealed anew; %s\n", p.Account, p.Rows, keys)
	return err
}
