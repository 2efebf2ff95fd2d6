package server

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/notify"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

// checkWebhook says what is wrong with the webhook's settings.
func (c Config) checkWebhook() error {
	if (c.Webhook == "") != (c.WebhookSecretFile == "") {
		return fmt.Errorf("--webhook and --webhook-secret-file go together: one of them is missing")
	}
	if c.Webhook == "" {
		return nil
	}
	u, err := url.Parse(c.Webhook) // which is not quoted: its path may be what the receiver knows its callers by
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return fmt.Errorf("--webhook is not an https URL, or http on loopback, without a user and a fragment")
	}
	return nil
}

// openWebhook makes the outbox of --webhook; nil without.
func (s *Server) openWebhook() (*notify.Outbox, error) {
	if s.config.Webhook == "" {
		return nil, nil
	}
	text, err := os.ReadFile(s.config.WebhookSecretFile)
	if err != nil {
		return nil, fmt.Errorf("--webhook-secret-file: %w", err)
	}
	key, err := notify.ParseSecret(secret.New(string(text)))
	if err != nil {
		return nil, fmt.Errorf("--webhook-secret-file %s: %w", s.config.WebhookSecretFile, err)
	}
	client := egress.Operator(egress.OperatorOptions{})
	s.idle = append(s.idle, client.CloseIdleConnections)
	return notify.New(s.db, notify.Options{URL: s.config.Webhook, Secret: key, Client: client, Log: s.log, Watched: func(outcome string) {
		if s.metrics != nil {
			s.metrics.set.Delivery(outcome)
		}
	}}), nil
}

// teller posts the broker's events to the outbox; nil without one.
func teller(o *notify.Outbox) func(*store.Tx, broker.Event) error {
	if o == nil {
		return nil
	}
	return func(tx *store.Tx, e broker.Event) error {
		data := map[string]string{"account": e.Account, "provider": e.Provider}
		for name, value := range map[string]string{"workload": e.Workload, "user": e.User, "grant": e.Grant} {
			if value != "" {
				data[name] = value
			}
		}
		if e.Grants > 0 {
			data["grants"] = strconv.FormatInt(e.Grants, 10)
		}
		return o.Post(tx, notify.Event{Type: e.Type, Data: data})
	}
}

// watch has what passes the gate counted, and consents told to the log.
func (s *Server) watch(guard *gate.Gate) {
	watched := gate.Watch{Act: func(r *audit.Record, took time.Duration) {
		s.tellLog(r)
		if s.metrics != nil {
			counted(s.metrics.set, r, took)
		}
	}}
	if s.metrics != nil {
		watched.Failure = func(door string, kind fault.Kind) { s.metrics.set.Failure(door, kind.String()) }
		watched.Limit = s.metrics.set.Limited
	}
	guard.Watch(watched)
}

// tellLog says in the log what the webhook is told: a consent given, one that was
// denied, a grant that its provider has withdrawn.
func (s *Server) tellLog(r *audit.Record) {
	event, session := "", r.Detail["session_outcome"]
	switch {
	case session == "completed":
		event = broker.ConsentGiven
	case strings.HasPrefix(session, "denied"):
		event = broker.ConsentDenied
	case r.Detail["needs_consent"] != "":
		event = broker.NeedsConsent
	case r.Detail["grants_needing_consent"] != "":
		event = broker.AllAskedAgain
	default:
		return
	}
	line := []any{"event", event, "request_id", r.RequestID, "account", r.Account}
	for _, part := range []struct{ name, value string }{
		{"workload", firstOf(r.Detail["session_workload"], r.Workload)}, {"user", firstOf(r.Detail["session_user"], r.User)},
		{"grant", firstOf(r.Detail["grant"], r.Detail["needs_consent"])}, {"session", r.Detail["session"]}, {"grants", r.Detail["grants_needing_consent"]},
	} {
		if part.value != "" {
			line = append(line, part.name, part.value)
		}
	}
	s.log.Info("consent", line...)
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
