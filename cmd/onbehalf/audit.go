package main

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/server"
)

type auditCmd struct {
	List   auditListCmd   `cmd:"" help:"List records, newest first." example:"onbehalf audit list --user ada --since 24h\nonbehalf audit list --outcome deny --limit 20 --output json\nonbehalf audit list --follow"`
	Verify auditVerifyCmd `cmd:"" help:"Prove that no record was changed, added or taken out." example:"onbehalf audit verify\nonbehalf audit verify --log onbehalf.log\nonbehalf audit verify --file audit.jsonl"`
	Export auditExportCmd `cmd:"" help:"Prove the records and write them to a file that can be verified on its own." example:"onbehalf audit export audit.jsonl"`
	Prune  auditPruneCmd  `cmd:"" help:"Remove old records; what is left still proves itself." example:"onbehalf audit prune --before 90d --export audit-until-today.jsonl"`
}

// Help is shown below the commands of audit.
func (auditCmd) Help() string {
	return `Examples:
  onbehalf audit list --user ada --since 24h
  onbehalf audit verify
  onbehalf audit export audit.jsonl
  onbehalf audit prune --before 90d --export audit-until-today.jsonl`
}

type auditListCmd struct {
	installation
	User      string        `name:"user" placeholder:"ID" help:"The person acted for: a user id, a subject, or as the list shows it."`
	Workload  string        `name:"workload" placeholder:"NAME" help:"Workload identity, by name or ARN."`
	Action    string        `name:"action" placeholder:"NAME" help:"As in GetResourceOauth2Token."`
	Principal string        `name:"principal" placeholder:"user/NAME" help:"Who called: user/NAME, role/NAME, root or an ARN."`
	Outcome   string        `name:"outcome" placeholder:"WORD" help:"ok, deny for all that was refused, or a kind of error as the list shows it."`
	Since     string        `name:"since" placeholder:"WHEN" help:"Not older than: 90m, 24h, 7d, or a time as 2026-11-22 or 2026-11-22T11:04:00Z."`
	Until     string        `name:"until" placeholder:"WHEN" help:"Older than."`
	Limit     int           `name:"limit" default:"50" help:"At most so many; 0 for all."`
	Follow    bool          `name:"follow" short:"f" help:"Go on with what is recorded from now on, oldest first, until interrupted."`
	Every     time.Duration `name:"every" hidden:"" default:"1s"`
}

// entry is a record as it is printed as JSON: its own members, and its place.
type entry struct {
	Time       time.Time         `json:"time"`
	Account    string            `json:"account"`
	Request    string            `json:"request,omitempty"`
	Kind       string            `json:"kind,omitempty"`
	Principal  string            `json:"principal,omitempty"`
	Key        string            `json:"key,omitempty"`
	Workload   string            `json:"workload,omitempty"`
	WorkloadID string            `json:"workloadId,omitempty"`
	User       string            `json:"user,omitempty"`
	Authorizer string            `json:"authorizer,omitempty"`
	Action     string            `json:"action"`
	Resources  []string          `json:"resources,omitempty"`
	Decision   string            `json:"decision"`
	Phase      string            `json:"phase"`
	Outcome    string            `json:"outcome,omitempty"`
	Detail     map[string]string `json:"detail,omitempty"`
	Address    string            `json:"address,omitempty"`
	Writer     string            `json:"writer"`
	Sequence   int64             `json:"sequence"`
}

func newEntry(e server.AuditEntry) entry {
	return entry{e.Time, e.Account, e.RequestID, e.PrincipalKind, e.Principal, e.KeyID, e.Workload, e.WorkloadID, e.User, e.Authorizer,
		e.Action, e.Resources, e.Decision, e.Phase, e.Outcome, e.Detail, e.Address, e.Writer, e.Sequence}
}

// Run lists records.
func (c auditListCmd) Run(ctx context.Context, t *terminal) error {
	since, err := whenOf("--since", c.Since)
	if err != nil {
		return err
	}
	until, err := whenOf("--until", c.Until)
	if err != nil {
		return err
	}
	if c.Follow && !until.IsZero() {
		return hinted{fmt.Errorf("--follow has no end, and --until is one"), "leave one of them out"}
	}
	run := func(o *server.Operator, account string) error {
		q := server.AuditQuery{Account: account, User: c.User, Workload: c.Workload, Action: c.Action, Principal: c.Principal, Outcome: c.Outcome, From: since, Until: until}
		if c.Follow {
			return c.follow(ctx, t, o, q)
		}
		return list(t, c.Output, columns("TIME", "ACTION", "OUTCOME", "PRINCIPAL", "USER~", "WORKLOAD", "DETAIL~"), row, "No record is like that.", entries(ctx, o, q, c.Limit))
	}
	if c.Account == server.AuditPlatform {
		return c.open(ctx, t, func(o *server.Operator) error { return run(o, c.Account) })
	}
	return c.inAccount(ctx, t, run)
}

// entries pages through what a query finds; none is a limit of 0.
func entries(ctx context.Context, o *server.Operator, q server.AuditQuery, limit int) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		left := limit
		for {
			q.Limit = 1000
			if limit > 0 {
				q.Limit = min(left, q.Limit)
			}
			page, next, err := o.AuditEntries(ctx, q)
			if err != nil {
				yield(entry{}, err)
				return
			}
			for _, e := range page {
				if !yield(newEntry(e), nil) {
					return
				}
			}
			left -= len(page)
			if q.Cursor = next; next == "" || limit > 0 && left <= 0 {
				return
			}
		}
	}
}

// row is a record in a table.
func row(e entry) []string {
	outcome := e.Outcome
	switch {
	case e.Phase == "intent":
		outcome = "begins"
	case e.Decision == "deny":
		outcome = "refused: " + e.Outcome
	}
	_, action, _ := strings.Cut(e.Action, ":")
	var detail []string
	for _, key := range slices.Sorted(maps.Keys(e.Detail)) {
		detail = append(detail, key+"="+e.Detail[key])
	}
	principal := e.Principal
	if at := strings.LastIndexByte(principal, ':'); strings.HasPrefix(principal, "arn:") {
		principal = principal[at+1:]
	}
	if principal == "" {
		principal = e.Kind
	}
	return []string{e.Time.Format("2006-01-02 15:04:05.000Z"), action, outcome, principal, e.User, e.Workload[strings.LastIndexByte(e.Workload, '/')+1:], strings.Join(detail, " ")}
}

// follow prints what a query finds from now on. It looks back a little each
// time: of two replicas' commits the earlier one may be seen later.
func (c auditListCmd) follow(ctx context.Context, t *terminal, o *server.Operator, q server.AuditQuery) error {
	const lookBack = 15 * time.Second
	if q.From.IsZero() {
		q.From = time.Now()
	}
	begin := q.From
	seen := map[string]bool{}
	for {
		var fresh []entry
		now := time.Now()
		again := map[string]bool{}
		for e, err := range entries(ctx, o, q, 0) {
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			key := e.Writer + "/" + strconv.FormatInt(e.Sequence, 10)
			if again[key] = true; !seen[key] {
				fresh = append(fresh, e)
			}
		}
		seen = again
		for _, e := range slices.Backward(fresh) {
			if err := c.printed(t, e); err != nil {
				return err
			}
		}
		if q.From = now.Add(-lookBack); q.From.Before(begin) {
			q.From = begin
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(c.Every):
		}
	}
}

func (c auditListCmd) printed(t *terminal, e entry) error {
	if c.Output == "json" {
		return json.NewEncoder(t.out).Encode(e)
	}
	cells := row(e)
	for i := range cells {
		cells[i] = plain(cells[i])
	}
	_, err := fmt.Fprintln(t.out, strings.Join(cells, "  "))
	return err
}

type auditVerifyCmd struct {
	installation
	Head      []string `name:"head" placeholder:"WRITER/SEQUENCE/MAC" help:"The end of a chain as the log, or an earlier verify, told it: nothing before it may be missing. Repeatable."`
	Log       []string `name:"log" type:"existingfile" placeholder:"FILE" help:"A log of serve, whose lines \"audit head\" are such heads; - reads standard input. Repeatable."`
	File      string   `name:"file" type:"existingfile" placeholder:"EXPORT" help:"Verify an export instead of the database."`
	PublicKey string   `name:"public-key" placeholder:"KEY" help:"With --file: the key that the export must be signed with. No installation is needed then."`
}

// Run proves the chains, or an export.
func (c auditVerifyCmd) Run(ctx context.Context, t *terminal) error {
	if c.File != "" {
		return c.file(ctx, t)
	}
	if c.PublicKey != "" {
		return hinted{fmt.Errorf("--public-key is for exports"), "name the export with --file"}
	}
	heads, err := c.heads(t)
	if err != nil {
		return err
	}
	return c.open(ctx, t, func(o *server.Operator) error {
		proof, key, err := o.VerifyAudit(ctx, heads)
		if err != nil {
			return err
		}
		if c.Output == "json" {
			return writeJSON(t.out, map[string]any{"records": proof.Records, "pruned": proof.Pruned, "headsCompared": len(heads), "heads": proof.Heads, "publicKey": key})
		}
		fmt.Fprintf(t.out, "whole: %d records in %d chains", proof.Records, len(proof.Heads))
		if proof.Pruned > 0 {
			fmt.Fprintf(t.out, "; %d more were pruned, and were whole then", proof.Pruned)
		}
		if len(heads) > 0 {
			fmt.Fprintf(t.out, "; %d heads compared", len(heads))
		}
		last := proof.Heads[len(proof.Heads)-1]
		_, err = fmt.Fprintf(t.out, "\nlatest head: %s/%d/%s\nexports are signed with: %s\n", last.Writer, last.Sequence, last.MAC, key)
		return err
	})
}

func (c auditVerifyCmd) file(ctx context.Context, t *terminal) error {
	in, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer in.Close()
	var end server.AuditExport
	if c.PublicKey != "" {
		end, err = server.CheckAuditExport(ctx, in, c.PublicKey)
	} else {
		err = c.open(ctx, t, func(o *server.Operator) (err error) {
			end, err = o.CheckAuditExport(ctx, in, "")
			return err
		})
	}
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return writeJSON(t.out, end)
	}
	_, err = fmt.Fprintf(t.out, "whole: %d records in %d chains\n", end.Records, len(end.Heads))
	return err
}

// heads are those of the command line and of the logs.
func (c auditVerifyCmd) heads(t *terminal) (heads []server.AuditHead, err error) {
	for _, text := range c.Head {
		head, ok := parseHead(strings.Split(text, "/"))
		if !ok {
			return nil, fmt.Errorf("--head %q is not WRITER/SEQUENCE/MAC", text)
		}
		heads = append(heads, head)
	}
	for _, path := range c.Log {
		found, err := loggedHeads(path, t.in)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("--log %s: it has no line \"audit head\"", path)
		}
		heads = append(heads, found...)
	}
	return heads, nil
}

type auditExportCmd struct {
	installation
	Path  string `arg:"" name:"file" help:"A new file, mode 0600; - for standard output. It has no secrets, but people's names."`
	Until string `name:"until" placeholder:"WHEN" help:"Only what was recorded before: 24h, 7d, or a time."`
}

// Run exports the records.
func (c auditExportCmd) Run(ctx context.Context, t *terminal) error {
	until, err := whenOf("--until", c.Until)
	if err != nil {
		return err
	}
	return c.open(ctx, t, func(o *server.Operator) error {
		end, err := exportTo(ctx, t, o, c.Path, until)
		if err != nil || c.Path == "-" {
			return err
		}
		return c.done(t, "%d records in %s, SHA-256 %s", end.Records, c.Path, end.SHA256)
	})
}

// exportTo writes an export that is there as a whole, on the disk, or not at all.
func exportTo(ctx context.Context, t *terminal, o *server.Operator, path string, until time.Time) (end server.AuditExport, err error) {
	if path == "-" {
		return o.ExportAudit(ctx, t.out, until)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if os.IsExist(err) {
		return end, hinted{fmt.Errorf("%s exists already", path), "an export never overwrites a file: choose another name"}
	}
	if err != nil {
		return end, err
	}
	end, err = o.ExportAudit(ctx, file, until)
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		_ = os.Remove(path)
	}
	return end, err
}

type auditPruneCmd struct {
	installation
	Before        string `name:"before" required:"" placeholder:"WHEN" help:"Remove what was recorded before: 90d, or a time as 2026-01-01. Nothing younger than an hour goes."`
	Export        string `name:"export" placeholder:"FILE" xor:"export" help:"First export what goes to this new file."`
	WithoutExport bool   `name:"without-export" xor:"export" help:"Remove it for good."`
}

// Run prunes.
func (c auditPruneCmd) Run(ctx context.Context, t *terminal) error {
	before, err := whenOf("--before", c.Before)
	if err != nil {
		return err
	}
	if err := server.CheckAuditPrune(before); err != nil {
		return err
	}
	if c.Export == "" && !c.WithoutExport {
		return hinted{fmt.Errorf("the records would be gone for good"), "keep them with --export FILE, or say --without-export"}
	}
	if c.Export == "-" {
		return fmt.Errorf("--export wants a file: what is pruned must be on a disk before")
	}
	return c.open(ctx, t, func(o *server.Operator) error {
		hash := ""
		if c.Export != "" {
			end, err := exportTo(ctx, t, o, c.Export, before)
			if err != nil {
				return err
			}
			hash = end.SHA256
		}
		done, err := o.PruneAudit(ctx, before, hash)
		if err != nil {
			return err
		}
		return c.done(t, "%d records pruned", done.Records)
	})
}

// whenOf reads a time, or how long ago it was; empty is no time.
func whenOf(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n < 100000 {
			return time.Now().AddDate(0, 0, -n), nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return time.Now().Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s %q is neither a time, as in 2026-11-22 or 2026-11-22T11:04:00Z, nor how long ago, as in 24h or 7d", flag, text)
}
