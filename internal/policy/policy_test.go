package policy

import (
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const (
	own     = "000000000000"
	foreign = "111111111111"
	gateway = "arn:aws:bedrock-agentcore:us-east-1:" + own + ":gateway/demo-0123456789"
	other   = "arn:aws:bedrock-agentcore:us-east-1:" + own + ":gateway/other-012345678"
	beyond  = "arn:aws:bedrock-agentcore:us-east-1:" + foreign + ":gateway/demo-0123456789"
	hosted  = "arn:aws:bedrock-agentcore:us-east-1:" + own + ":runtime/clerk-0123456789"

	invokeAgent = "bedrock-agentcore:InvokeAgentRuntime"
	rootARN     = "arn:aws:iam::" + own + ":root"
	create      = "bedrock-agentcore:CreateGateway"
	iamOnly     = "bedrock-agentcore:GetResourceOauth2Token"
)

var (
	root    = principal.Caller{Kind: principal.Key, Account: own, ARN: rootARN, KeyID: "AKIA", Root: true}
	plain   = principal.Caller{Kind: principal.Key, Account: own, ARN: "arn:aws:iam::" + own + ":user/ada", KeyID: "AKIB"}
	role    = principal.Caller{Kind: principal.Role, Account: own, ARN: "arn:aws:sts::" + own + ":assumed-role/agent/1"}
	bearer  = principal.Caller{Kind: principal.Bearer, Account: own, User: principal.User{Issuer: "https://idp.example", Subject: "ada"}, Authorizer: gateway}
	invoker = principal.Caller{Kind: principal.Bearer, Account: own, User: principal.User{Issuer: "https://idp.example", Subject: "ada"}, Authorizer: hosted}
	anyone  = principal.Caller{Kind: principal.Anonymous, Account: own, Authorizer: gateway}
	browser = principal.Caller{Kind: principal.Browser, Account: own}
	system  = principal.Caller{Kind: principal.System, Account: own}
)

func TestDecide(t *testing.T) {
	t.Parallel()
	engine := New(storetest.Open(t))
	for _, test := range []struct {
		name    string
		caller  principal.Caller
		checks  []Check
		allowed bool
	}{
		{"root in its account", root, []Check{{Action: create, Resource: gateway}}, true},
		{"root on several", root, []Check{{Action: create, Resource: gateway}, {Action: create, Resource: other}}, true},
		{"root on no resource in particular", root, []Check{{Action: "bedrock-agentcore:ListGateways", Resource: Any}}, true},
		{"root on a pattern of its account", root, []Check{{Action: create, Resource: strings.Replace(gateway, "demo-0123456789", "*", 1)}}, true},
		{"root in another account", root, []Check{{Action: create, Resource: beyond}}, false},
		{"root with one foreign resource among its own", root, []Check{{Action: create, Resource: gateway}, {Action: create, Resource: beyond}}, false},
		{"root on a resource of no account", root, []Check{{Action: create, Resource: "arn:aws:s3:::bucket"}}, false},
		{"root on a pattern of accounts", root, []Check{{Action: create, Resource: "arn:aws:bedrock-agentcore:us-east-1:*:gateway/x"}}, false},
		{"root on what is no ARN", root, []Check{{Action: create, Resource: "demo-0123456789"}}, false},
		{"root of no account", principal.Caller{Kind: principal.Key, Root: true}, []Check{{Action: create, Resource: Any}}, false},
		{"root of no account on a resource of none", principal.Caller{Kind: principal.Key, Root: true}, []Check{{Action: create, Resource: "arn:aws:s3:::bucket"}}, false},
		{"a key without documents", plain, []Check{{Action: create, Resource: gateway}}, false},
		{"a role without documents", role, []Check{{Action: create, Resource: gateway}}, false},
		{"a role that claims to be root", principal.Caller{Kind: principal.Role, Account: own, Root: true}, []Check{{Action: create, Resource: gateway}}, false},
		{"nobody", principal.Caller{}, []Check{{Action: create, Resource: Any}}, false},
		{"nobody who claims to be root", principal.Caller{Account: own, Root: true}, []Check{{Action: create, Resource: gateway}}, false},
		{"a kind nobody knows", principal.Caller{Kind: "novelty", Account: own, Root: true}, []Check{{Action: create, Resource: gateway}}, false},

		{"a bearer on its gateway", bearer, []Check{{Action: InvokeGateway, Resource: gateway}}, true},
		{"a bearer on another gateway", bearer, []Check{{Action: InvokeGateway, Resource: other}}, false},
		{"a bearer on every gateway", bearer, []Check{{Action: InvokeGateway, Resource: Any}}, false},
		{"a bearer with another action", bearer, []Check{{Action: iamOnly, Resource: gateway}}, false},
		{"a bearer of no gateway", principal.Caller{Kind: principal.Bearer, Account: own}, []Check{{Action: InvokeGateway, Resource: gateway}}, false},
		{"a bearer whose gateway is in another account", principal.Caller{Kind: principal.Bearer, Account: own, Authorizer: beyond}, []Check{{Action: InvokeGateway, Resource: beyond}}, false},
		{"anybody on an open gateway", anyone, []Check{{Action: InvokeGateway, Resource: gateway}}, true},
		{"anybody on another gateway", anyone, []Check{{Action: InvokeGateway, Resource: other}}, false},
		{"anybody with another action", anyone, []Check{{Action: create, Resource: gateway}}, false},

		{"a bearer on its runtime and an endpoint of it", invoker, []Check{{Action: invokeAgent, Resource: hosted}, {Action: invokeAgent, Resource: hosted + "/runtime-endpoint/DEFAULT"}}, true},
		{"a bearer runs a command", invoker, []Check{{Action: "bedrock-agentcore:InvokeAgentRuntimeCommand", Resource: hosted}}, true},
		{"a bearer for a user of its choice", invoker, []Check{{Action: "bedrock-agentcore:InvokeAgentRuntimeForUser", Resource: hosted}}, false},
		{"a bearer on another runtime", invoker, []Check{{Action: invokeAgent, Resource: hosted + "1"}}, false},
		{"a bearer on another runtime's endpoint", invoker, []Check{{Action: invokeAgent, Resource: hosted + "1/runtime-endpoint/DEFAULT"}}, false},
		{"a bearer on what is below an endpoint", invoker, []Check{{Action: invokeAgent, Resource: hosted + "/runtime-endpoint/DEFAULT/x"}}, false},
		{"a bearer of a runtime manages it", invoker, []Check{{Action: "bedrock-agentcore:GetAgentRuntime", Resource: hosted}}, false},
		{"a bearer of a runtime with a gateway's action", invoker, []Check{{Action: InvokeGateway, Resource: hosted + "/runtime-endpoint/DEFAULT"}}, false},
		{"a bearer of no runtime on an endpoint", principal.Caller{Kind: principal.Bearer, Account: own}, []Check{{Action: invokeAgent, Resource: "/runtime-endpoint/DEFAULT"}}, false},

		{"a browser opens a link", browser, []Check{{Action: ActionAuthorize, Resource: gateway}}, true},
		{"a browser with a link nobody knows", browser, []Check{{Action: ActionAuthorize, Resource: Any}}, true},
		{"a browser comes back", browser, []Check{{Action: ActionCallback, Resource: gateway}}, true},
		{"a browser ends with us", browser, []Check{{Action: ActionConnect, Resource: gateway}}, true},
		{"a browser on another account's link", browser, []Check{{Action: ActionAuthorize, Resource: beyond}}, false},
		{"a browser with an API action", browser, []Check{{Action: iamOnly, Resource: gateway}}, false},
		{"a browser with another action of ours", browser, []Check{{Action: "onbehalf:ListGrants", Resource: gateway}}, false},

		{"the platform itself", system, []Check{{Action: "onbehalf:Sweep", Resource: gateway}}, true},
		{"the platform for no account in particular", principal.Caller{Kind: principal.System}, []Check{{Action: "onbehalf:Sweep", Resource: Any}}, true},
		{"the platform, for one account in another", system, []Check{{Action: "onbehalf:Sweep", Resource: beyond}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := engine.Decide(t.Context(), test.caller, test.checks)
			if test.allowed && err != nil {
				t.Errorf("denied: %v", err)
			}
			if !test.allowed && !fault.Is(err, fault.Denied) {
				t.Errorf("got %v, want a denial", err)
			}
		})
	}
}

func TestDecideNothing(t *testing.T) {
	t.Parallel()
	for name, checks := range map[string][]Check{
		"no check": nil, "no action": {{Action: "", Resource: gateway}}, "no resource": {{Action: create, Resource: ""}},
	} {
		if err := New(nil).Decide(t.Context(), root, checks); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: got %v, want an internal fault", name, err)
		}
	}
}

func TestDenialReadsLikeAWS(t *testing.T) {
	t.Parallel()
	engine := New(storetest.Open(t))
	for _, test := range []struct {
		caller principal.Caller
		check  Check
		want   string
	}{
		{plain, Check{Action: create, Resource: gateway}, "User: arn:aws:iam::000000000000:user/ada is not authorized to perform: bedrock-agentcore:CreateGateway on resource: " + gateway + " because no identity-based policy allows the bedrock-agentcore:CreateGateway action"},
		{root, Check{Action: create, Resource: beyond}, "User: " + rootARN + " is not authorized to perform: " + create + " on resource: " + beyond + " because no resource-based policy allows the " + create + " action"},
		{bearer, Check{Action: create, Resource: gateway}, "User: jwt:https://idp.example#ada is not authorized to perform: " + create + " on resource: " + gateway + " because no identity-based policy allows the " + create + " action"},
		{anyone, Check{Action: create, Resource: gateway}, "User: anonymous is not authorized to perform: " + create + " on resource: " + gateway + " because no identity-based policy allows the " + create + " action"},
		{browser, Check{Action: create, Resource: gateway}, "User: browser is not authorized to perform: " + create + " on resource: " + gateway + " because no identity-based policy allows the " + create + " action"},
	} {
		if got := fault.Of(engine.Decide(t.Context(), test.caller, []Check{test.check})).Message; got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	engine := New(nil)
	checks := []Check{{Action: create, Resource: gateway}, {Action: create, Resource: other}}
	b.ReportAllocs()
	for b.Loop() {
		if err := engine.Decide(b.Context(), root, checks); err != nil {
			b.Fatal(err)
		}
	}
}
