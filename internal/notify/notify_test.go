package notify

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

var key = []byte("a key of at least twenty-four bytes")

// receiver is a webhook that keeps what it took, in order, and checks signatures.
type receiver struct {
	*httptest.Server
	t      *testing.T
	answer atomic.Int64 // status; 0 hangs until the client gives up

	mu    sync.Mutex
	took  []string
	tried map[string]int // by webhook-id
	woken chan struct{}
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t, tried: make(map[string]int), woken: make(chan struct{}, 1000)}
	r.answer.Store(http.StatusNoContent)
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	id, timestamp := q.Header.Get("webhook-id"), q.Header.Get("webhook-timestamp")
	if q.Header.Get("webhook-signature") != Sign(key, id, timestamp, body) {
		r.t.Errorf("the signature of %s does not hold", id)
	}
	var e Event
	if err := json.Unmarshal(body, &e); err != nil || e.Type != "test" {
		r.t.Errorf("got %s, %v", body, err)
	}
	status := int(r.answer.Load())
	defer func() {
		if status != 0 {
			r.woken <- struct{}{}
		}
	}()
	r.mu.Lock()
	r.tried[id]++
	if status >= 200 && status < 300 {
		r.took = append(r.took, e.Data["n"])
	}
	r.mu.Unlock()
	if status == 0 {
		r.woken <- struct{}{}
		<-q.Context().Done()
		return
	}
	if status == http.StatusFound {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(status)
}

func (r *receiver) taken() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.took)
}

func outbox(t *testing.T, db *store.DB, url string) *Outbox {
	t.Helper()
	client := egress.Operator(egress.OperatorOptions{})
	t.Cleanup(client.CloseIdleConnections)
	return New(db, Options{URL: url, Secret: key, Client: client, Log: slog.New(slog.DiscardHandler)})
}

func post(t *testing.T, db *store.DB, o *Outbox, from, count int) {
	t.Helper()
	for n := range count {
		if err := db.Update(t.Context(), func(tx *store.Tx) error {
			return o.Post(tx, Event{Type: "test", Data: map[string]string{"n": fmt.Sprint(from + n)}})
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// rounds runs until nothing is left to do at once, and answers how often.
func rounds(t *testing.T, o *Outbox) (count int) {
	t.Helper()
	for {
		wait, err := o.round(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if wait > 0 {
			return count
		}
		count++
	}
}

func TestInOrderAndSigned(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		r := newReceiver(t)
		o := outbox(t, db, r.URL)
		post(t, db, o, 0, 5)
		if got := rounds(t, o); got != 5 {
			t.Errorf("%d deliveries", got)
		}
		if got := strings.Join(r.taken(), ""); got != "01234" {
			t.Errorf("delivered %s", got)
		}
		if waiting, err := o.Waiting(t.Context()); waiting != 0 || err != nil {
			t.Errorf("%d wait, %v", waiting, err)
		}
	})
}

func TestWhatWasRolledBackIsNotTold(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	o := outbox(t, db, "http://127.0.0.1:1")
	undone := errors.New("undone")
	if err := db.Update(t.Context(), func(tx *store.Tx) error {
		_ = o.Post(tx, Event{Type: "test"})
		return undone
	}); !errors.Is(err, undone) {
		t.Fatal(err)
	}
	if waiting, _ := o.Waiting(t.Context()); waiting != 0 {
		t.Errorf("%d events wait", waiting)
	}
}

// A receiver that fails is tried again, later and later, and nothing overtakes what it did not take.
func TestFailures(t *testing.T) {
	t.Parallel()
	for _, status := range []int{500, 404, 302, 410} {
		db := storetest.Open(t)
		r := newReceiver(t)
		o := outbox(t, db, r.URL)
		post(t, db, o, 0, 3)
		r.answer.Store(int64(status))
		last := time.Duration(0)
		for range 12 {
			wait, err := o.round(t.Context())
			if err != nil || wait < last/2 || wait < firstPause || wait > mostPause*5/4+1 {
				t.Fatalf("%d: again in %v after %v, %v", status, wait, last, err)
			}
			last = wait
		}
		if last < mostPause || len(r.taken()) != 0 || len(r.tried) != 1 {
			t.Errorf("%d: %v, took %v, tried %v", status, last, r.taken(), r.tried)
		}
		r.answer.Store(200)
		rounds(t, o)
		if got := strings.Join(r.taken(), ""); got != "012" || o.pause != 0 {
			t.Errorf("%d: delivered %s", status, got)
		}
	}
}

// After a day an event is given up, so that the next ones are told.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	now.Store(time.Now().UnixMicro())
	db := storetest.OpenAt(t, func() time.Time { return time.UnixMicro(now.Load()) })
	r := newReceiver(t)
	o := outbox(t, db, r.URL)
	var outcomes []string
	o.options.Watched = func(outcome string) { outcomes = append(outcomes, outcome) }
	post(t, db, o, 0, 2)
	now.Add((keptFor + time.Minute).Microseconds())
	post(t, db, o, 2, 1)
	rounds(t, o)
	if got := strings.Join(r.taken(), ""); got != "2" || strings.Join(outcomes, " ") != "given_up given_up delivered" {
		t.Errorf("delivered %s, %v", got, outcomes)
	}
}

// Two replicas share one outbox: one of them delivers, and when it is gone without
// a word (kill -9), the other one does what it left, the event under way included.
func TestReplicas(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	now.Store(time.Now().UnixMicro())
	db := storetest.OpenAt(t, func() time.Time { return time.UnixMicro(now.Load()) })
	r := newReceiver(t)
	one, two := outbox(t, db, r.URL), outbox(t, db, r.URL)
	post(t, db, one, 0, 3)
	if _, err := one.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if wait, err := two.round(t.Context()); err != nil || wait != poll {
		t.Errorf("the other one delivered too: %v", err)
	}
	// It is killed while the receiver has the next event and has not answered.
	r.answer.Store(0)
	<-r.woken // the first delivery
	dying, kill := context.WithCancel(t.Context())
	defer kill()
	ended := make(chan error, 1)
	go func() { _, err := one.round(dying); ended <- err }()
	<-r.woken // it has arrived, and hangs
	kill()
	<-ended
	r.answer.Store(200)
	if wait, _ := two.round(t.Context()); wait != poll {
		t.Error("the lease of the dead one did not hold")
	}
	now.Add((lease + time.Second).Microseconds())
	rounds(t, two)
	if got := strings.Join(r.taken(), ""); got != "012" {
		t.Errorf("delivered %s", got)
	}
}

// A receiver that hangs costs its delivery ten seconds, and a stop waits for nothing.
func TestAStopDoesNotWaitForAReceiverThatHangs(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	r := newReceiver(t)
	r.answer.Store(0)
	o := outbox(t, db, r.URL)
	post(t, db, o, 0, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error)
	go func() { ended <- o.Run(ctx) }()
	<-r.woken
	stop()
	select {
	case <-ended:
	case <-time.After(within / 2):
		t.Fatal("it waits")
	}
	if waiting, _ := o.Waiting(t.Context()); waiting != 1 {
		t.Errorf("%d events wait", waiting)
	}
}

// Run finds by itself what was posted.
func TestRun(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	r := newReceiver(t)
	o := outbox(t, db, r.URL)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error)
	go func() { ended <- o.Run(ctx) }()
	post(t, db, o, 0, 10)
	for range 10 {
		<-r.woken
	}
	stop()
	<-ended
	if got := strings.Join(r.taken(), ""); got != "0123456789" {
		t.Errorf("delivered %s", got)
	}
}

func TestParseSecret(t *testing.T) {
	t.Parallel()
	good := "whsec_" + base64.StdEncoding.EncodeToString(key)
	if got, err := ParseSecret(secret.New(good + "\n")); err != nil || string(got) != string(key) {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"", "whsec_", strings.TrimPrefix(good, "whsec_"), "whsec_c2hvcnQ=", good + "!"} {
		if _, err := ParseSecret(secret.New(bad)); err == nil || bad != "" && strings.Contains(err.Error(), strings.TrimPrefix(bad, "whsec_")) && len(bad) > 8 {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The example of the Standard Webhooks specification.
func TestSignatureIsTheStandards(t *testing.T) {
	t.Parallel()
	key, err := ParseSecret(secret.New("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := Sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
