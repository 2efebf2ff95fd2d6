package wire

import (
	"errors"
	"io"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	datatypes "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/smithy-go"

	"github.com/onbehalf/onbehalf/internal/secret"
)

// The official client is the judge: it signs, sends, reads, and makes its typed
// errors of what this door answers.

func (h *house) clients() (*bedrockagentcorecontrol.Client, *bedrockagentcore.Client) {
	config := aws.Config{
		Region: region, BaseEndpoint: aws.String(h.URL),
		Credentials:      credentials.NewStaticCredentialsProvider(h.key.ID, h.key.Secret.Reveal(), ""),
		RetryMaxAttempts: 1,
	}
	return bedrockagentcorecontrol.NewFromConfig(config), bedrockagentcore.NewFromConfig(config)
}

func TestTheOfficialClientReads(t *testing.T) {
	t.Parallel()
	h := newHouse(t, rooms()...)
	control, data := h.clients()
	ctx := t.Context()

	created, err := control.CreateWorkloadIdentity(ctx, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: aws.String("sayhello"), AllowedResourceOauth2ReturnUrls: []string{"http://localhost:9090/oauth2/callback"}})
	if err != nil || aws.ToString(created.Name) != "sayhello" || len(created.AllowedResourceOauth2ReturnUrls) != 1 {
		t.Errorf("create: %+v, %v", created, err)
	}
	got, err := control.GetWorkloadIdentity(ctx, &bedrockagentcorecontrol.GetWorkloadIdentityInput{Name: aws.String("sayhello")})
	if err != nil || !aws.ToTime(got.CreatedTime).Equal(moment) {
		t.Errorf("get: %+v, %v", got, err)
	}
	if _, err := control.DeleteWorkloadIdentity(ctx, &bedrockagentcorecontrol.DeleteWorkloadIdentityInput{Name: aws.String("sayhello")}); err != nil {
		t.Errorf("delete: %v", err)
	}
	gateway, err := control.GetGateway(ctx, &bedrockagentcorecontrol.GetGatewayInput{GatewayIdentifier: aws.String("demo-0123456789")})
	if err != nil || gateway.Status != types.GatewayStatusReady || !aws.ToTime(gateway.CreatedAt).Equal(moment) {
		t.Errorf("gateway: %+v, %v", gateway, err)
	}
	tags, err := control.ListTagsForResource(ctx, &bedrockagentcorecontrol.ListTagsForResourceInput{ResourceArn: gateway.GatewayArn})
	if err != nil || tags.Tags["arn"] != aws.ToString(gateway.GatewayArn) {
		t.Errorf("an ARN in the path: %+v, %v", tags, err)
	}
	if _, err := control.UntagResource(ctx, &bedrockagentcorecontrol.UntagResourceInput{ResourceArn: gateway.GatewayArn, TagKeys: []string{"color", "size"}}); err != nil {
		t.Errorf("untag: %v", err)
	}
	token, err := data.GetResourceOauth2Token(ctx, &bedrockagentcore.GetResourceOauth2TokenInput{WorkloadIdentityToken: aws.String("t"), ResourceCredentialProviderName: aws.String("google"), Scopes: []string{"openid"}, Oauth2Flow: datatypes.Oauth2FlowTypeM2m})
	if err != nil || aws.ToString(token.AccessToken) != "for openid" {
		t.Errorf("token: %+v, %v", token, err)
	}
	if _, err := data.CompleteResourceTokenAuth(ctx, &bedrockagentcore.CompleteResourceTokenAuthInput{SessionUri: aws.String("urn:ietf:params:oauth:request_uri:abc"), UserIdentifier: &datatypes.UserIdentifierMemberUserId{Value: "ada"}}); err != nil {
		t.Errorf("complete: %v", err)
	}
	invoked, err := data.InvokeAgentRuntime(ctx, &bedrockagentcore.InvokeAgentRuntimeInput{AgentRuntimeArn: aws.String("arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/echo-0123456789"), Payload: []byte("hello")})
	if err != nil {
		t.Fatalf("invoke: %v", err)
	}
	defer invoked.Response.Close()
	if said, err := io.ReadAll(invoked.Response); err != nil || string(said) != "you said hello" || aws.ToString(invoked.RuntimeSessionId) == "" {
		t.Errorf("invoke: %q, %v", said, err)
	}
}

func TestTheOfficialClientPages(t *testing.T) {
	t.Parallel()
	control, _ := newHouse(t, rooms()...).clients()
	var names []string
	for pages := bedrockagentcorecontrol.NewListWorkloadIdentitiesPaginator(control, &bedrockagentcorecontrol.ListWorkloadIdentitiesInput{MaxResults: aws.Int32(1)}); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, identity := range page.WorkloadIdentities {
			names = append(names, aws.ToString(identity.Name))
		}
	}
	if len(names) != 2 || names[0] != "one" || names[1] != "two" {
		t.Errorf("pages of %v", names)
	}
}

func TestTheOfficialClientReadsErrors(t *testing.T) {
	t.Parallel()
	h := newHouse(t, rooms()...)
	control, data := h.clients()
	ctx := t.Context()

	_, err := control.GetWorkloadIdentity(ctx, &bedrockagentcorecontrol.GetWorkloadIdentityInput{Name: aws.String("missing")})
	var missing *types.ResourceNotFoundException
	if !errors.As(err, &missing) {
		t.Errorf("missing: %v", err)
	}
	_, err = control.CreateWorkloadIdentity(ctx, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: aws.String("a b")})
	var invalid *types.ValidationException
	if !errors.As(err, &invalid) || invalid.Reason != types.ValidationExceptionReasonFieldValidationFailed || len(invalid.FieldList) != 1 || aws.ToString(invalid.FieldList[0].Name) != "name" {
		t.Errorf("invalid: %v", err)
	}
	_, err = control.GetGateway(ctx, &bedrockagentcorecontrol.GetGatewayInput{GatewayIdentifier: aws.String("busy-0123456789")})
	var throttled *types.ThrottlingException
	if !errors.As(err, &throttled) {
		t.Errorf("throttled: %v", err)
	}
	_, err = data.GetResourceOauth2Token(ctx, &bedrockagentcore.GetResourceOauth2TokenInput{WorkloadIdentityToken: aws.String("expired"), ResourceCredentialProviderName: aws.String("google"), Scopes: []string{}, Oauth2Flow: datatypes.Oauth2FlowTypeM2m})
	var unauthorized *datatypes.UnauthorizedException
	if !errors.As(err, &unauthorized) {
		t.Errorf("unauthorized: %v", err)
	}
	h.key.Secret = secret.New("not the secret")
	control, _ = h.clients()
	_, err = control.GetGateway(ctx, &bedrockagentcorecontrol.GetGatewayInput{GatewayIdentifier: aws.String("demo-0123456789")})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "InvalidSignatureException" {
		t.Errorf("wrong secret: %v", err)
	}
}
