package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/metrics"
	"github.com/onbehalf/onbehalf/internal/notify"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// metricsServer shows metrics on a listener of its own, so that the public one
// has no path for them, and no signature stands between Prometheus and them.
// Neither a provider nor a target can have its address: egress refuses it.
type metricsServer struct {
	set      *metrics.Set
	http     *http.Server
	listener net.Listener
}

// startMetrics listens, where --metrics-addr asks for it, and has the tools tell
// what they do (the gate: see watch). Without it nothing is counted.
func (s *Server) startMetrics(protocol *oauth.Client, grants *vault.Vault, outbox *notify.Outbox) error {
	if s.config.MetricsAddr == "" {
		return nil
	}
	listener, err := listen("--metrics-addr", s.config.MetricsAddr, "")
	if err != nil {
		return err
	}
	set := metrics.New(s.config.Version)
	local := false
	if own, err := netip.ParseAddrPort(listener.Addr().String()); err == nil {
		s.egress.Forbid(own)
		local = own.Addr().IsLoopback()
	}
	handler := set.Handler()
	s.metrics = &metricsServer{set: set, listener: listener, http: &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if local && !loopback(hostOf(r.Host)) { // a page in a browser on this machine, under a name of its own
				http.Error(w, "This listener is known by its address.", http.StatusMisdirectedRequest)
				return
			}
			handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}}
	if !local {
		s.log.Warn("metrics can be read by whoever reaches their listener", "address", listener.Addr().String())
	}
	protocol.Watch(func(vendor, kind string, took time.Duration, err error) { asked(set, vendor, kind, took, err) })
	s.records.Watch(set.Commit)
	set.Gauge("grants_needing_consent", "Grants whose person must be asked again.", nil, func() (float64, bool) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		count, err := grants.NeedingConsent(ctx)
		return float64(count), err == nil
	})
	set.Gauge("webhook_waiting", "Events that the webhook has not taken yet.", nil, func() (float64, bool) {
		if outbox == nil {
			return 0, true
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		count, err := outbox.Waiting(ctx)
		return float64(count), err == nil
	})
	for _, direction := range []string{"read", "write"} {
		labels := map[string]string{"direction": direction}
		set.Gauge("database_connections_open", "Connections to the database.", labels, func() (float64, bool) { return float64(s.db.Stats()[direction].Open), true })
		set.Gauge("database_connections_in_use", "Connections that a transaction has.", labels, func() (float64, bool) { return float64(s.db.Stats()[direction].InUse), true })
		set.Gauge("database_connection_waits", "SQLite: transactions that wait for a connection now. PostgreSQL: how many had to wait since the start.", labels,
			func() (float64, bool) { return float64(s.db.Stats()[direction].Waiting), true })
	}
	s.background.Go(func() {
		if err := s.metrics.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the metrics listener failed", "error", err)
		}
	})
	return nil
}

func (m *metricsServer) close() error { return m.http.Close() }

// MetricsURL is where Prometheus reads; empty without --metrics-addr.
func (s *Server) MetricsURL() string {
	if s.metrics == nil {
		return ""
	}
	return "http://" + s.metrics.listener.Addr().String() + "/metrics"
}

func hostOf(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// counted translates a record into metrics.
func counted(set *metrics.Set, r *audit.Record, took time.Duration) {
	set.Act(r.Action, r.Decision, r.Outcome, took)
	session := r.Detail["session_outcome"]
	if session == "opened" {
		set.Consent("asked")
	}
	switch r.Action {
	case api.GetResourceOauth2Token.Action():
		set.Token(flowOf(r.Detail["flow"]), tokenOutcome(r, session))
	case api.GetResourceApiKey.Action():
		set.Token("API_KEY", issued(r))
	case api.GetWorkloadAccessToken.Action(), api.GetWorkloadAccessTokenForJWT.Action(), api.GetWorkloadAccessTokenForUserId.Action():
		set.Token("WORKLOAD", issued(r))
	case gate.ActionCallback, gate.ActionConnect, api.CompleteResourceTokenAuth.Action():
		if outcome := consentOutcome(r, session); outcome != "" {
			set.Consent(outcome)
		}
	case gate.InvokeGateway:
		if r.Detail["tool"] != "" {
			outcome := r.Detail["outcome"]
			if outcome == "" {
				outcome = r.Outcome
			}
			set.ToolCall(outcome)
		}
	}
}

func issued(r *audit.Record) string {
	if r.Outcome == audit.OK {
		return "issued"
	}
	return r.Outcome
}

// tokenOutcome tells a token from the link that a person must follow first.
func tokenOutcome(r *audit.Record, session string) string {
	if r.Outcome == audit.OK && flowOf(r.Detail["flow"]) == string(api.Oauth2FlowTypeUserFederation) && (session != "" || r.Detail["grant"] == "") {
		return "consent"
	}
	return issued(r)
}

// flowOf is one of the flows that there are: the client wrote it.
func flowOf(flow string) string {
	switch api.Oauth2FlowType(flow) {
	case api.Oauth2FlowTypeUserFederation, api.Oauth2FlowTypeM2m, api.Oauth2FlowTypeOnBehalfOfTokenExchange:
		return flow
	}
	return "none"
}

func consentOutcome(r *audit.Record, session string) string {
	switch {
	case session == "completed":
		return "completed"
	case session == "code parked":
		return "allowed"
	case strings.HasPrefix(session, "denied"):
		return "denied"
	case strings.HasPrefix(session, "another user"):
		return "other_user"
	case r.Outcome != audit.OK:
		return "failed"
	}
	return ""
}

// asked translates a request to a provider into metrics.
func asked(set *metrics.Set, vendor, kind string, took time.Duration, err error) {
	outcome := audit.OK
	var refused *oauth.Error
	switch {
	case errors.As(err, &refused) && !refused.Transient:
		outcome = "refused"
	case err != nil:
		outcome = fault.KindOf(err).String()
	}
	if _, known := oauth.VendorOf(vendor); !known {
		vendor = "other"
	}
	set.Request(vendor, kind, outcome, took)
	if kind == "refresh_token" {
		if refused != nil && refused.Code == "invalid_grant" {
			outcome = "needs_consent"
		}
		set.Refresh(outcome)
	}
}
