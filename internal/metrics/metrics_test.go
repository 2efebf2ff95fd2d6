package metrics

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func scrape(t *testing.T, s *Set) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestWhatIsCountedIsShown(t *testing.T) {
	t.Parallel()
	s := New("1.2.3")
	s.Act("bedrock-agentcore:CreateGateway", "allow", "ok", 3*time.Millisecond)
	s.Token("M2M", "issued")
	s.Consent("completed")
	s.ToolCall("ok")
	s.Failure("signature", "bad-signature")
	s.Limited("callback")
	s.Request("GoogleOauth2", "refresh_token", "ok", time.Second)
	s.Refresh("needs_consent")
	s.Commit(time.Millisecond, 16, nil)
	s.Commit(time.Millisecond, 4, errors.New("no"))
	s.Delivery("delivered")
	s.Gauge("grants", "Grants.", map[string]string{"state": "needs-consent"}, func() (float64, bool) { return 7, true })
	s.Gauge("unknown", "Not now.", nil, func() (float64, bool) { return 0, false })
	text := scrape(t, s)
	for _, line := range []string{
		`onbehalf_acts_total{action="bedrock-agentcore:CreateGateway",decision="allow",outcome="ok"} 1`,
		`onbehalf_act_duration_seconds_bucket{action="bedrock-agentcore:CreateGateway",le="0.005"} 1`,
		`onbehalf_tokens_total{flow="M2M",outcome="issued"} 1`,
		`onbehalf_consents_total{outcome="completed"} 1`,
		`onbehalf_tool_calls_total{outcome="ok"} 1`,
		`onbehalf_authentication_failures_total{door="signature",kind="bad-signature"} 1`,
		`onbehalf_limited_total{limit="callback"} 1`,
		`onbehalf_provider_requests_total{kind="refresh_token",outcome="ok",vendor="GoogleOauth2"} 1`,
		`onbehalf_refreshes_total{outcome="needs_consent"} 1`,
		`onbehalf_audit_records_total 16`,
		`onbehalf_audit_commit_failures_total 1`,
		`onbehalf_webhook_deliveries_total{outcome="delivered"} 1`,
		`onbehalf_grants{state="needs-consent"} 7`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
	if strings.Contains(text, "onbehalf_unknown ") || !strings.Contains(text, `version="1.2.3"`) {
		t.Error("a gauge without a value, or no version")
	}
}

// Whatever somebody outside manages to bring into a label, the number of series is bounded.
func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	s := New("")
	for n := range 10 * most {
		s.Act(fmt.Sprintf("a:%d", n), "allow", fmt.Sprintf("o%d", n%3), 0)
		s.ToolCall(fmt.Sprint(n))
	}
	text := scrape(t, s)
	if got := strings.Count(text, "onbehalf_tool_calls_total{"); got != most+1 || !strings.Contains(text, `onbehalf_tool_calls_total{outcome="other"}`) {
		t.Errorf("%d series of tool calls", got)
	}
	if got := strings.Count(text, "onbehalf_act_duration_seconds_count{"); got != most+1 {
		t.Errorf("%d series of acts", got)
	}
}

func TestOnlyMetrics(t *testing.T) {
	t.Parallel()
	for path, method := range map[string]string{"/": "GET", "/metrics/": "GET", "/debug/pprof/": "GET", "/metrics": "POST"} {
		w := httptest.NewRecorder()
		New("").Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != 404 && w.Code != 405 {
			t.Errorf("%s %s is answered with %d", method, path, w.Code)
		}
	}
}

func BenchmarkAct(b *testing.B) {
	s := New("")
	b.ReportAllocs()
	for b.Loop() {
		s.Act("bedrock-agentcore:GetResourceOauth2Token", "allow", "ok", time.Millisecond)
	}
}
