package server_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/smithy-go"

	"github.com/onbehalf/onbehalf/internal/servertest"
)

func TestTagsOfEverythingThatHasSome(t *testing.T) {
	p := servertest.Start(t)
	ctx, tags := t.Context(), map[string]string{"team": "blue", "stage": "test"}
	workload, err := p.Control.CreateWorkloadIdentity(ctx, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: aws.String("agent"), Tags: tags})
	if err != nil {
		t.Fatal(err)
	}
	google := &types.Oauth2ProviderConfigInputMemberGoogleOauth2ProviderConfig{Value: types.GoogleOauth2ProviderConfigInput{ClientId: aws.String("id"), ClientSecret: aws.String("secret")}}
	oauth2, err := p.Control.CreateOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: aws.String("google"), CredentialProviderVendor: types.CredentialProviderVendorTypeGoogleOauth2, Oauth2ProviderConfigInput: google, Tags: tags,
	})
	if err != nil {
		t.Fatal(err)
	}
	apiKey, err := p.Control.CreateApiKeyCredentialProvider(ctx, &bedrockagentcorecontrol.CreateApiKeyCredentialProviderInput{Name: aws.String("google"), ApiKey: aws.String("key"), Tags: tags})
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := p.Control.CreateGateway(ctx, &bedrockagentcorecontrol.CreateGatewayInput{
		Name: aws.String("gate"), RoleArn: aws.String("arn:aws:iam::000000000000:role/onbehalf-default"), AuthorizerType: types.AuthorizerTypeNone, Tags: tags,
	})
	if err != nil {
		t.Fatal(err)
	}
	untagged, err := p.Control.CreateApiKeyCredentialProvider(ctx, &bedrockagentcorecontrol.CreateApiKeyCredentialProviderInput{Name: aws.String("plain"), ApiKey: aws.String("key")})
	if err != nil {
		t.Fatal(err)
	}

	tagsOf := func(arn string) map[string]string {
		got, err := p.Control.ListTagsForResource(ctx, &bedrockagentcorecontrol.ListTagsForResourceInput{ResourceArn: &arn})
		if err != nil {
			t.Fatal(err)
		}
		return got.Tags
	}
	add := func(arn string, tags map[string]string) error {
		_, err := p.Control.TagResource(ctx, &bedrockagentcorecontrol.TagResourceInput{ResourceArn: &arn, Tags: tags})
		return err
	}
	remove := func(arn string, keys ...string) error {
		_, err := p.Control.UntagResource(ctx, &bedrockagentcorecontrol.UntagResourceInput{ResourceArn: &arn, TagKeys: keys})
		return err
	}
	arns := []string{*workload.WorkloadIdentityArn, *oauth2.CredentialProviderArn, *apiKey.CredentialProviderArn, *gateway.GatewayArn}
	for i, arn := range arns {
		if got := tagsOf(arn); !maps.Equal(got, tags) {
			t.Errorf("%s has %v", arn, got)
		}
		own := map[string]string{"team": "red", "of": fmt.Sprint(i), "empty": ""}
		if err := errors.Join(add(arn, own), remove(arn, "stage", "never there")); err != nil {
			t.Fatal(err)
		}
		if got := tagsOf(arn); !maps.Equal(got, own) {
			t.Errorf("%s has %v instead of %v", arn, got, own)
		}
		many := map[string]string{}
		for n := range 48 {
			many[fmt.Sprint("key", n)] = "x"
		}
		wantCode(t, add(arn, many), "ServiceQuotaExceededException")
		if got := tagsOf(arn); !maps.Equal(got, own) {
			t.Errorf("%s: what was refused has been stored", arn)
		}
	}
	if got := tagsOf(*untagged.CredentialProviderArn); len(got) != 0 {
		t.Errorf("no tags are %v", got)
	}
	if err := add(*untagged.CredentialProviderArn, tags); err != nil || !maps.Equal(tagsOf(*untagged.CredentialProviderArn), tags) {
		t.Errorf("tagging what has none: %v", err)
	}

	for arn, code := range map[string]string{
		strings.Replace(arns[0], "/agent", "/nobody", 1):            "ResourceNotFoundException",
		strings.Replace(arns[1], "/google", "/nobody", 1):           "ResourceNotFoundException",
		strings.Replace(arns[2], "/google", "/nobody", 1):           "ResourceNotFoundException",
		strings.Replace(arns[3], "/gate-", "/gone-", 1):             "ResourceNotFoundException",
		strings.Replace(arns[2], "apikey", "payment", 1):            "ResourceNotFoundException",
		strings.Replace(arns[1], "us-east-1", "eu-west-1", 1):       "ResourceNotFoundException",
		strings.Replace(arns[1], "000000000000", "111111111111", 1): "AccessDeniedException",
		"arn:aws:s3:::not-one-of-ours-at-all":                       "ValidationException",
	} {
		_, err := p.Control.ListTagsForResource(ctx, &bedrockagentcorecontrol.ListTagsForResourceInput{ResourceArn: &arn})
		wantCode(t, err, code)
		wantCode(t, add(arn, tags), code)
		wantCode(t, remove(arn, "team"), code)
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var known smithy.APIError
	if !errors.As(err, &known) || known.ErrorCode() != code {
		t.Errorf("got %v, want %s", err, code)
	}
}
