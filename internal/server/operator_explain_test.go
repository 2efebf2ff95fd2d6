package server_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"

	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// An explanation knows what the server knows without being told: the tags of the
// resource, and the region that calls are made to.
func TestExplanationKnowsTagsAndRegion(t *testing.T) {
	p := servertest.Start(t, func(c *server.Config) { c.Region = "eu-central-1" })
	made, err := p.Control.CreateApiKeyCredentialProvider(t.Context(), &bedrockagentcorecontrol.CreateApiKeyCredentialProviderInput{
		Name: aws.String("openai"), ApiKey: aws.String("key"), Tags: map[string]string{"team": "red"}},
		func(o *bedrockagentcorecontrol.Options) { o.Region = "eu-central-1" })
	if err != nil {
		t.Fatal(err)
	}
	o := operator(t, p)
	for condition, want := range map[string]bool{
		`"aws:ResourceTag/team":"red"`: true, `"aws:ResourceTag/team":"blue"`: false,
		`"aws:RequestedRegion":"eu-central-1"`: true, `"aws:RequestedRegion":"us-east-1"`: false,
	} {
		user(t, o, server.DefaultAccount, "ada", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{`+condition+`}}}}`)
		resource := "*"
		if strings.Contains(condition, "Tag") {
			resource = *made.CredentialProviderArn
		}
		got, err := o.Explain(t.Context(), server.DefaultAccount, "arn:aws:iam::000000000000:user/ada", "bedrock-agentcore:GetResourceApiKey", resource, nil)
		if err != nil || got.Allowed != want {
			t.Errorf("%s: %t, %s, %v", condition, got.Allowed, got.Reason, err)
		}
	}
}
