package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

type gatewaysCmd struct {
	List   gatewaysListCmd   `cmd:"" help:"List gateways." example:"onbehalf gateways list"`
	Show   gatewaysShowCmd   `cmd:"" help:"Show one, with the URL for MCP clients." example:"onbehalf gateways show greeter"`
	Create gatewaysCreateCmd `cmd:"" help:"Make one: an MCP server before your APIs."`
	Tools  gatewaysToolsCmd  `cmd:"" help:"List the tools that an MCP client sees."`
	Delete gatewaysDeleteCmd `cmd:"" help:"Delete one that has no targets any more." example:"onbehalf gateways delete greeter"`
}

// Help is shown below the commands of gateways.
func (gatewaysCmd) Help() string {
	return `Examples:
  onbehalf gateways create greeter --discovery-url https://id.example.com/.well-known/openid-configuration --audience my-app
  onbehalf targets create greeter people --openapi people.yaml --provider people --scope profile --return-url https://app.example.com/back
A gateway is named by its name or its id.`
}

// gateway is a gateway in JSON.
type gateway struct {
	ID          string      `json:"id"`
	Name        string      `json:"name"`
	ARN         string      `json:"arn,omitempty"`
	URL         string      `json:"url,omitempty"`
	Status      string      `json:"status"`
	Authorizer  *authorizer `json:"authorizer"`
	RoleARN     string      `json:"roleArn,omitempty"`
	WorkloadARN string      `json:"workloadIdentityArn,omitempty"`
	Description string      `json:"description,omitempty"`
	Versions    []string    `json:"mcpVersions,omitempty"`
	Created     *time.Time  `json:"created,omitempty"`
	Updated     *time.Time  `json:"updated,omitempty"`
}

// authorizer says who may call a gateway.
type authorizer struct {
	Type         string   `json:"type"`
	DiscoveryURL string   `json:"discoveryUrl,omitempty"`
	Audiences    []string `json:"audiences,omitempty"`
	Clients      []string `json:"clients,omitempty"`
	Scopes       []string `json:"scopes,omitempty"`
}

const gatewaysList = "onbehalf gateways list"

type gatewaysListCmd struct {
	platform
	listing
}

// Run lists them.
func (c gatewaysListCmd) Run(ctx context.Context, t *terminal) error {
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	now := time.Now()
	row := func(g gateway) []string {
		return []string{g.Name, g.ID, g.Authorizer.Type, g.Status, ago(g.Created, now)}
	}
	return p.advised(list(t, c.Output, columns("NAME", "ID", "AUTHORIZER", "STATUS", "CREATED"), row,
		"There are no gateways. Make one: onbehalf gateways create NAME", first(c.listing, p.gateways(ctx))), gatewaysList)
}

func (c *connection) gateways(ctx context.Context) iter.Seq2[gateway, error] {
	pager := control.NewListGatewaysPaginator(c.control, &control.ListGatewaysInput{})
	return pages(func() (items []gateway, more bool, err error) {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, false, err
		}
		for _, g := range page.Items {
			items = append(items, gateway{ID: aws.ToString(g.GatewayId), Name: aws.ToString(g.Name), Status: string(g.Status), Authorizer: &authorizer{Type: string(g.AuthorizerType)},
				Description: aws.ToString(g.Description), Created: moment(g.CreatedAt), Updated: moment(g.UpdatedAt)})
		}
		return items, pager.HasMorePages(), nil
	})
}

// gatewayID is what the platform makes of a gateway's name.
var gatewayID = regexp.MustCompile(`^[0-9a-z-]{1,200}-[0-9a-z]{10}$`)

// gateway finds one by its id, or else by its name.
func (c *connection) gateway(ctx context.Context, named string) (gateway, error) {
	if gatewayID.MatchString(named) {
		found, err := c.control.GetGateway(ctx, &control.GetGatewayInput{GatewayIdentifier: &named})
		if err == nil {
			return describeGateway(found), nil
		}
		if !isMissing(err) {
			return gateway{}, err
		}
	}
	for g, err := range c.gateways(ctx) {
		if err != nil {
			return gateway{}, err
		}
		if g.Name == named {
			found, err := c.control.GetGateway(ctx, &control.GetGatewayInput{GatewayIdentifier: &g.ID})
			if err != nil {
				return gateway{}, err
			}
			return describeGateway(found), nil
		}
	}
	return gateway{}, hinted{fmt.Errorf("there is no gateway %s", named), gatewaysList + " shows what there is"}
}

func describeGateway(g *control.GetGatewayOutput) gateway {
	shown := gateway{
		ID: aws.ToString(g.GatewayId), Name: aws.ToString(g.Name), ARN: aws.ToString(g.GatewayArn), URL: aws.ToString(g.GatewayUrl), Status: string(g.Status),
		Authorizer: &authorizer{Type: string(g.AuthorizerType)}, RoleARN: aws.ToString(g.RoleArn), Description: aws.ToString(g.Description),
		Created: moment(g.CreatedAt), Updated: moment(g.UpdatedAt),
	}
	if g.WorkloadIdentityDetails != nil {
		shown.WorkloadARN = aws.ToString(g.WorkloadIdentityDetails.WorkloadIdentityArn)
	}
	if jwt, is := g.AuthorizerConfiguration.(*types.AuthorizerConfigurationMemberCustomJWTAuthorizer); is {
		shown.Authorizer.DiscoveryURL, shown.Authorizer.Audiences = aws.ToString(jwt.Value.DiscoveryUrl), jwt.Value.AllowedAudience
		shown.Authorizer.Clients, shown.Authorizer.Scopes = jwt.Value.AllowedClients, jwt.Value.AllowedScopes
	}
	if mcp, is := g.ProtocolConfiguration.(*types.GatewayProtocolConfigurationMemberMcp); is {
		shown.Versions = mcp.Value.SupportedVersions
	}
	return shown
}

type gatewaysShowCmd struct {
	platform
	Gateway string `arg:"" name:"gateway" help:"Name or id of the gateway." complete:"gateways"`
}

// Run shows it.
func (c gatewaysShowCmd) Run(ctx context.Context, t *terminal) error {
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	g, err := p.gateway(ctx, c.Gateway)
	if err != nil {
		return p.advised(err, gatewaysList)
	}
	return showGateway(t, c.Output, g)
}

func showGateway(t *terminal, output string, g gateway) error {
	now := time.Now()
	return show(t, output, g, field{"Name", g.Name}, field{"ID", g.ID}, field{"URL", g.URL}, field{"Status", g.Status}, field{"Authorizer", g.Authorizer.Type},
		field{"Discovery URL", g.Authorizer.DiscoveryURL}, field{"Audiences", lines(g.Authorizer.Audiences)}, field{"Clients", lines(g.Authorizer.Clients)},
		field{"Scopes", lines(g.Authorizer.Scopes)}, field{"Role", g.RoleARN}, field{"Workload identity", g.WorkloadARN}, field{"MCP versions", lines(g.Versions)},
		field{"Description", g.Description}, field{"ARN", g.ARN}, field{"Created", exactly(g.Created, now)}, field{"Updated", exactly(g.Updated, now)})
}

type gatewaysCreateCmd struct {
	platform
	Name         string            `arg:"" name:"name" help:"Its name: letters, digits and -."`
	Authorizer   string            `name:"authorizer" enum:"jwt,none" default:"jwt" placeholder:"TYPE" help:"Who may call it: jwt, users with a sign-in token; none, anybody who reaches it. Default jwt." group:"Who may call it"`
	DiscoveryURL string            `name:"discovery-url" placeholder:"URL" help:"Of the users' sign-in provider." group:"Who may call it"`
	Audiences    []string          `name:"audience" placeholder:"AUD" sep:"none" help:"An audience of the tokens that count. Repeatable." group:"Who may call it"`
	Clients      []string          `name:"client" placeholder:"ID" sep:"none" help:"A client whose tokens count. Repeatable." group:"Who may call it"`
	Scopes       []string          `name:"scope" placeholder:"SCOPE" sep:"none" help:"A scope that tokens must have. Repeatable." group:"Who may call it"`
	Role         string            `name:"role" default:"onbehalf-default" placeholder:"ROLE" help:"The role that it runs under: a name or an ARN. Default onbehalf-default."`
	Description  string            `name:"description" placeholder:"TEXT" help:"For people."`
	Versions     []string          `name:"mcp-version" placeholder:"DATE" help:"A version of MCP that it speaks. Repeatable. Default: all it knows."`
	Tags         map[string]string `name:"tag" placeholder:"KEY=VALUE" help:"A tag. Repeatable."`
}

// Help is shown below the flags.
func (gatewaysCreateCmd) Help() string {
	return `Examples:
  onbehalf gateways create greeter --discovery-url https://id.example.com/.well-known/openid-configuration --audience my-app
  onbehalf gateways create open --authorizer none`
}

// Run makes it.
func (c gatewaysCreateCmd) Run(ctx context.Context, t *terminal) error {
	input := control.CreateGatewayInput{
		Name: &c.Name, ProtocolType: types.GatewayProtocolTypeMcp, AuthorizerType: types.AuthorizerTypeNone, Description: given(c.Description), Tags: c.Tags,
	}
	rules := len(c.Audiences) + len(c.Clients) + len(c.Scopes)
	switch {
	case c.Authorizer == "none" && (c.DiscoveryURL != "" || rules > 0):
		return usageError{errors.New("--authorizer none lets anybody in: no --discovery-url, --audience, --client or --scope goes with it")}
	case c.Authorizer == "none":
	case c.DiscoveryURL == "":
		return usageError{hinted{errors.New("--discovery-url is missing: who issues the tokens of those who may call it?"), "--authorizer none makes one for everybody who reaches it"}}
	case rules == 0:
		return usageError{errors.New("say which tokens count: --audience, --client or --scope")}
	default:
		input.AuthorizerType = types.AuthorizerTypeCustomJwt
		input.AuthorizerConfiguration = &types.AuthorizerConfigurationMemberCustomJWTAuthorizer{Value: types.CustomJWTAuthorizerConfiguration{
			DiscoveryUrl: &c.DiscoveryURL, AllowedAudience: c.Audiences, AllowedClients: c.Clients, AllowedScopes: c.Scopes,
		}}
	}
	if len(c.Versions) > 0 {
		input.ProtocolConfiguration = &types.GatewayProtocolConfigurationMemberMcp{Value: types.MCPGatewayConfiguration{SupportedVersions: c.Versions}}
	}
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	role, err := p.role(ctx, c.Role)
	if err != nil {
		return p.advised(err, gatewaysList)
	}
	input.RoleArn = &role
	made, err := p.control.CreateGateway(ctx, &input)
	if err != nil {
		return p.exists(err, "onbehalf gateways show "+c.Name+" shows it", "onbehalf roles list")
	}
	g, err := p.gateway(ctx, aws.ToString(made.GatewayId))
	if err != nil {
		return p.advised(err, gatewaysList)
	}
	return showGateway(t, c.Output, g)
}

// role is a role's ARN; a name is one of the caller's own account.
func (c *connection) role(ctx context.Context, named string) (string, error) {
	if strings.HasPrefix(named, "arn:") {
		return named, nil
	}
	who, err := sts.NewFromConfig(c.settings, func(o *sts.Options) { o.BaseEndpoint = &c.endpoint }).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", fmt.Errorf("asking for the account of role %s, which an ARN has in it: %w", named, err)
	}
	return "arn:aws:iam::" + aws.ToString(who.Account) + ":role/" + named, nil
}

type gatewaysDeleteCmd struct {
	platform
	Gateway string `arg:"" name:"gateway" help:"Name or id of the gateway." complete:"gateways"`
	Yes     bool   `name:"yes" help:"Do not ask."`
}

// Run deletes it.
func (c gatewaysDeleteCmd) Run(ctx context.Context, t *terminal) error {
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	g, err := p.gateway(ctx, c.Gateway)
	if err != nil {
		return p.advised(err, gatewaysList)
	}
	if err := t.sure(ctx, c.Yes, "Delete gateway "+g.Name+" ("+g.ID+") and all that users granted to it?"); err != nil {
		return err
	}
	if _, err := p.control.DeleteGateway(ctx, &control.DeleteGatewayInput{GatewayIdentifier: &g.ID}); err != nil {
		if strings.Contains(err.Error(), "target") {
			return hinted{p.advised(err, gatewaysList), "onbehalf targets list " + g.ID + " shows what is in the way"}
		}
		return p.advised(err, gatewaysList)
	}
	return c.done(t, "deleted")
}
