package gateway_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/store"
)

// A gateway has its role's rights and no other: without the one to a provider
// its tools fail, say why and are recorded with the role; with it, they go on at once.
func TestGatewayRunsUnderItsRole(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.peopleGateway(t)
	ada := r.token(t, "ada-lovelace")
	r.consent(t, r.link(t, g.GatewayId, ada), "ada-lovelace", ada)
	attach := func(document string) {
		t.Helper()
		ok(t, r.db.Update(t.Context(), func(tx *store.Tx) error { return policy.New(r.db).Put(tx, account, role, "default", document) }))
	}
	call := func() string {
		t.Helper()
		response, content := r.post(t, g.GatewayId, callProfile, "Authorization", "Bearer "+ada)
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%d %s", response.StatusCode, content)
		}
		return content
	}
	const session = "User: arn:aws:sts::000000000000:assumed-role/gateway/"
	for name, c := range map[string]struct{ document, want string }{
		"no token for the workload": {strings.Replace(policy.DefaultRoleDocument, "GetWorkloadAccessTokenForJWT", "Nothing", 1), session + g.GatewayId + " is not authorized to perform: bedrock-agentcore:GetWorkloadAccessTokenForJWT"},
		"no token of a provider":    {strings.Replace(policy.DefaultRoleDocument, "GetResourceOauth2Token", "Nothing", 1), "is not authorized to perform: bedrock-agentcore:GetResourceOauth2Token"},
		"another provider alone":    {strings.Replace(policy.DefaultRoleDocument, "token-vault/*", "token-vault/default/oauth2credentialprovider/other", 1), "on resource: arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default"},
		"another person alone": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"*","Resource":"*",
			"Condition":{"StringEquals":{"bedrock-agentcore:InboundJwtClaim/sub":"ada-lovelace"}}}]}`, "with an explicit deny in an identity-based policy"},
	} {
		attach(c.document)
		if content := call(); !strings.Contains(content, `"isError":true`) || !strings.Contains(content, "The role that gateway "+g.GatewayId+" runs under must allow this.") || !strings.Contains(content, c.want) {
			t.Errorf("%s: %s", name, content)
		}
	}
	attach(policy.DefaultRoleDocument)
	if content := call(); !strings.Contains(content, `"isError":false`) {
		t.Errorf("with the right: %s", content)
	}
	for _, record := range r.records(t) {
		if record.Action == "bedrock-agentcore:InvokeGateway" && record.Detail["method"] == "tools/call" && record.Phase == "done" && record.Detail["role"] != role {
			t.Errorf("a record without the role: %+v", record)
		}
	}
}
