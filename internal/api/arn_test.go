package api

import (
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// The ARNs are those that AWS returns, and its own patterns take them where the model has one that is right.
func TestARNs(t *testing.T) {
	t.Parallel()
	const region, account = "us-east-1", "000000000000"
	for want, got := range map[string]string{
		"arn:aws:bedrock-agentcore:us-east-1:000000000000:workload-identity-directory/default":                         WorkloadIdentityDirectoryARN(region, account),
		"arn:aws:bedrock-agentcore:us-east-1:000000000000:workload-identity-directory/default/workload-identity/me":    WorkloadIdentityARN(region, account, "me"),
		"arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default":                                         TokenVaultARN(region, account),
		"arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default/oauth2credentialprovider/google":         Oauth2CredentialProviderARN(region, account, "google"),
		"arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default/apikeycredentialprovider/weather":        ApiKeyCredentialProviderARN(region, account, "weather"),
		"arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/demo-0123456789":                                     GatewayARN(region, account, "demo-0123456789"),
		"arn:aws:secretsmanager:us-east-1:000000000000:secret:bedrock-agentcore-identity!default/oauth2/google-AbCdEf": SecretARN(region, account, "bedrock-agentcore-identity!default/oauth2/google-AbCdEf"),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
		parsed, err := ParseARN(got)
		if err != nil || parsed.String() != got || parsed.Account != account || parsed.Region != region {
			t.Errorf("%s parses as %+v, %v", got, parsed, err)
		}
	}
	for _, rule := range []struct {
		pattern *pattern
		arn     string
	}{
		{controlRuleTaggableResourcesArn.pattern, GatewayARN(region, account, "demo-0123456789")},
		{controlRuleTaggableResourcesArn.pattern, WorkloadIdentityARN(region, account, "me")},
		{controlRuleOAuthCredentialProviderArn.pattern, Oauth2CredentialProviderARN(region, account, "google")},
		{controlRuleRoleArn.pattern, "arn:aws:iam::000000000000:role/gateway"},
	} {
		if !rule.pattern.match(rule.arn) {
			t.Errorf("%s does not match %s", rule.arn, rule.pattern.java)
		}
	}
}

func TestARNParts(t *testing.T) {
	t.Parallel()
	a, err := ParseARN("arn:aws:bedrock-agentcore:us-east-1:123456789012:token-vault/default/oauth2credentialprovider/google")
	if err != nil || a.Type() != "token-vault" || a.Name() != "google" {
		t.Errorf("%+v, %v", a, err)
	}
	a, err = ParseARN("arn:aws:iam::123456789012:root")
	if err != nil || a.Region != "" || a.Type() != "root" || a.Name() != "root" {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestParseARNRefuses(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"", "gateway/x", "arn:aws:bedrock-agentcore:us-east-1:123456789012", "arn::bedrock-agentcore:us-east-1:123456789012:gateway/x",
		"arn:aws::us-east-1:123456789012:gateway/x", "arn:aws:bedrock-agentcore:us-east-1:12345:gateway/x", "arn:aws:bedrock-agentcore:us-east-1:12345678901x:gateway/x",
		"arn:aws:bedrock-agentcore:us east:123456789012:gateway/x", "arn:aws:bedrock-agentcore:us-east-1:123456789012:", "ARN:aws:bedrock-agentcore:us-east-1:123456789012:gateway/x",
		"arn:aws:bedrock-agentcore:us-east-1:123456789012:gateway/\x00", "arn:aws:bedrock-agentcore:us-east-1:123456789012:" + strings.Repeat("x", 2048),
	} {
		if a, err := ParseARN(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.60q parses as %+v, %v", bad, a, err)
		}
	}
}

// What parses, prints as it came, and its parts hold what they promise.
func FuzzParseARN(f *testing.F) {
	for _, seed := range []string{"arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/demo-0123456789", "arn:aws:iam::000000000000:role/a:b", "arn:::::", "arn:aws:s3:::bucket/key"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseARN(text)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if a.String() != text {
			t.Fatalf("%q prints as %q", text, a.String())
		}
		if a.Account != "" && len(a.Account) != 12 || strings.Contains(a.Name(), "/") || !strings.HasPrefix(a.Resource, a.Type()) {
			t.Fatalf("%q parses as %+v", text, a)
		}
	})
}
