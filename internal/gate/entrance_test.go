package gate

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// TestFailedAuthenticationIsSampled: a thousand unsigned requests leave one
// record per minute, which says how many there were.
func TestFailedAuthenticationIsSampled(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Open(t))
	now := time.Now()
	f.failures.now = func() time.Time { return now }
	unsigned := func() {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, "/identities/CreateWorkloadIdentity", nil)
		r = r.WithContext(principal.WithRequest(r.Context(), request))
		if _, _, err := f.Signed(httptest.NewRecorder(), r, 1<<20); !fault.Is(err, fault.MissingSignature) {
			t.Fatalf("got %v, want a missing signature", err)
		}
	}
	samples := func() (found []audit.Record) {
		t.Helper()
		for _, r := range f.records(t, audit.Platform) {
			if r.Action == authenticate {
				found = append(found, r)
			}
		}
		return found
	}
	for range 50 {
		unsigned()
	}
	if got := samples(); len(got) != 1 || got[0].Decision != audit.Deny || got[0].Outcome != "missing-signature" || got[0].Detail["failures"] != "1" || got[0].Address != "192.0.2.7" {
		t.Errorf("samples %+v", got)
	}
	now = now.Add(sampleEvery)
	unsigned()
	if got := samples(); len(got) != 2 || got[1].Detail["failures"] != "50" {
		t.Errorf("samples %+v", got)
	}
	if got := f.Failures(); got["signature missing-signature"] != 51 {
		t.Errorf("failures %v", got)
	}

	r := httptest.NewRequest(http.MethodPost, "/gateway/x/mcp", nil)
	if _, err := f.Bearer(t.Context(), r, account, gateway, auth.Authorizer{}); !fault.Is(err, fault.Unauthenticated) {
		t.Fatal(err)
	}
	if got := f.only(t); got.Action != authenticate || got.Detail["door"] != "bearer" {
		t.Errorf("record %+v", got)
	}
}

// TestUnrecordedFailureStaysARefusal: the answer to a failed authentication does
// not depend on the audit log.
func TestUnrecordedFailureStaysARefusal(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Open(t))
	_ = f.log.Close()
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	if _, _, err := f.Signed(httptest.NewRecorder(), r, 1<<20); !fault.Is(err, fault.MissingSignature) {
		t.Errorf("got %v, want a missing signature", err)
	}
}

func TestCallersOfTheFrontDoor(t *testing.T) {
	t.Parallel()
	f := open(t, storetest.Open(t))
	if c := f.Anonymous(t.Context(), account); c.Kind != principal.Anonymous || c.Account != account {
		t.Errorf("caller %+v", c)
	}
	if c := System(account); c.Kind != principal.System || c.Account != account || c.Root {
		t.Errorf("caller %+v", c)
	}
	address := request.Address
	if err := f.Limit(auth.LimitAuthorize, address); err != nil {
		t.Error(err)
	}
	var err error
	for range 1000 {
		if err = f.Limit(auth.LimitAuthorize, address); err != nil {
			break
		}
	}
	if !fault.Is(err, fault.Throttled) {
		t.Errorf("a thousand at once: %v", err)
	}
}
