package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

const (
	tenant      = "111111111111"
	defaultRole = "arn:aws:iam::000000000000:role/onbehalf-default"
)

// operator is the one with the platform's data folder.
func operator(t *testing.T, p *servertest.Platform) *server.Operator {
	t.Helper()
	o, err := server.OpenOperator(t.Context(), server.Storage{Data: p.Config.Data})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

// with is the control client under a key.
func with(p *servertest.Platform, key auth.NewKey) *bedrockagentcorecontrol.Client {
	c := p.AWS.Copy()
	c.Credentials = credentials.NewStaticCredentialsProvider(key.ID, key.Secret.Reveal(), "")
	return bedrockagentcorecontrol.NewFromConfig(c)
}

func user(t *testing.T, o *server.Operator, account, name, document string) auth.NewKey {
	t.Helper()
	arn := "arn:aws:iam::" + account + ":user/" + name
	key, err := o.CreateKey(t.Context(), account, arn)
	if err != nil {
		t.Fatal(err)
	}
	if document != "" {
		if err := o.PutPolicy(t.Context(), account, arn, "own", document); err != nil {
			t.Fatal(err)
		}
	}
	return key
}

func openGateway(t *testing.T, c *bedrockagentcorecontrol.Client, name string) string {
	t.Helper()
	made, err := c.CreateGateway(t.Context(), &bedrockagentcorecontrol.CreateGatewayInput{Name: &name, RoleArn: aws.String(defaultRole), AuthorizerType: types.AuthorizerTypeNone})
	if err != nil {
		t.Fatal(err)
	}
	return *made.GatewayArn
}

func putResourcePolicy(ctx context.Context, c *bedrockagentcorecontrol.Client, arn string, statements ...string) error {
	document := `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
	_, err := c.PutResourcePolicy(ctx, &bedrockagentcorecontrol.PutResourcePolicyInput{ResourceArn: &arn, Policy: &document})
	return err
}

func refusedWith(t *testing.T, what string, err error, says string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: got %v, want %q", what, err, says)
	}
}

// Another account's user reads a gateway's tags and policy where both its own
// policies and the gateway's say so, and never otherwise; the policy goes with
// the gateway.
func TestResourcePolicyAcrossAccounts(t *testing.T) {
	p := servertest.Start(t)
	ctx, o := t.Context(), operator(t, p)
	if _, err := o.CreateAccount(ctx, tenant); err != nil {
		t.Fatal(err)
	}
	arn := openGateway(t, p.Control, "shared")
	eve := with(p, user(t, o, tenant, "eve", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"bedrock-agentcore:*","Resource":"*"}}`))
	get := func(c *bedrockagentcorecontrol.Client) error {
		_, err := c.GetResourcePolicy(ctx, &bedrockagentcorecontrol.GetResourcePolicyInput{ResourceArn: &arn})
		return err
	}
	refusedWith(t, "without a policy", get(eve), "no resource-based policy allows")

	open := fmt.Sprintf(`{"Effect":"Allow","Principal":"*","Action":"bedrock-agentcore:*","Resource":%q}`, arn)
	if err := putResourcePolicy(ctx, p.Control, arn, open); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, "with everybody", get(eve), "no resource-based policy allows")

	named := fmt.Sprintf(`{"Effect":"Allow","Principal":{"AWS":%q},"Action":["bedrock-agentcore:GetResourcePolicy","bedrock-agentcore:ListTagsForResource"],"Resource":%q}`, tenant, arn)
	if err := putResourcePolicy(ctx, p.Control, arn, named); err != nil {
		t.Fatal(err)
	}
	if err := get(eve); err != nil {
		t.Errorf("named: %v", err)
	}
	if _, err := eve.ListTagsForResource(ctx, &bedrockagentcorecontrol.ListTagsForResourceInput{ResourceArn: &arn}); err != nil {
		t.Errorf("its tags: %v", err)
	}
	_, err := eve.TagResource(ctx, &bedrockagentcorecontrol.TagResourceInput{ResourceArn: &arn, Tags: map[string]string{"a": "b"}})
	refusedWith(t, "another action", err, "no resource-based policy allows")
	refusedWith(t, "changing its policy", putResourcePolicy(ctx, eve, arn, open), "no resource-based policy allows")
	refusedWith(t, "without own policies", get(with(p, user(t, o, tenant, "bob", ""))), "no identity-based policy allows")

	id := arn[strings.LastIndex(arn, "/")+1:]
	if _, err := p.Control.DeleteGateway(ctx, &bedrockagentcorecontrol.DeleteGatewayInput{GatewayIdentifier: &id}); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, "after the gateway", get(eve), "no resource-based policy allows")
}

// A gateway's policy decides on its callers, who have no policies of their own.
func TestResourcePolicyOfAnOpenGateway(t *testing.T) {
	p := servertest.Start(t)
	ctx := t.Context()
	arn := openGateway(t, p.Control, "open")
	url := p.URL() + "/gateway/" + arn[strings.LastIndex(arn, "/")+1:] + "/mcp"
	list := func() int {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	from := func(effect, operator, address string) string {
		return fmt.Sprintf(`{"Effect":%q,"Principal":"*","Action":"bedrock-agentcore:InvokeGateway","Resource":%q,"Condition":{%q:{"aws:SourceIp":%q}}}`, effect, arn, operator, address)
	}
	for _, c := range []struct {
		statements []string
		want       int
	}{
		{nil, http.StatusOK},
		{[]string{from("Allow", "IpAddress", "127.0.0.0/8")}, http.StatusOK},
		{[]string{from("Allow", "IpAddress", "10.0.0.0/8")}, http.StatusForbidden},
		{[]string{from("Allow", "IpAddress", "127.0.0.0/8"), from("Deny", "NotIpAddress", "10.0.0.0/8")}, http.StatusForbidden},
	} {
		if c.statements != nil {
			if err := putResourcePolicy(ctx, p.Control, arn, c.statements...); err != nil {
				t.Fatal(err)
			}
		}
		if got := list(); got != c.want {
			t.Errorf("with %v: %d, want %d", c.statements, got, c.want)
		}
	}
}

// Who makes or changes a gateway must be allowed to pass its role, which must be
// of the account and exist.
func TestRolesOfGateways(t *testing.T) {
	p := servertest.Start(t)
	ctx, o := t.Context(), operator(t, p)
	if _, err := o.CreateAccount(ctx, tenant); err != nil {
		t.Fatal(err)
	}
	if err := o.CreateRole(ctx, server.DefaultAccount, "strong"); err != nil {
		t.Fatal(err)
	}
	clerk := with(p, user(t, o, server.DefaultAccount, "clerk", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"bedrock-agentcore:*","Resource":"*"},
		{"Effect":"Allow","Action":"iam:PassRole","Resource":"`+defaultRole+`","Condition":{"StringEquals":{"iam:PassedToService":"bedrock-agentcore.amazonaws.com"},
			"ArnLike":{"iam:AssociatedResourceArn":"arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/*"}}}]}`))
	create := func(c *bedrockagentcorecontrol.Client, role string) error {
		_, err := c.CreateGateway(ctx, &bedrockagentcorecontrol.CreateGatewayInput{Name: aws.String("other"), RoleArn: &role, AuthorizerType: types.AuthorizerTypeNone})
		return err
	}
	const strong = "arn:aws:iam::000000000000:role/strong"
	refusedWith(t, "a role that may not be passed", create(clerk, strong), "is not authorized to perform: iam:PassRole on resource: "+strong)
	refusedWith(t, "another account's role", create(p.Control, "arn:aws:iam::"+tenant+":role/onbehalf-default"), "is not authorized to perform: iam:PassRole")
	refusedWith(t, "a role that is not there", create(p.Control, "arn:aws:iam::000000000000:role/nobody"), "does not exist")
	refusedWith(t, "a user", create(p.Control, "arn:aws:iam::000000000000:user/clerk"), "roleArn")

	arn := openGateway(t, clerk, "own")
	update := func(role string) error {
		_, err := clerk.UpdateGateway(ctx, &bedrockagentcorecontrol.UpdateGatewayInput{GatewayIdentifier: aws.String(arn[strings.LastIndex(arn, "/")+1:]), Name: aws.String("own"), RoleArn: &role, AuthorizerType: types.AuthorizerTypeNone})
		return err
	}
	refusedWith(t, "an update to it", update(strong), "iam:PassRole")
	if err := update(defaultRole); err != nil {
		t.Error(err)
	}
}

// A user who asks too often hears it in AWS's words, with when to try again; the
// root key, and everybody else, goes on.
func TestThrottling(t *testing.T) {
	p := servertest.Start(t, func(c *server.Config) { c.Limits = []string{"control-read=0.1"} })
	o := operator(t, p)
	all := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`
	first, second := user(t, o, server.DefaultAccount, "ada", all), user(t, o, server.DefaultAccount, "bob", all)
	another, err := o.CreateKey(t.Context(), server.DefaultAccount, "arn:aws:iam::000000000000:user/ada")
	if err != nil {
		t.Fatal(err)
	}
	list := func(c *bedrockagentcorecontrol.Client) error {
		_, err := c.ListGateways(t.Context(), &bedrockagentcorecontrol.ListGatewaysInput{}, func(o *bedrockagentcorecontrol.Options) { o.RetryMaxAttempts = 1 })
		return err
	}
	if err := list(with(p, first)); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, "the second time", list(with(p, first)), "ThrottlingException: Rate exceeded: arn:aws:iam::000000000000:user/ada may do bedrock-agentcore:ListGateways (control-read) at most 0.1 times a second")
	refusedWith(t, "with another key", list(with(p, another)), "ThrottlingException")
	var response *awshttp.ResponseError
	if err := list(with(p, first)); !errors.As(err, &response) || response.HTTPStatusCode() != http.StatusTooManyRequests || response.Response.Header.Get("Retry-After") == "" {
		t.Errorf("%v", err)
	}
	for _, c := range []*bedrockagentcorecontrol.Client{with(p, second), p.Control, p.Control} {
		if err := list(c); err != nil {
			t.Error(err)
		}
	}
}

// An address that floods a gateway without inbound authorization is held back.
func TestOpenGatewayIsLimitedPerAddress(t *testing.T) {
	p := servertest.Start(t, func(c *server.Config) { c.Limits = []string{"open-gateway=0.2"} }) // on loopback ten times as much: 20 at once
	arn := openGateway(t, p.Control, "open")
	url, status := p.URL()+"/gateway/"+arn[strings.LastIndex(arn, "/")+1:]+"/mcp", 0
	for range 21 {
		response, err := http.Post(url, "application/json", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`))
		if err != nil {
			t.Fatal(err)
		}
		status = response.StatusCode
		_ = response.Body.Close()
	}
	if status != http.StatusTooManyRequests {
		t.Errorf("the last of them: %d", status)
	}
}
