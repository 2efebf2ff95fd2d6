package auth

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// withLimits is an Authenticator with nothing but its limits and a clock.
func withLimits(t *testing.T, now *time.Time, settings ...string) *Authenticator {
	t.Helper()
	rates, err := ParseRates(settings)
	if err != nil {
		t.Fatal(err)
	}
	return &Authenticator{throttle: newThrottle(rates), now: func() time.Time { return *now }}
}

const getKey = "bedrock-agentcore:GetResourceApiKey"

func callerOf(kind principal.Kind, arn string) principal.Caller {
	return principal.Caller{Kind: kind, Account: "000000000000", ARN: arn}
}

// drain is how often the caller may do it at one moment.
func drain(a *Authenticator, caller principal.Caller, action string) (n int, last error) {
	for ; n < 100000; n++ {
		if last = a.Throttle(caller, action); last != nil {
			return n, last
		}
	}
	return n, nil
}

// A principal has one bucket per family, whatever its keys and sessions are called.
func TestThrottlePerPrincipal(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	a := withLimits(t, &now, "resource-tokens=5")
	ada := callerOf(principal.Key, "arn:aws:iam::000000000000:user/ada")
	n, err := drain(a, ada, getKey)
	if n != 50 || !fault.Is(err, fault.Throttled) || fault.Of(err).RetryAfter <= 0 || !strings.Contains(err.Error(), "Rate exceeded") {
		t.Errorf("%d at once, then %v", n, err)
	}
	ada.KeyID = "AKIAOTHER"
	if n, _ := drain(a, ada, getKey); n != 0 {
		t.Errorf("another key of the same user: %d more", n)
	}
	if n, _ := drain(a, ada, "bedrock-agentcore:GetResourceOauth2Token"); n != 50 {
		t.Errorf("another action: %d", n)
	}
	if n, _ := drain(a, callerOf(principal.Key, "arn:aws:iam::000000000000:user/bob"), getKey); n != 50 {
		t.Errorf("another user: %d", n)
	}
	now = now.Add(time.Second)
	if n, _ := drain(a, ada, getKey); n != 5 {
		t.Errorf("a second later: %d", n)
	}
	if n, _ := drain(a, callerOf(principal.Role, "arn:aws:sts::000000000000:assumed-role/agent/one"), getKey); n != 50 {
		t.Errorf("a role's session: %d", n)
	}
	if n, _ := drain(a, callerOf(principal.Role, "arn:aws:sts::000000000000:assumed-role/agent/two"), getKey); n != 0 {
		t.Errorf("another session of the same role: %d more", n)
	}
	for _, free := range []principal.Caller{
		{Kind: principal.Key, Account: "000000000000", ARN: "arn:aws:iam::000000000000:root", Root: true}, {Kind: principal.System}, callerOf(principal.Bearer, ""), callerOf(principal.Anonymous, ""),
	} {
		if n, _ := drain(a, free, getKey); n != 100000 {
			t.Errorf("%s: %d", free.Kind, n)
		}
	}
}

// However many principals there are, memory is bounded, and those who wait longest lose no count.
func TestThrottleIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	a := withLimits(t, &now)
	ada := callerOf(principal.Key, "arn:aws:iam::000000000000:user/ada")
	if n, _ := drain(a, ada, getKey); n != 2000 {
		t.Fatalf("%d", n)
	}
	for i := range maxCounters + 100 {
		_ = a.Throttle(callerOf(principal.Key, fmt.Sprintf("arn:aws:iam::000000000000:user/u%d", i)), getKey)
	}
	if got := len(a.throttle.buckets); got > maxCounters {
		t.Errorf("%d buckets", got)
	}
	if n, _ := drain(a, ada, getKey); n != 0 {
		t.Errorf("after a flood of others: %d", n)
	}
	now = now.Add(time.Minute)
	_ = a.Throttle(callerOf(principal.Key, "arn:aws:iam::000000000000:user/new"), getKey)
	if got := len(a.throttle.buckets); got != 1 {
		t.Errorf("%d buckets after a minute of quiet, want the newcomer's", got)
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	for action, want := range map[string]string{
		"bedrock-agentcore:GetWorkloadAccessTokenForJWT": FamilyWorkloadTokens, getKey: FamilyResourceTokens, "bedrock-agentcore:CompleteResourceTokenAuth": FamilyCompletions,
		"bedrock-agentcore:InvokeAgentRuntime": FamilyInvoke, "bedrock-agentcore:InvokeAgentRuntimeCommand": FamilyInvoke, "bedrock-agentcore:GetAgentCard": FamilyInvoke,
		"bedrock-agentcore:StopRuntimeSession": FamilyInvoke, "bedrock-agentcore:UpdateAgentRuntime": FamilyWrite, "onbehalf:GetAgentRuntimeLogs": FamilyRead,
		"bedrock-agentcore:ListGateways": FamilyRead, "bedrock-agentcore:DeleteGateway": FamilyWrite, "iam:GetRole": FamilyRead, "iam:PutRolePolicy": FamilyWrite,
		"sts:GetCallerIdentity": FamilyRead, "onbehalf:RevokeGrant": FamilyWrite, "onbehalf:ListGrants": FamilyRead,
	} {
		if got, _ := familyOf(action); got != want {
			t.Errorf("%s is of %s, want %s", action, got, want)
		}
	}
	for _, wrong := range []string{"", "tokens=5", "control-read", "control-read=0", "control-read=-1", "control-read=NaN", "control-read=1e9", "control-read=many"} {
		if _, err := ParseRates([]string{wrong}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	rates, err := ParseRates([]string{"off", "control-read=2.5"})
	if err != nil || rates[FamilyRead] != 2.5 || rates[FamilyWrite] != 0 {
		t.Errorf("%v, %v", rates, err)
	}
}
