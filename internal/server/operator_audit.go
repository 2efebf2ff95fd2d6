package server

import (
	"context"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/gate"
)

// What the audit commands ask for and get.
type (
	AuditQuery  = audit.Query
	AuditEntry  = audit.Entry
	AuditHead   = audit.Head
	AuditProof  = audit.Proof
	AuditExport = audit.ExportEnd
	AuditPruned = audit.Pruned
)

// AuditPlatform is the account of records that concern no tenant.
const AuditPlatform = audit.Platform

func (o *Operator) records() *audit.Reader { return audit.NewReader(o.db, o.keeper) }

// AuditEntries lists records, newest first, and the cursor of the next page.
func (o *Operator) AuditEntries(ctx context.Context, q AuditQuery) ([]AuditEntry, string, error) {
	entries, next, err := o.records().Entries(ctx, q)
	return entries, next, readable(err)
}

// VerifyAudit proves every record, and that the chains reach as far as heads
// say. It changes and records nothing.
func (o *Operator) VerifyAudit(ctx context.Context, heads []AuditHead) (AuditProof, string, error) {
	proof, err := o.records().Verify(ctx, heads...)
	if err != nil {
		return AuditProof{}, "", plainFault(err)
	}
	key, err := o.records().PublicKey(ctx)
	return proof, key, readable(err)
}

// ExportAudit proves the records and writes them out, all, or those committed
// before a time. That somebody took them along is recorded.
func (o *Operator) ExportAudit(ctx context.Context, out io.Writer, until time.Time) (end AuditExport, err error) {
	err = o.act(ctx, "", "ExportAuditRecords", gate.Any, func(ctx context.Context) error {
		end, err = o.records().Export(ctx, out, until)
		if err != nil {
			return err
		}
		gate.Detail(ctx, "records", strconv.FormatInt(end.Records, 10))
		gate.Detail(ctx, "sha256", end.SHA256)
		return nil
	})
	return end, err
}

// CheckAuditExport proves an export of this installation.
func (o *Operator) CheckAuditExport(ctx context.Context, in io.Reader, publicKey string) (AuditExport, error) {
	end, err := audit.CheckExport(ctx, o.records(), in, publicKey)
	return end, readable(err)
}

// CheckAuditExport proves, with a public key and without an installation, that an export is as it was made.
func CheckAuditExport(ctx context.Context, in io.Reader, publicKey string) (AuditExport, error) {
	end, err := audit.CheckExport(ctx, nil, in, publicKey)
	return end, readable(err)
}

// CheckAuditPrune says whether what was committed before a time may be pruned.
func CheckAuditPrune(before time.Time) error { return readable(audit.CheckPrune(before)) }

// PruneAudit removes the records that were committed before a time. First it
// records that it is going to, so that a prune that is broken off has left a
// trace, and afterwards what it removed. export is the hash of the export that
// has them, empty for none.
func (o *Operator) PruneAudit(ctx context.Context, before time.Time, export string) (done AuditPruned, err error) {
	if err := CheckAuditPrune(before); err != nil {
		return done, err
	}
	log, err := audit.New(ctx, o.db, o.keeper, "")
	if err != nil {
		return done, readable(err)
	}
	defer func() { _ = log.Close() }()
	guard, system := gate.New(o.auth, o.policies, log), gate.System("")
	check := gate.Check{Action: audit.PruneAction, Resource: gate.Any}
	detail := map[string]string{"operator": "uid " + strconv.Itoa(os.Getuid()), "before": before.UTC().Format(time.RFC3339), "export": "none"}
	if export != "" {
		detail["export"] = export
	}
	err = guard.Do(ctx, system, []gate.Check{check}, func(ctx context.Context) error {
		for key, value := range detail {
			gate.Detail(ctx, key, value)
		}
		if err := guard.Intent(ctx, system, check, detail); err != nil {
			return err
		}
		done, err = o.records().Prune(ctx, before)
		for key, value := range done.Detail() {
			gate.Detail(ctx, key, value)
		}
		return err
	})
	return done, plainFault(err)
}

// plainFault is readable without the cause of a broken chain, which says the same again.
func plainFault(err error) error {
	if broken, is := audit.BrokenOf(err); is {
		return &BrokenAuditError{Writer: broken.Writer, Sequence: broken.Sequence, Why: broken.Why}
	}
	return readable(err)
}

// BrokenAuditError names the first record that does not hold.
type BrokenAuditError struct {
	Writer   string
	Sequence int64
	Why      string
}

func (e *BrokenAuditError) Error() string {
	return "the audit chain " + e.Writer + " breaks at record " + strconv.FormatInt(e.Sequence, 10) + ": " + e.Why
}
