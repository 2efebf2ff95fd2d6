// Package notify tells one webhook, which the operator named, what happened: a
// durable outbox that replicas share, and signed deliveries in order.
//
//	room ── Post, in its own transaction ──▶ webhook_events ──▶ Run, in one replica at a time ──▶ POST, signed
//	                                              ▲                      │ 2xx: the row goes
//	                                              └──────────────────────┘ else: later, for a day
//
// Requests follow Standard Webhooks: webhook-id, webhook-timestamp and
// webhook-signature, which is HMAC-SHA256 over id, timestamp and body.
//
// Invariant: what was posted in a transaction that was committed is delivered at
// least once, or given up after a day with a line in the log. A receiver that
// fails delays what comes after it and nothing else.
package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

const (
	poll       = 2 * time.Second  // how often the outbox is looked into where nobody knocks
	within     = 10 * time.Second // for one delivery
	lease      = 20 * time.Second // of the replica that delivers; longer than one delivery takes
	firstPause = time.Second      // after a failure; doubles up to
	mostPause  = 5 * time.Minute
	keptFor    = 24 * time.Hour
	mostEvents = 100_000 // rows: a receiver that is gone for long must not fill the disk
)

// Event is what is told. Data names things and never holds a secret.
type Event struct {
	Type      string            `json:"type"`
	Timestamp time.Time         `json:"timestamp"`
	Data      map[string]string `json:"data"`
}

// Options says whom to tell.
type Options struct {
	URL     string
	Secret  []byte               // see ParseSecret
	Client  *http.Client         // egress.Operator's
	Log     *slog.Logger         // nil is slog.Default
	Watched func(outcome string) // told of each delivery: "delivered", "failed", "given_up"; may be nil
}

// Outbox holds what is to be told. It is safe for concurrent use.
type Outbox struct {
	db      *store.DB
	options Options
	holder  string
	knock   chan struct{}
	pause   time.Duration // after failures, of Run alone
	last    atomic.Int64  // the time in the last id
}

// New makes the outbox of a database.
func New(db *store.DB, o Options) *Outbox {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Watched == nil {
		o.Watched = func(string) {}
	}
	return &Outbox{db: db, options: o, holder: rand.Text(), knock: make(chan struct{}, 1)}
}

const secretPrefix = "whsec_"

// ParseSecret reads a secret as Standard Webhooks writes it: whsec_ and base64.
func ParseSecret(text secret.Text) ([]byte, error) {
	encoded, marked := strings.CutPrefix(strings.TrimSpace(text.Reveal()), secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !marked || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("it must hold whsec_ and 24 to 64 random bytes in base64, as printf 'whsec_%s\\n' \"$(openssl rand -base64 32)\" makes it")
	}
	return key, nil
}

// Post adds an event, which is told if and when the transaction is committed.
func (o *Outbox) Post(tx *store.Tx, e Event) error {
	e.Timestamp = tx.Now
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	id := fmt.Sprintf("msg_%016x_%s", o.turn(store.Micros(tx.Now)), rand.Text()[:12])
	if _, err := tx.Exec(`INSERT INTO webhook_events (id, created, attempts, body) VALUES ($1, $2, 0, $3)`, id, store.Micros(tx.Now), string(body)); err != nil {
		return fmt.Errorf("posting an event: %w", err)
	}
	select {
	case o.knock <- struct{}{}:
	default:
	}
	return nil
}

// turn is the time, or a little later where this process has used it already, so
// that the events of one moment keep their order.
func (o *Outbox) turn(now int64) int64 {
	for {
		last := o.last.Load()
		next := max(now, last+1)
		if o.last.CompareAndSwap(last, next) {
			return next
		}
	}
}

// Waiting is how many events are to be delivered.
func (o *Outbox) Waiting(ctx context.Context) (count int64, err error) {
	err = o.db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow(`SELECT COUNT(*) FROM webhook_events`).Scan(&count)
	})
	return count, err
}

// Run delivers until the context ends.
func (o *Outbox) Run(ctx context.Context) error {
	defer o.release()
	for {
		wait, err := o.round(ctx)
		if err != nil && ctx.Err() == nil {
			o.options.Log.Error("the webhook's outbox cannot be read", "error", err)
			wait = poll
		}
		timer := time.NewTimer(wait)
		knock := o.knock
		if o.pause > 0 {
			knock = nil // a receiver that fails is left alone for a while, whoever knocks
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-knock:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// queued is a row.
type queued struct {
	id, body string
	created  time.Time
	attempts int64
}

// round delivers the oldest event, if it is this replica's turn, and says when to come again.
func (o *Outbox) round(ctx context.Context) (wait time.Duration, err error) {
	next, waiting, ours, err := o.oldest(ctx)
	switch {
	case err != nil || !ours || next == nil:
		return poll, err
	case waiting > mostEvents || o.db.Now().Sub(next.created) > keptFor:
		return 0, o.giveUp(ctx, next)
	}
	problem := o.deliver(ctx, next)
	if ctx.Err() != nil {
		return 0, nil // whether it arrived or not: it is told again
	}
	if problem != nil {
		o.pause = min(max(2*o.pause, firstPause), mostPause)
		o.options.Watched("failed")
		o.options.Log.Warn("the webhook did not take an event", "event", next.id, "attempts", next.attempts+1, "again_in", o.pause, "error", problem)
		err := o.db.Append(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE webhook_events SET attempts = attempts + 1 WHERE id = $1`, next.id)
			return err
		})
		return o.pause + mathrand.N(o.pause/4+1), err
	}
	o.pause = 0
	o.options.Watched("delivered")
	return 0, o.remove(ctx, next.id)
}

// oldest is the next event, where this replica has the turn: a lease, which ends by itself when it is gone.
func (o *Outbox) oldest(ctx context.Context) (next *queued, waiting int64, ours bool, err error) {
	if err := o.db.View(ctx, func(tx *store.Tx) error { // the usual case needs no write
		return tx.QueryRow(`SELECT COUNT(*) FROM (SELECT 1 FROM webhook_events LIMIT 1) AS any_event`).Scan(&waiting)
	}); err != nil {
		return nil, 0, false, err
	}
	if waiting == 0 {
		return nil, 0, true, nil
	}
	err = o.db.Append(ctx, func(tx *store.Tx) error {
		next = nil
		var err error
		if _, ours, err = tx.Lease(leaseName, o.holder, lease); err != nil || !ours {
			return err
		}
		if err := tx.QueryRow(`SELECT COUNT(*) FROM webhook_events`).Scan(&waiting); err != nil {
			return err
		}
		var q queued
		var created int64
		err = tx.QueryRow(`SELECT id, body, created, attempts FROM webhook_events ORDER BY id LIMIT 1`).Scan(&q.id, &q.body, &created, &q.attempts)
		if errors.Is(err, store.ErrNoRows) {
			return nil
		}
		if err == nil {
			q.created = store.Time(created)
			next = &q
		}
		return err
	})
	return next, waiting, ours, err
}

const leaseName = "webhook delivery"

func (o *Outbox) release() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = o.db.Append(ctx, func(tx *store.Tx) error { return tx.Release(leaseName, o.holder) }) // else it ends by itself
}

func (o *Outbox) remove(ctx context.Context, id string) error {
	return o.db.Append(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`DELETE FROM webhook_events WHERE id = $1`, id)
		return err
	})
}

func (o *Outbox) giveUp(ctx context.Context, q *queued) error {
	if err := o.remove(ctx, q.id); err != nil {
		return err
	}
	o.options.Watched("given_up")
	o.options.Log.Error("an event was given up: the webhook did not take it", "event", q.id, "attempts", q.attempts, "created", q.created)
	return nil
}

// deliver sends one event. What the receiver answers beside its status is read by nobody.
func (o *Outbox) deliver(ctx context.Context, q *queued) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, o.options.URL, bytes.NewReader([]byte(q.body)))
	if err != nil {
		return errors.New("the URL cannot be used")
	}
	timestamp := strconv.FormatInt(o.db.Now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "onbehalf")
	r.Header.Set("webhook-id", q.id)
	r.Header.Set("webhook-timestamp", timestamp)
	r.Header.Set("webhook-signature", Sign(o.options.Secret, q.id, timestamp, []byte(q.body)))
	response, err := o.options.Client.Do(r)
	if err != nil {
		return egress.Safe(err)
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, 4096)
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return errors.New("it answered " + strconv.Itoa(response.StatusCode))
	}
	return nil
}

// Sign is the webhook-signature of a delivery.
func Sign(key []byte, id, timestamp string, body []byte) string {
	keyed := hmac.New(sha256.New, key)
	_, _ = io.WriteString(keyed, id+"."+timestamp+".")
	keyed.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(keyed.Sum(nil))
}
