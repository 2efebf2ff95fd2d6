package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/smithy-go"
)

// issued is what the commands print as JSON.
type issued struct{ AccessKeyId, SecretAccessKey, SessionToken string }

// operate runs one of the operator's commands beside the running server.
func (p *platform) operate(stdin string, args ...string) []byte {
	p.t.Helper()
	command := exec.Command(onbehalfBinary, append(args, "--data", p.data, "--output", "json")...)
	var out, problems bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(stdin), &out, &problems
	if err := command.Run(); err != nil {
		p.t.Fatalf("onbehalf %s: %v\n%s", strings.Join(args, " "), err, problems.String())
	}
	return out.Bytes()
}

func (p *platform) issue(args ...string) issued {
	p.t.Helper()
	var key issued
	if err := json.Unmarshal(p.operate("", args...), &key); err != nil || key.SecretAccessKey == "" {
		p.t.Fatalf("onbehalf %s: %v", strings.Join(args, " "), err)
	}
	return key
}

// as are the official clients with these credentials.
func (p *platform) as(key issued) (*bedrockagentcorecontrol.Client, *bedrockagentcore.Client) {
	config := p.aws.Copy()
	config.Credentials = credentials.NewStaticCredentialsProvider(key.AccessKeyId, key.SecretAccessKey, key.SessionToken)
	return bedrockagentcorecontrol.NewFromConfig(config), bedrockagentcore.NewFromConfig(config)
}

// wantCode waits until a call ends with the code, "" for success: a change of an
// operator counts for calls that begin a second later, however long they take.
func wantCode(t *testing.T, what, code string, call func(context.Context) error) error {
	t.Helper()
	var err error
	for deadline := time.Now().Add(1500 * time.Millisecond); ; time.Sleep(50 * time.Millisecond) {
		began := time.Now()
		err = call(t.Context())
		got := ""
		var problem smithy.APIError
		if errors.As(err, &problem) {
			got = problem.ErrorCode()
		} else if err != nil {
			got = "no answer"
		}
		if got == code {
			return err
		}
		if began.After(deadline) {
			t.Errorf("%s: %v, want %q", what, err, code)
			return err
		}
	}
}

const denied = "AccessDeniedException"

// TestRestrictedKeys: a key may do exactly what its policy says, from the moment
// it says so, within its account, and with the real client.
func TestRestrictedKeys(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	for _, name := range []string{"mine", "yours"} {
		if _, err := p.control.CreateWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: aws.String(name)}); err != nil {
			t.Fatal(err)
		}
	}
	key := p.issue("keys", "create", "--principal", "user/ada")
	control, data := p.as(key)
	get := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := control.GetWorkloadIdentity(ctx, &bedrockagentcorecontrol.GetWorkloadIdentityInput{Name: aws.String(name)})
			return err
		}
	}
	list := func(ctx context.Context) error {
		_, err := control.ListWorkloadIdentities(ctx, &bedrockagentcorecontrol.ListWorkloadIdentitiesInput{})
		return err
	}
	remove := func(ctx context.Context) error {
		_, err := control.DeleteWorkloadIdentity(ctx, &bedrockagentcorecontrol.DeleteWorkloadIdentityInput{Name: aws.String("mine")})
		return err
	}
	token := func(ctx context.Context) error {
		_, err := data.GetWorkloadAccessToken(ctx, &bedrockagentcore.GetWorkloadAccessTokenInput{WorkloadName: aws.String("mine")})
		return err
	}

	err := wantCode(t, "without a policy", denied, get("mine"))
	if want := "User: arn:aws:iam::000000000000:user/ada is not authorized to perform: bedrock-agentcore:GetWorkloadIdentity on resource: arn:aws:bedrock-agentcore:us-east-1:000000000000:workload-identity-directory/default because no identity-based policy allows"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}

	const directory = "arn:aws:bedrock-agentcore:*:*:workload-identity-directory/default"
	policy := func(statements string) {
		t.Helper()
		p.operate(fmt.Sprintf(`{"Version":"2012-10-17","Statement":[%s]}`, statements), "policies", "put", "access", "--principal", "user/ada", "--document", "-")
	}
	allow := fmt.Sprintf(`{"Effect":"Allow","Action":"bedrock-agentcore:GetWorkload*","Resource":[%q,%q],"Condition":{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"},"StringEquals":{"aws:username":"ada"}}}`, directory, directory+"/workload-identity/mine")
	policy(allow)
	wantCode(t, "the workload that is named", "", get("mine"))
	wantCode(t, "a token for it", "", token)
	wantCode(t, "another workload", denied, get("yours"))
	wantCode(t, "another action", denied, list)
	wantCode(t, "a change", denied, remove)

	policy(allow + `,{"Effect":"Deny","Action":"bedrock-agentcore:*AccessToken","Resource":"*"}`)
	wantCode(t, "what is denied besides", denied, token)
	wantCode(t, "what is not", "", get("mine"))

	policy(strings.Replace(allow, "127.0.0.0/8", "10.0.0.0/8", 1))
	wantCode(t, "from another address", denied, get("mine"))

	policy(`{"Effect":"Allow","Action":"bedrock-agentcore:GetResourceApiKey","Resource":"*"}`)
	wantCode(t, "with the right to API keys alone", denied, get("mine"))
	wantCode(t, "with the right to API keys alone, a list", denied, list)

	policy(`{"Effect":"Allow","Action":"*","Resource":"*"}`)
	wantCode(t, "with all rights", "", get("mine"))

	// The root key of another account finds nothing of this one.
	foreign := p.issue("accounts", "create", "111111111111")
	theirs, _ := p.as(foreign)
	wantCode(t, "another account", "ResourceNotFoundException", func(ctx context.Context) error {
		_, err := theirs.GetWorkloadIdentity(ctx, &bedrockagentcorecontrol.GetWorkloadIdentityInput{Name: aws.String("mine")})
		return err
	})

	p.operate("", "keys", "disable", key.AccessKeyId)
	wantCode(t, "disabled", "UnrecognizedClientException", get("mine"))
	p.operate("", "keys", "enable", key.AccessKeyId)
	wantCode(t, "enabled", "", get("mine"))
	p.operate("", "keys", "delete", key.AccessKeyId)
	wantCode(t, "deleted", "UnrecognizedClientException", get("mine"))
}

// TestRoleCredentials: temporary credentials do what their role's policies say, and end with it.
func TestRoleCredentials(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	p.operate("", "roles", "create", "agent")
	control, _ := p.as(p.issue("roles", "credentials", "agent", "--session", "job-1"))
	list := func(ctx context.Context) error {
		_, err := control.ListWorkloadIdentities(ctx, &bedrockagentcorecontrol.ListWorkloadIdentitiesInput{})
		return err
	}
	err := wantCode(t, "without a policy", denied, list)
	if err == nil || !strings.Contains(err.Error(), "User: arn:aws:sts::000000000000:assumed-role/agent/job-1 is not authorized") {
		t.Error(err)
	}
	p.operate(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"bedrock-agentcore:ListWorkloadIdentities","Resource":"*","Condition":{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::*:role/agent"}}}}`,
		"roles", "put-policy", "agent", "access", "--document", "-")
	wantCode(t, "with one", "", list)
	p.operate("", "roles", "delete", "agent")
	wantCode(t, "without the role", "UnrecognizedClientException", list)
	p.operate("", "roles", "create", "agent")
	wantCode(t, "with a new role of its name", "UnrecognizedClientException", list)
}
