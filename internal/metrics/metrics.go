// Package metrics counts what operators watch, and shows it to Prometheus. It
// knows no domain: server hands it what gate, audit, oauth and store tell, once.
//
//	gate, audit, oauth ── Act, Failure, Commit, Request ──▶ counters and histograms ──▶ Handler ──▶ /metrics
//	store, vault ── asked at each scrape ──▶ gauges
//
// Invariant: every label's values come from a list that this program knows (an
// operation's name, a kind of error, a vendor of the table); what is not on a
// list is "other". No account, user, workload, provider name, URL or token is a
// label, so that nobody outside decides how many series there are or reads a
// person's name on a dashboard.
package metrics

import (
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Set is one server's metrics. It is safe for concurrent use.
type Set struct {
	registry *prometheus.Registry

	acts      *prometheus.CounterVec
	actTimes  *prometheus.HistogramVec
	tokens    *prometheus.CounterVec
	consents  *prometheus.CounterVec
	calls     *prometheus.CounterVec
	failures  *prometheus.CounterVec
	limits    *prometheus.CounterVec
	requests  *prometheus.CounterVec
	answers   *prometheus.HistogramVec
	refreshes *prometheus.CounterVec
	commits   prometheus.Histogram
	unwritten prometheus.Counter
	records   prometheus.Counter
	webhooks  *prometheus.CounterVec
	sessions  *prometheus.CounterVec
	starts    prometheus.Histogram

	mu     sync.Mutex
	labels map[label]map[string]struct{}
}

// Buckets of durations, in seconds: from what a cached token takes to what a slow provider does.
var (
	buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	quick   = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5}
)

// New makes the metrics of a server of some version.
func New(version string) *Set {
	s := &Set{registry: prometheus.NewRegistry(), labels: make(map[label]map[string]struct{})}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "onbehalf", Name: name, Help: help}, labels)
		s.registry.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "onbehalf", Name: name, Help: help, Buckets: buckets}, labels)
		s.registry.MustRegister(h)
		return h
	}
	s.acts = counter("acts_total", "Acts that the gate decided on and recorded.", "action", "decision", "outcome")
	s.actTimes = histogram("act_duration_seconds", "From the decision to the durable record.", buckets, "action")
	s.tokens = counter("tokens_total", "Asked-for tokens and keys, by flow: issued, consent (a link was answered), or why not.", "flow", "outcome")
	s.consents = counter("consents_total", "Steps of people's consents: asked, allowed and denied at the provider, completed, failed, other_user.", "outcome")
	s.calls = counter("tool_calls_total", "Calls of gateways' tools.", "outcome")
	s.failures = counter("authentication_failures_total", "Requests whose caller proved nothing.", "door", "kind")
	s.limits = counter("limited_total", "Requests held back by a limit.", "limit")
	s.requests = counter("provider_requests_total", "Requests to providers' token and revocation endpoints.", "vendor", "kind", "outcome")
	s.answers = histogram("provider_request_duration_seconds", "Until a provider had answered, or not.", buckets, "vendor", "kind")
	s.refreshes = counter("refreshes_total", "Refreshes of grants: ok, needs_consent where the provider has withdrawn it, or why not.", "outcome")
	s.webhooks = counter("webhook_deliveries_total", "Tries to deliver an event.", "outcome")
	s.sessions = counter("agent_sessions_ended_total", "Sessions of hosted agents that ended, by why.", "reason")
	s.starts = prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "onbehalf", Name: "agent_session_start_seconds", Help: "From a session's first call until its agent answers; the count is that of sessions started.", Buckets: buckets})
	s.commits = prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "onbehalf", Name: "audit_commit_duration_seconds", Help: "Commits of audit records, fsync included.", Buckets: quick})
	s.records = prometheus.NewCounter(prometheus.CounterOpts{Namespace: "onbehalf", Name: "audit_records_total", Help: "Audit records that are durable."})
	s.unwritten = prometheus.NewCounter(prometheus.CounterOpts{Namespace: "onbehalf", Name: "audit_commit_failures_total", Help: "Commits of audit records that failed: what waited for them was refused."})
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "onbehalf", Name: "build_info", Help: "1, with the version as labels."}, []string{"version", "go"})
	info.WithLabelValues(version, runtime.Version()).Set(1)
	s.registry.MustRegister(s.starts, s.commits, s.records, s.unwritten, info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// A rate of what never happened is 0, and an alert on it works from the first time on.
	for _, outcome := range []string{"ok", "needs_consent", "unavailable", "upstream"} {
		s.refreshes.WithLabelValues(outcome)
	}
	for _, outcome := range []string{"allowed", "denied", "completed", "failed"} {
		s.consents.WithLabelValues(outcome)
	}
	for _, outcome := range []string{"delivered", "failed", "given_up"} {
		s.webhooks.WithLabelValues(outcome)
	}
	s.limits.WithLabelValues("signature")
	s.failures.WithLabelValues("signature", "bad-signature")
	return s
}

// label is one label of one metric.
type label struct{ metric, name string }

// most is how many values a label may have. The lists behind labels are shorter;
// this holds also where somebody makes one of them grow.
const most = 200

// bounded is the value, or "other" once the label has very many.
func (s *Set) bounded(metric, name, value string) string {
	if value == "" {
		return "none"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := label{metric, name}
	known := s.labels[at]
	if known == nil {
		known = make(map[string]struct{})
		s.labels[at] = known
	}
	if _, is := known[value]; is {
		return value
	}
	if len(known) >= most {
		return "other"
	}
	known[value] = struct{}{}
	return value
}

// Act counts a decided act. The action is a route's name, never a client's word.
func (s *Set) Act(action, decision, outcome string, took time.Duration) {
	action = s.bounded("acts", "action", action)
	s.acts.WithLabelValues(action, decision, s.bounded("acts", "outcome", outcome)).Inc()
	s.actTimes.WithLabelValues(action).Observe(took.Seconds())
}

// ExpectSessions makes the reasons for which sessions end known before one did.
func (s *Set) ExpectSessions(reasons []string) {
	for _, reason := range reasons {
		s.sessions.WithLabelValues(reason)
	}
}

// SessionStarted counts a session whose agent answers.
func (s *Set) SessionStarted(took time.Duration) { s.starts.Observe(took.Seconds()) }

// SessionEnded counts one that is over.
func (s *Set) SessionEnded(reason string) {
	s.sessions.WithLabelValues(s.bounded("sessions", "reason", reason)).Inc()
}

// Token counts an asked-for token or key.
func (s *Set) Token(flow, outcome string) {
	s.tokens.WithLabelValues(s.bounded("tokens", "flow", flow), s.bounded("tokens", "outcome", outcome)).Inc()
}

// Consent counts a step of a consent.
func (s *Set) Consent(outcome string) {
	s.consents.WithLabelValues(s.bounded("consents", "outcome", outcome)).Inc()
}

// ToolCall counts a call of a gateway's tool.
func (s *Set) ToolCall(outcome string) {
	s.calls.WithLabelValues(s.bounded("calls", "outcome", outcome)).Inc()
}

// Failure counts a failed authentication at a door.
func (s *Set) Failure(door, kind string) {
	s.failures.WithLabelValues(s.bounded("failures", "door", door), s.bounded("failures", "kind", kind)).Inc()
}

// Limited counts a request that a limit held back.
func (s *Set) Limited(limit string) {
	s.limits.WithLabelValues(s.bounded("limits", "limit", limit)).Inc()
}

// Request counts a request to a provider of a vendor: kind is its grant type, or "revoke".
func (s *Set) Request(vendor, kind, outcome string, took time.Duration) {
	vendor, kind = s.bounded("requests", "vendor", vendor), s.bounded("requests", "kind", kind)
	s.requests.WithLabelValues(vendor, kind, s.bounded("requests", "outcome", outcome)).Inc()
	s.answers.WithLabelValues(vendor, kind).Observe(took.Seconds())
}

// Refresh counts a refresh of a grant.
func (s *Set) Refresh(outcome string) {
	s.refreshes.WithLabelValues(s.bounded("refreshes", "outcome", outcome)).Inc()
}

// Commit counts a commit of audit records.
func (s *Set) Commit(took time.Duration, records int, err error) {
	s.commits.Observe(took.Seconds())
	if err != nil {
		s.unwritten.Inc()
		return
	}
	s.records.Add(float64(records))
}

// Delivery counts a try to deliver an event to a webhook.
func (s *Set) Delivery(outcome string) {
	s.webhooks.WithLabelValues(s.bounded("webhooks", "outcome", outcome)).Inc()
}

// Gauge shows what ask answers at each scrape; a false ok leaves it out.
func (s *Set) Gauge(name, help string, labels map[string]string, ask func() (value float64, ok bool)) {
	s.registry.MustRegister(asked{prometheus.NewDesc("onbehalf_"+name, help, nil, labels), ask})
}

type asked struct {
	desc *prometheus.Desc
	ask  func() (float64, bool)
}

// Describe implements prometheus.Collector.
func (a asked) Describe(out chan<- *prometheus.Desc) { out <- a.desc }

// Collect implements prometheus.Collector.
func (a asked) Collect(out chan<- prometheus.Metric) {
	if value, ok := a.ask(); ok {
		out <- prometheus.MustNewConstMetric(a.desc, prometheus.GaugeValue, value)
	}
}

// Handler answers GET /metrics and nothing else.
func (s *Set) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	return mux
}
