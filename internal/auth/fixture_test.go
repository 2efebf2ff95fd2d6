package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssigner "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const account = "000000000000"

// clock is a time that tests move by hand.
type clock struct{ at atomic.Pointer[time.Time] }

func newClock(at time.Time) *clock {
	c := &clock{}
	c.at.Store(&at)
	return c
}

func (c *clock) now() time.Time { return *c.at.Load() }
func (c *clock) add(d time.Duration) {
	at := c.now().Add(d)
	c.at.Store(&at)
}

// world is an authenticator with one account and its root key.
type world struct {
	*Authenticator
	db     *store.DB
	keeper *seal.Keeper
	clock  *clock
	root   NewKey
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, storetest.Open(t))
}

func newWorldOn(t testing.TB, db *store.DB) *world {
	t.Helper()
	w := &world{db: db, keeper: storetest.Keeper(t, db), clock: newClock(time.Now())}
	w.Authenticator = w.replica()
	created, err := w.EnsureRoot(context.Background(), account, func(k NewKey) error { w.root = k; return nil })
	if err != nil || !created {
		t.Fatalf("EnsureRoot: %t, %v", created, err)
	}
	return w
}

// replica is another process on the same database, as far as auth can tell.
func (w *world) replica() *Authenticator {
	a := New(w.db, w.keeper, nil, Options{Region: "us-east-1"})
	a.now = w.clock.now
	a.keys.start = w.clock.now()
	return a
}

// set runs one statement.
func (w *world) set(t testing.TB, query string, args ...any) {
	t.Helper()
	err := w.db.Update(context.Background(), func(tx *store.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// request is one signed with the official signer, as a server gets it.
type request struct {
	body    string
	region  string
	service string
	token   string
	at      time.Time
	key     NewKey
	before  func(*http.Request) // signing
	after   func(*http.Request)
}

func (w *world) request(t testing.TB, q request) *http.Request {
	t.Helper()
	r := httptest.NewRequest("POST", "http://127.0.0.1:7080/identities/GetWorkloadIdentity", strings.NewReader(q.body))
	r.Header.Set("Content-Type", "application/json")
	if q.before != nil {
		q.before(r)
	}
	if q.at.IsZero() {
		q.at = w.clock.now()
	}
	if q.key.ID == "" {
		q.key = w.root
	}
	if q.region == "" {
		q.region = "us-east-1"
	}
	if q.service == "" {
		q.service = Service
	}
	sum := sha256.Sum256([]byte(q.body))
	err := awssigner.NewSigner().SignHTTP(context.Background(),
		aws.Credentials{AccessKeyID: q.key.ID, SecretAccessKey: q.key.Secret.Reveal(), SessionToken: q.token},
		r, hex.EncodeToString(sum[:]), q.service, q.region, q.at)
	if err != nil {
		t.Fatal(err)
	}
	if q.after != nil {
		q.after(r)
	}
	return r
}

func wantFault(t testing.TB, err error, kind fault.Kind, text string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(fault.Of(err).Message, text) {
		t.Errorf("error %v, want %s: %s", err, kind, text)
	}
}
