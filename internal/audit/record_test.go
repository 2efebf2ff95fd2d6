package audit

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
)

var when = time.Date(2026, 11, 22, 11, 4, 0, 123456000, time.UTC)

// full is a record with every member.
func full() Record {
	return Record{
		Time: when, Account: "000000000000", RequestID: "4b6a4c1e-7a3f-4a0e-9c5b-0d1e2f3a4b5c", PrincipalKind: "key",
		Principal: "arn:aws:iam::000000000000:root", KeyID: "AKIAIOSFODNN7EXAMPLE",
		Workload:   "arn:aws:bedrock-agentcore:us-east-1:000000000000:workload-identity-directory/default/workload-identity/sayhello",
		WorkloadID: "w1", User: "jwt:https://idp.example#ada", Authorizer: "arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/g",
		Action: "bedrock-agentcore:GetResourceOauth2Token", Resources: []string{"arn:1", "arn:2"}, Decision: Allow, Phase: Done, Outcome: OK,
		Detail: map[string]string{"provider": "google", "grant": "g1"}, Address: "127.0.0.1",
	}
}

func TestTextIsCanonical(t *testing.T) {
	t.Parallel()
	r := full()
	if err := r.prepare(); err != nil {
		t.Fatal(err)
	}
	want := `{"time":"2026-11-22T11:04:00.123456Z","account":"000000000000","request":"4b6a4c1e-7a3f-4a0e-9c5b-0d1e2f3a4b5c","kind":"key",` +
		`"principal":"arn:aws:iam::000000000000:root","key":"AKIAIOSFODNN7EXAMPLE",` +
		`"workload":"arn:aws:bedrock-agentcore:us-east-1:000000000000:workload-identity-directory/default/workload-identity/sayhello","workloadId":"w1",` +
		`"user":"jwt:https://idp.example#ada","authorizer":"arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/g",` +
		`"action":"bedrock-agentcore:GetResourceOauth2Token","resources":["arn:1","arn:2"],"decision":"allow","phase":"done","outcome":"ok",` +
		`"detail":{"grant":"g1","provider":"google"},"address":"127.0.0.1"}`
	for range 20 { // map order must not show
		if diff := cmp.Diff(want, r.text()); diff != "" {
			t.Fatal(diff)
		}
	}
	least := Record{Time: when, Action: "a", Decision: Deny, Phase: Done}
	if err := least.prepare(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"time":"2026-11-22T11:04:00.123456Z","account":"platform","action":"a","decision":"deny","phase":"done"}`, least.text()); diff != "" {
		t.Error(diff)
	}
}

func TestPrepareRefusesHalfARecord(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]Record{
		"no action":           {Decision: Allow, Phase: Done},
		"no decision":         {Action: "a", Phase: Done},
		"an unknown decision": {Action: "a", Decision: "perhaps", Phase: Done},
		"no phase":            {Action: "a", Decision: Allow},
	} {
		if err := r.prepare(); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: got %v, want an internal fault", name, err)
		}
	}
}

func TestPrepareBoundsAndMasks(t *testing.T) {
	t.Parallel()
	r := full()
	r.User = strings.Repeat("é", 5000)
	r.Principal = "a\x00b\xffc"
	r.Resources = append(make([]string, 0), "same", "same", "")
	for range 100 {
		r.Resources = append(r.Resources, strings.Repeat("r", 5000))
	}
	r.Detail = map[string]string{"link": "http://x/cb?code=" + canaryOpaque, "long": strings.Repeat("x", 5000)}
	for i := range 100 {
		r.Detail["key"+strings.Repeat("k", i)] = ""
	}
	if err := r.prepare(); err != nil {
		t.Fatal(err)
	}
	if len(r.User) > longestField || !strings.HasSuffix(r.User, "é…") {
		t.Errorf("a user of %d bytes, ending in %q", len(r.User), r.User[len(r.User)-6:])
	}
	if want := "a\ufffdb\ufffdc"; r.Principal != want {
		t.Errorf("principal %q, want %q", r.Principal, want)
	}
	if len(r.Resources) != 3 {
		t.Errorf("%d resources, want 3 different ones", len(r.Resources))
	}
	if len(r.Detail) != mostDetails {
		t.Errorf("%d details, want %d", len(r.Detail), mostDetails)
	}
	text := r.text()
	if strings.Contains(text, canaryOpaque) {
		t.Errorf("the record shows a secret: %s", text)
	}
	if len(text) > 64<<10 {
		t.Errorf("a record of %d bytes", len(text))
	}
}

func FuzzRecord(f *testing.F) {
	f.Add("ada", "action", "key", "value", "resource", int64(1))
	f.Add("a\x00b", "\"quoted\\", "\u2028", "<&>", "\xff\xfe", int64(-62135596800))
	f.Add(strings.Repeat("é", 3000), "\x1f\x7f", "", "", "", int64(1<<40))
	f.Add("", "", "\xff"+strings.Repeat("7", longestKey-1), strings.Repeat("\xff7", longestDetail), "", int64(1)) // grows when it is mended
	f.Fuzz(func(t *testing.T, user, action, key, value, resource string, seconds int64) {
		at := time.Unix(seconds%253402300799, 0) // the years that RFC 3339 has
		if at.Year() < 1 {
			return
		}
		r := Record{Time: at, Account: user, User: user, Action: "x" + action, Detail: map[string]string{key: value}, Resources: []string{resource}, Decision: Allow, Phase: Done}
		if err := r.prepare(); err != nil {
			t.Fatal(err)
		}
		text := r.text()
		if !json.Valid([]byte(text)) || strings.ContainsRune(text, 0) {
			t.Fatalf("not JSON that a database can hold: %q", text)
		}
		back, err := decodeText([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, back); diff != "" {
			t.Fatal(diff)
		}
		if again := r; again.prepare() != nil || again.text() != text {
			t.Fatalf("prepared twice it is another: %q, %q", text, again.text())
		}
	})
}

func BenchmarkText(b *testing.B) {
	r := full()
	b.ReportAllocs()
	for b.Loop() {
		if err := r.prepare(); err != nil {
			b.Fatal(err)
		}
		_ = r.text()
	}
}
