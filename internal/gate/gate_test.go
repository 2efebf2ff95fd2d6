package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const (
	account = "000000000000"
	gateway = "arn:aws:bedrock-agentcore:us-east-1:" + account + ":gateway/demo-0123456789"
	beyond  = "arn:aws:bedrock-agentcore:us-east-1:111111111111:gateway/demo-0123456789"
	action  = "bedrock-agentcore:GetGateway"
)

var (
	request = principal.Request{ID: "4b6a4c1e-7a3f-4a0e-9c5b-0d1e2f3a4b5c", Address: netip.MustParseAddr("192.0.2.7")}
	root    = principal.Caller{Kind: principal.Key, Account: account, ARN: "arn:aws:iam::" + account + ":root", KeyID: "AKIA", Root: true, Request: request}
	ada     = principal.User{Issuer: "https://idp.example", Subject: "ada"}
	agent   = principal.Workload{ID: "w1", Name: "sayhello", ARN: "arn:aws:bedrock-agentcore:us-east-1:" + account + ":workload-identity-directory/default/workload-identity/sayhello"}
)

type fixture struct {
	*Gate
	log *audit.Log
}

func open(t testing.TB, db *store.DB) fixture {
	t.Helper()
	keeper := storetest.Keeper(t, db, account)
	log, err := audit.New(t.Context(), db, keeper, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return fixture{New(auth.New(db, keeper, nil, auth.Options{}), policy.New(db), log), log}
}

// records are those of an account, oldest first.
func (f fixture) records(t testing.TB, account string) []audit.Record {
	t.Helper()
	records, _, err := f.log.List(t.Context(), audit.Query{Account: account, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for i, j := 0, len(records)-1; i < j; i, j = i+1, j-1 {
		records[i], records[j] = records[j], records[i]
	}
	return records
}

// only is the one record there must be.
func (f fixture) only(t testing.TB) audit.Record {
	t.Helper()
	records := f.records(t, account)
	if len(records) != 1 {
		t.Fatalf("%d records, want one: %+v", len(records), records)
	}
	return records[0]
}

type (
	question struct{ resource string }
	answer   struct{ text string }
)

func checks(resources ...string) []Check {
	var out []Check
	for _, resource := range resources {
		out = append(out, Check{Action: action, Resource: resource})
	}
	return out
}

// touching is a scope that names the request's resource.
func touching(_ context.Context, caller principal.Caller, r *question) (principal.Caller, []Check, error) {
	return caller, checks(r.resource), nil
}

func answering(context.Context, principal.Caller, *question) (*answer, error) {
	return &answer{"yes"}, nil
}

func TestActIsDoneAndRecorded(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		f := open(t, db)
		scope := func(_ context.Context, caller principal.Caller, r *question) (principal.Caller, []Check, error) {
			caller.Workload, caller.User, caller.Authorizer = agent, ada, gateway
			return caller, checks(r.resource, agent.ARN, r.resource), nil
		}
		got, err := Act(t.Context(), f.Gate, root, action, scope, &question{gateway}, func(ctx context.Context, caller principal.Caller, r *question) (*answer, error) {
			if caller.User != ada || caller.Workload != agent {
				t.Errorf("the handler's caller lacks what the scope found: %+v", caller)
			}
			Detail(ctx, "grant", "g0")
			Detail(ctx, "grant", "g1")
			Detail(ctx, "link", "http://x/cb?code=canary")
			return answering(ctx, caller, r)
		})
		if err != nil || got == nil || got.text != "yes" {
			t.Fatalf("got %v, %v", got, err)
		}
		want := audit.Record{
			Account: account, RequestID: request.ID, PrincipalKind: "key", Principal: root.ARN, KeyID: "AKIA", Workload: agent.ARN, WorkloadID: "w1",
			User: "jwt:https://idp.example#ada", Authorizer: gateway, Action: action, Resources: []string{gateway, agent.ARN},
			Decision: audit.Allow, Phase: audit.Done, Outcome: audit.OK, Detail: map[string]string{"grant": "g1", "link": "http://x/cb?code=[redacted]"}, Address: "192.0.2.7",
		}
		record := f.only(t)
		if diff := cmp.Diff(want, record, cmpopts.IgnoreFields(audit.Record{}, "Time")); diff != "" {
			t.Error(diff)
		}
		if age := time.Since(record.Time); age < 0 || age > time.Minute {
			t.Errorf("the record is %v old", age)
		}
	})
}

// TestRefusals: whatever refuses an act, its handler never runs, its answer is
// nothing, and one record says why.
func TestRefusals(t *testing.T) {
	t.Parallel()
	changed := func(change func(*principal.Caller)) Scope[question] {
		return func(ctx context.Context, caller principal.Caller, r *question) (principal.Caller, []Check, error) {
			change(&caller)
			return touching(ctx, caller, r)
		}
	}
	for name, test := range map[string]struct {
		caller   principal.Caller
		scope    Scope[question]
		resource string
		want     fault.Kind
	}{
		"another account's resource": {root, touching, beyond, fault.Denied},
		"a caller without rights":    {principal.Caller{Kind: principal.Browser, Account: account}, touching, gateway, fault.Denied},
		"nobody":                     {principal.Caller{Account: account}, touching, gateway, fault.Denied},
		"a scope that fails": {root, func(_ context.Context, caller principal.Caller, r *question) (principal.Caller, []Check, error) {
			return caller, checks(r.resource), fault.New(fault.Undecryptable, "no")
		}, gateway, fault.Undecryptable},
		"a scope that fails and knows nothing": {root, func(context.Context, principal.Caller, *question) (principal.Caller, []Check, error) {
			return principal.Caller{}, nil, fault.New(fault.Invalid, "no")
		}, gateway, fault.Invalid},
		"a scope that fails without a kind": {root, func(_ context.Context, caller principal.Caller, r *question) (principal.Caller, []Check, error) {
			return caller, nil, errors.New("no")
		}, gateway, fault.Internal},
		"a scope that panics": {root, func(context.Context, principal.Caller, *question) (principal.Caller, []Check, error) {
			panic("no")
		}, gateway, fault.Internal},
		"a scope that checks nothing": {root, func(_ context.Context, caller principal.Caller, _ *question) (principal.Caller, []Check, error) {
			return caller, nil, nil
		}, gateway, fault.Internal},
		"a scope that changes the account": {root, changed(func(c *principal.Caller) { c.Account = "111111111111" }), beyond, fault.Internal},
		"a scope that changes the kind":    {principal.Caller{Kind: principal.Browser, Account: account}, changed(func(c *principal.Caller) { c.Kind = principal.System }), gateway, fault.Internal},
		"a scope that makes root": {principal.Caller{Kind: principal.Key, Account: account, ARN: root.ARN}, changed(func(c *principal.Caller) { c.Root = true }),
			gateway, fault.Internal},
		"a scope that changes the key": {root, changed(func(c *principal.Caller) { c.KeyID = "AKIB" }), gateway, fault.Internal},
		"a scope that changes the ARN": {root, changed(func(c *principal.Caller) { c.ARN = "arn:aws:iam::000000000000:user/eve" }), gateway, fault.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t, storetest.Open(t))
			got, err := Act(t.Context(), f.Gate, test.caller, action, test.scope, &question{test.resource}, func(context.Context, principal.Caller, *question) (*answer, error) {
				t.Error("the handler ran")
				return &answer{"no"}, nil
			})
			if got != nil || !fault.Is(err, test.want) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
			record := f.only(t)
			if record.Decision != audit.Deny || record.Outcome != test.want.String() || record.Action != action || record.Account != account ||
				record.PrincipalKind != string(test.caller.Kind) || record.KeyID != test.caller.KeyID {
				t.Errorf("record %+v", record)
			}
		})
	}
}

// TestEndings: a permitted act that goes wrong is recorded as permitted, with how it went.
func TestEndings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fn   func(context.Context) error
		want fault.Kind
	}{
		"a fault":                 {func(context.Context) error { return fault.New(fault.NotFound, "no") }, fault.NotFound},
		"a wrapped fault":         {func(context.Context) error { return fmt.Errorf("more: %w", fault.New(fault.Upstream, "no")) }, fault.Upstream},
		"an error without a kind": {func(context.Context) error { return errors.New("no") }, fault.Internal},
		"a panic":                 {func(context.Context) error { panic("no") }, fault.Internal},
		"a panic with a fault":    {func(context.Context) error { panic(fault.New(fault.NotFound, "no")) }, fault.Internal},
		"an index out of range":   {func(context.Context) error { var none []error; return none[cap(none)] }, fault.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t, storetest.Open(t))
			got, err := Act(t.Context(), f.Gate, root, action, touching, &question{gateway}, func(ctx context.Context, _ principal.Caller, _ *question) (*answer, error) {
				Detail(ctx, "grant", "g1")
				return &answer{"half"}, test.fn(ctx)
			})
			if got != nil || !fault.Is(err, test.want) {
				t.Errorf("got %v, %v, want %v", got, err, test.want)
			}
			if record := f.only(t); record.Decision != audit.Allow || record.Outcome != test.want.String() || record.Detail["grant"] != "g1" {
				t.Errorf("record %+v", record)
			}
		})
	}
}

func TestPanicKeepsItsStackForTheLog(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Open(t))
	err := f.Do(t.Context(), root, checks(gateway), func(context.Context) error { panic("what happened") })
	if known := fault.Of(err); strings.Contains(known.Message, "what happened") || !strings.Contains(known.Error(), "what happened") || !strings.Contains(known.Error(), "gate_test.go") {
		t.Errorf("message %q, error %v", known.Message, err)
	}
}

func TestAbortedConnectionIsRecorded(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Open(t))
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("recovered %v, want http.ErrAbortHandler", p)
		}
		if record := f.only(t); record.Decision != audit.Allow || record.Outcome != "internal" {
			t.Errorf("record %+v", record)
		}
	}()
	_ = f.Do(t.Context(), root, checks(gateway), func(context.Context) error { panic(http.ErrAbortHandler) })
	t.Error("the abort was swallowed")
}

// TestUnrecordedIsDenied: where the record cannot be written there is no answer,
// whatever the handler did; a refusal becomes an internal fault as well.
func TestUnrecordedIsDenied(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), store.Options{Path: storetest.SQLite(t)})
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, db)
	ran := false
	got, err := Act(t.Context(), f.Gate, root, action, touching, &question{gateway}, func(ctx context.Context, _ principal.Caller, _ *question) (*answer, error) {
		ran = true
		return &answer{"secret"}, db.Close() // the disk is gone
	})
	if !ran || got != nil || !fault.Is(err, fault.Internal) {
		t.Errorf("ran %v, got %v, %v", ran, got, err)
	}
	if _, err := Act(t.Context(), f.Gate, root, action, touching, &question{beyond}, answering); !fault.Is(err, fault.Internal) {
		t.Errorf("an unrecorded refusal: %v", err)
	}
	if err := f.Intent(t.Context(), root, Check{Action: action, Resource: gateway}, nil); !fault.Is(err, fault.Internal) {
		t.Errorf("an unrecorded intent: %v", err)
	}
	_ = f.log.Close()
	if err := f.Do(t.Context(), root, checks(gateway), func(context.Context) error { return nil }); !fault.Is(err, fault.Internal) {
		t.Errorf("after Close: %v", err)
	}
}

// TestClientHangsUp: its record is kept all the same.
func TestClientHangsUp(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Open(t))
	ctx, cancel := context.WithCancel(t.Context())
	err := f.Do(ctx, root, checks(gateway), func(context.Context) error {
		cancel()
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if record := f.only(t); record.Outcome != audit.OK {
		t.Errorf("record %+v", record)
	}
	if err := f.Do(ctx, root, checks("arn:aws:bedrock-agentcore:us-east-1:111111111111:token-vault/default"), nil); !fault.Is(err, fault.Denied) { // refused after it hung up
		t.Error(err)
	}
	if records := f.records(t, account); len(records) != 2 {
		t.Errorf("%d records, want 2", len(records))
	}
}

func TestDo(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Open(t))
	browser := f.Browser(principal.WithRequest(t.Context(), request), account)
	if err := f.Do(t.Context(), browser, []Check{{Action: ActionAuthorize, Resource: Any}}, func(ctx context.Context) error {
		Detail(ctx, "session_outcome", "unknown")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	record := f.only(t)
	if record.PrincipalKind != "browser" || record.Action != ActionAuthorize || record.Address != "192.0.2.7" || record.Detail["session_outcome"] != "unknown" {
		t.Errorf("record %+v", record)
	}
	if err := f.Do(t.Context(), browser, nil, func(context.Context) error { t.Error("ran"); return nil }); !fault.Is(err, fault.Internal) {
		t.Errorf("no checks: %v", err)
	}
	if err := f.Do(t.Context(), System(""), []Check{{Action: "onbehalf:Sweep", Resource: Any}}, func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
	platform := f.records(t, audit.Platform)
	if last := platform[len(platform)-1]; last.PrincipalKind != "system" || last.Action != "onbehalf:Sweep" {
		t.Errorf("record %+v", last)
	}
}

// TestIntentComesFirst: it is durable before the act goes on.
func TestIntentComesFirst(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		f := open(t, db)
		bearer := principal.Caller{Kind: principal.Bearer, Account: account, User: ada, Workload: agent, Authorizer: gateway}
		err := f.Do(t.Context(), bearer, []Check{{Action: InvokeGateway, Resource: gateway}}, func(ctx context.Context) error {
			if err := f.Intent(ctx, bearer, Check{Action: "onbehalf:CallTool", Resource: gateway}, map[string]string{"tool": "get_profile"}); err != nil {
				return err
			}
			if r := f.only(t); r.Phase != audit.Intent || r.Decision != audit.Allow || r.Outcome != "" || r.Action != "onbehalf:CallTool" ||
				r.Principal != ada.String() || r.User != ada.String() || r.WorkloadID != "w1" || r.Detail["tool"] != "get_profile" {
				t.Errorf("record %+v", r)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if records := f.records(t, account); len(records) != 2 || records[1].Phase != audit.Done {
			t.Errorf("records %+v", records)
		}
	})
}

func TestIntentRefuses(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Open(t))
	if err := f.Intent(t.Context(), principal.Caller{}, Check{Action: action, Resource: gateway}, nil); !fault.Is(err, fault.Internal) {
		t.Errorf("nobody: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Intent(ctx, root, Check{Action: action, Resource: gateway}, nil); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a cancelled request: %v", err)
	}
	if err := f.Intent(t.Context(), root, Check{}, nil); !fault.Is(err, fault.Internal) {
		t.Errorf("no action: %v", err)
	}
	if records := f.records(t, account); len(records) != 0 {
		t.Errorf("records %+v", records)
	}
}

func TestDetailOutsideAndAfter(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Open(t))
	Detail(t.Context(), "nowhere", "")
	var late context.Context
	var wait sync.WaitGroup
	if err := f.Do(t.Context(), root, checks(gateway), func(ctx context.Context) error {
		late = ctx
		for n := range 8 {
			wait.Go(func() { Detail(ctx, fmt.Sprint("key", n), "value") })
		}
		wait.Wait()
		return f.Do(ctx, root, []Check{{Action: "bedrock-agentcore:Inner", Resource: gateway}}, func(ctx context.Context) error {
			Detail(ctx, "inner", "yes")
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	Detail(late, "late", "")
	records := f.records(t, account)
	if len(records) != 2 || len(records[0].Detail) != 1 || len(records[1].Detail) != 8 {
		t.Errorf("records %+v", records)
	}
}

func TestManyActsAtOnce(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Open(t))
	var wait sync.WaitGroup
	for n := range 64 {
		wait.Go(func() {
			for range 4 {
				resource, allowed := gateway, n%2 == 0
				if !allowed {
					resource = beyond
				}
				got, err := Act(t.Context(), f.Gate, root, action, touching, &question{resource}, answering)
				if allowed != (err == nil) || allowed != (got != nil) {
					t.Errorf("allowed %v: got %v, %v", allowed, got, err)
				}
			}
		})
	}
	wait.Wait()
	count := map[string]int{}
	for _, r := range f.records(t, account) {
		count[r.Decision]++
	}
	if count[audit.Allow] != 128 || count[audit.Deny] != 128 {
		t.Errorf("records %v", count)
	}
	if _, err := f.log.Verify(t.Context(), f.log.Head()); err != nil {
		t.Error(err)
	}
}

// TestMain keeps what the gate logs about refusals out of the tests' output.
func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	m.Run()
}

func BenchmarkAct(b *testing.B) {
	db, err := store.Open(b.Context(), store.Options{Path: b.TempDir() + "/onbehalf.db"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	f := open(b, db)
	b.SetParallelism(8) // with four processors, 32 callers
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := Act(b.Context(), f.Gate, root, action, touching, &question{gateway}, answering); err != nil {
				b.Error(err)
			}
		}
	})
}
