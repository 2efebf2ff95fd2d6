package server_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	data "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Who may complete a session is decided on the workload and the provider that
// it was opened for, not on the account at large. An unknown session is refused
// by the broker, with nothing to decide on.
func TestCompletingIsDecidedOnTheSession(t *testing.T) {
	p := servertest.Start(t)
	ctx := t.Context()
	const back = "https://app.example.com/done"
	if _, err := p.Control.CreateWorkloadIdentity(ctx, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: aws.String("clerk"), AllowedResourceOauth2ReturnUrls: []string{back}}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Control.CreateOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: aws.String("files"), CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2,
		Oauth2ProviderConfigInput: &control.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig{Value: control.CustomOauth2ProviderConfigInput{
			OauthDiscovery: &control.Oauth2DiscoveryMemberDiscoveryUrl{Value: p.DemoURL() + "/.well-known/openid-configuration"},
			ClientId:       aws.String("id"), ClientSecret: aws.String("secret"),
		}},
	}); err != nil {
		t.Fatal(err)
	}
	token, err := p.Data.GetWorkloadAccessTokenForUserId(ctx, &bedrockagentcore.GetWorkloadAccessTokenForUserIdInput{WorkloadName: aws.String("clerk"), UserId: aws.String("ada")})
	if err != nil {
		t.Fatal(err)
	}
	asked, err := p.Data.GetResourceOauth2Token(ctx, &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken: token.WorkloadAccessToken, ResourceCredentialProviderName: aws.String("files"), Scopes: []string{"openid"},
		Oauth2Flow: data.Oauth2FlowTypeUserFederation, ResourceOauth2ReturnUrl: aws.String(back),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, session := range []string{*asked.SessionUri, *asked.SessionUri + "x"} {
		if _, err := p.Data.CompleteResourceTokenAuth(ctx, &bedrockagentcore.CompleteResourceTokenAuthInput{
			SessionUri: aws.String(session), UserIdentifier: &data.UserIdentifierMemberUserId{Value: "ada"},
		}); err == nil || !strings.Contains(err.Error(), "Invalid or expired session") {
			t.Errorf("got %v, want the broker's refusal: nobody has been through with the link", err)
		}
	}

	records := recorded(t, p, "bedrock-agentcore:CompleteResourceTokenAuth")
	if len(records) != 2 {
		t.Fatalf("%d records, want 2", len(records))
	}
	for _, want := range []string{"workload-identity/clerk", "oauth2credentialprovider/files", "token-vault/default", "workload-identity-directory/default"} {
		if !strings.Contains(records[0], want) {
			t.Errorf("the record does not name %s: %s", want, records[0])
		}
	}
	if strings.Contains(records[1], "clerk") || strings.Contains(records[1], "files") {
		t.Errorf("the record of an unknown session names somebody's resources: %s", records[1])
	}
}

// recorded are the audit records of an action, oldest first, as JSON.
func recorded(t *testing.T, p *servertest.Platform, action string) (records []string) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Path: filepath.Join(p.Config.Data, "onbehalf.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	found, _, err := audit.NewReader(db, nil).List(t.Context(), audit.Query{Account: server.DefaultAccount, Action: action})
	for i := range found {
		text, _ := json.Marshal(found[len(found)-1-i])
		records = append(records, string(text))
	}
	if err != nil {
		t.Fatal(err)
	}
	return records
}
