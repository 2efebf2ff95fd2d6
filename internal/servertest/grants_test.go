package servertest_test

import (
	"errors"
	"net/url"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	data "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/client"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

const donePage = "https://app.example.com/done"

// An operator who may look after one workload sees and ends that one's grants,
// however the question is put; a page token opens nothing in another account.
func TestGrantsOfALimitedOperator(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	tokens := map[string]string{}
	people := demoidp.Client{ID: "platform", Secret: "secret-of-the-platform"}
	made, err := p.Control.CreateOauth2CredentialProvider(t.Context(), &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: aws.String("people"), CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2,
		Oauth2ProviderConfigInput: &control.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig{Value: control.CustomOauth2ProviderConfigInput{
			OauthDiscovery: &control.Oauth2DiscoveryMemberDiscoveryUrl{Value: p.Demo().DiscoveryURL()}, ClientId: &people.ID, ClientSecret: &people.Secret,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	people.RedirectURIs = []string{*made.CallbackUrl}
	if err := p.Demo().Register(people); err != nil {
		t.Fatal(err)
	}
	for _, workload := range []string{"helpdesk", "payroll"} {
		tokens[workload] = grantTo(t, p, workload)
	}
	root := client.New(p.AWS)
	ids := map[string]*string{}
	for _, workload := range []string{"helpdesk", "payroll"} {
		page, err := root.ListGrants(t.Context(), &client.ListGrantsInput{WorkloadName: &workload})
		if err != nil || len(page.Grants) != 1 {
			t.Fatalf("%s: %v, %v", workload, page, err)
		}
		ids[workload] = page.Grants[0].GrantId
	}

	operator, err := server.OpenOperator(t.Context(), server.Storage{Data: p.Config.Data})
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	account, err := operator.Account(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	arn := "arn:aws:iam::" + account + ":user/support"
	key, err := operator.CreateKey(t.Context(), account, arn)
	if err == nil {
		err = operator.PutPolicy(t.Context(), account, arn, "helpdesk-alone", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"onbehalf:*","Resource":[
			"arn:aws:bedrock-agentcore:*:*:workload-identity-directory/default", "arn:aws:bedrock-agentcore:*:*:workload-identity-directory/default/workload-identity/helpdesk",
			"arn:aws:bedrock-agentcore:*:*:token-vault/default", "arn:aws:bedrock-agentcore:*:*:token-vault/default/oauth2credentialprovider/*"]}]}`)
	}
	if err != nil {
		t.Fatal(err)
	}
	limited := p.AWS.Copy()
	limited.Credentials = credentials.NewStaticCredentialsProvider(key.ID, key.Secret.Reveal(), "")
	support := client.New(limited)
	user := &client.EndUser{UserId: aws.String("ada")}
	for name, call := range map[string]func() error{
		"list all": func() error { _, err := support.ListGrants(t.Context(), nil); return err },
		"list the user's": func() error {
			_, err := support.ListGrants(t.Context(), &client.ListGrantsInput{User: user})
			return err
		},
		"list at provider": func() error {
			_, err := support.ListGrants(t.Context(), &client.ListGrantsInput{ProviderName: aws.String("people")})
			return err
		},
		"list the other's": func() error {
			_, err := support.ListGrants(t.Context(), &client.ListGrantsInput{WorkloadName: aws.String("payroll")})
			return err
		},
		"get the other": func() error {
			_, err := support.GetGrant(t.Context(), &client.GetGrantInput{GrantId: ids["payroll"]})
			return err
		},
		"revoke the other": func() error {
			_, err := support.RevokeGrant(t.Context(), &client.RevokeGrantInput{GrantId: ids["payroll"]})
			return err
		},
		"revoke all": func() error {
			_, err := support.RevokeUserGrants(t.Context(), &client.RevokeUserGrantsInput{User: user})
			return err
		},
		"revoke all there": func() error {
			_, err := support.RevokeUserGrants(t.Context(), &client.RevokeUserGrantsInput{User: user, WorkloadName: aws.String("payroll")})
			return err
		},
		"state of the other": func() error {
			_, err := support.GetResourceTokenState(t.Context(), &client.GetResourceTokenStateInput{
				WorkloadIdentityToken: aws.String(tokens["payroll"]), ProviderName: aws.String("people"), Oauth2Flow: client.Oauth2FlowTypeUserFederation, Scopes: []string{"openid"}})
			return err
		},
	} {
		var denied *client.AccessDeniedException
		if err := call(); !errors.As(err, &denied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if page, err := support.ListGrants(t.Context(), &client.ListGrantsInput{WorkloadName: aws.String("helpdesk"), User: user}); err != nil || len(page.Grants) != 1 {
		t.Errorf("its own: %+v, %v", page, err)
	}
	if _, err := support.RevokeGrant(t.Context(), &client.RevokeGrantInput{GrantId: ids["helpdesk"]}); err != nil {
		t.Error(err)
	}
	if left, err := root.ListGrants(t.Context(), nil); err != nil || len(left.Grants) != 1 || aws.ToString(left.Grants[0].WorkloadName) != "payroll" {
		t.Errorf("left: %+v, %v", left, err)
	}

	// A page token of this account is none in another, nor in another operation's list.
	grantTo(t, p, "helpdesk-two")
	first, err := root.ListGrants(t.Context(), &client.ListGrantsInput{MaxResults: aws.Int32(1)})
	if err != nil || first.NextToken == nil {
		t.Fatalf("%+v, %v", first, err)
	}
	elsewhere, err := operator.CreateAccount(t.Context(), "222222222222")
	if err != nil {
		t.Fatal(err)
	}
	foreign := p.AWS.Copy()
	foreign.Credentials = credentials.NewStaticCredentialsProvider(elsewhere.ID, elsewhere.Secret.Reveal(), "")
	var invalid *client.ValidationException
	if _, err := client.New(foreign).ListGrants(t.Context(), &client.ListGrantsInput{NextToken: first.NextToken}); !errors.As(err, &invalid) {
		t.Errorf("another account's page token: %v", err)
	}
	var missing *client.ResourceNotFoundException
	if _, err := client.New(foreign).GetGrant(t.Context(), &client.GetGrantInput{GrantId: ids["payroll"]}); !errors.As(err, &missing) {
		t.Errorf("another account's grant: %v", err)
	}
	if _, err := p.Control.ListWorkloadIdentities(t.Context(), &bedrockagentcorecontrol.ListWorkloadIdentitiesInput{NextToken: first.NextToken}); err == nil {
		t.Error("the page token of a list opened another list")
	}
}

// grantTo makes a workload and goes through with ada's consent for it.
func grantTo(t *testing.T, p *servertest.Platform, workload string) (token string) {
	t.Helper()
	if _, err := p.Control.CreateWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: &workload, AllowedResourceOauth2ReturnUrls: []string{donePage}}); err != nil {
		t.Fatal(err)
	}
	out, err := p.Data.GetWorkloadAccessTokenForUserId(t.Context(), &bedrockagentcore.GetWorkloadAccessTokenForUserIdInput{WorkloadName: &workload, UserId: aws.String("ada")})
	if err != nil {
		t.Fatal(err)
	}
	asked, err := p.Data.GetResourceOauth2Token(t.Context(), &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken: out.WorkloadAccessToken, ResourceCredentialProviderName: aws.String("people"), Scopes: []string{"openid"},
		Oauth2Flow: data.Oauth2FlowTypeUserFederation, ResourceOauth2ReturnUrl: aws.String(donePage),
	})
	if err != nil || asked.AuthorizationUrl == nil {
		t.Fatalf("%v, %v", asked, err)
	}
	arrival, err := servertest.NewPerson(p.DemoURL(), demoidp.Ada).Visit(t.Context(), *asked.AuthorizationUrl, "allow")
	if err != nil {
		t.Fatal(err)
	}
	page, err := url.Parse(arrival)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Data.CompleteResourceTokenAuth(t.Context(), &bedrockagentcore.CompleteResourceTokenAuthInput{
		SessionUri: aws.String(page.Query().Get("session_id")), UserIdentifier: &data.UserIdentifierMemberUserId{Value: "ada"},
	}); err != nil {
		t.Fatal(err)
	}
	return *out.WorkloadAccessToken
}
