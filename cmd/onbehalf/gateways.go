package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
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
  onbehalf gateways create greeter --audience my-app \
    --discovery-url https://id.example.com/.well-known/openid-configuration
  onbehalf targets create greeter people --openapi people.yaml \
    --provider people --scope profile --return-url https://app.example.com/back
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
	listing
	platform
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

// gatewayAnswer is a gateway as the API has it, in a list or by itself.
type gatewayAnswer struct {
	ID          string `json:"gatewayId"`
	Name        string `json:"name"`
	ARN         string `json:"gatewayArn"`
	URL         string `json:"gatewayUrl"`
	Status      string `json:"status"`
	RoleARN     string `json:"roleArn"`
	Description string `json:"description"`
	Type        string `json:"authorizerType"`
	Authorizer  struct {
		JWT struct {
			DiscoveryURL string   `json:"discoveryUrl"`
			Audiences    []string `json:"allowedAudience"`
			Clients      []string `json:"allowedClients"`
			Scopes       []string `json:"allowedScopes"`
		} `json:"customJWTAuthorizer"`
	} `json:"authorizerConfiguration"`
	Protocol struct {
		MCP struct {
			Versions []string `json:"supportedVersions"`
		} `json:"mcp"`
	} `json:"protocolConfiguration"`
	Workload struct {
		ARN string `json:"workloadIdentityArn"`
	} `json:"workloadIdentityDetails"`
	Created clock `json:"createdAt"`
	Updated clock `json:"updatedAt"`
}

func (a gatewayAnswer) shown() gateway {
	jwt := a.Authorizer.JWT
	return gateway{
		ID: a.ID, Name: a.Name, ARN: a.ARN, URL: a.URL, Status: a.Status, RoleARN: a.RoleARN, WorkloadARN: a.Workload.ARN, Description: a.Description,
		Authorizer: &authorizer{Type: a.Type, DiscoveryURL: jwt.DiscoveryURL, Audiences: jwt.Audiences, Clients: jwt.Clients, Scopes: jwt.Scopes},
		Versions:   a.Protocol.MCP.Versions, Created: a.Created.at(), Updated: a.Updated.at(),
	}
}

func (c *connection) gateways(ctx context.Context) iter.Seq2[gateway, error] {
	return gatewayPages(ctx, c, "/gateways/", gatewayAnswer.shown)
}

// gatewayID is what the platform makes of a gateway's name.
var gatewayID = regexp.MustCompile(`^[0-9a-z-]{1,200}-[0-9a-z]{10}$`)

// gateway finds one by its id, or else by its name.
func (c *connection) gateway(ctx context.Context, named string) (gateway, error) {
	if gatewayID.MatchString(named) {
		g, err := c.gatewayByID(ctx, named)
		if !isMissing(err) {
			return g, err
		}
	}
	for g, err := range c.gateways(ctx) {
		if err != nil {
			return gateway{}, err
		}
		if g.Name == named {
			return c.gatewayByID(ctx, g.ID)
		}
	}
	return gateway{}, hinted{fmt.Errorf("there is no gateway %s", named), gatewaysList + " shows what there is"}
}

func (c *connection) gatewayByID(ctx context.Context, id string) (gateway, error) {
	var found gatewayAnswer
	err := c.call(ctx, http.MethodGet, gatewayPath(id), nil, &found)
	return found.shown(), err
}

func gatewayPath(id string) string { return "/gateways/" + url.PathEscape(id) + "/" }

// ofGateway is a gateway as an argument.
type ofGateway struct {
	platform
	Gateway string `arg:"" name:"gateway" help:"Name or id of the gateway." complete:"gateways"`
}

// in connects and finds the gateway.
func (o ofGateway) in(ctx context.Context, t *terminal) (*connection, gateway, error) {
	p, err := o.connect(ctx, t)
	if err != nil {
		return nil, gateway{}, err
	}
	g, err := p.gateway(ctx, o.Gateway)
	return p, g, p.advised(err, gatewaysList)
}

type gatewaysShowCmd struct{ ofGateway }

// Run shows it.
func (c gatewaysShowCmd) Run(ctx context.Context, t *terminal) error {
	_, g, err := c.in(ctx, t)
	if err != nil {
		return err
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
	platform
}

// Help is shown below the flags.
func (gatewaysCreateCmd) Help() string {
	return `Examples:
  onbehalf gateways create greeter --audience my-app \
    --discovery-url https://id.example.com/.well-known/openid-configuration
  onbehalf gateways create open --authorizer none`
}

// Run makes it.
func (c gatewaysCreateCmd) Run(ctx context.Context, t *terminal) error {
	input := object{"name": c.Name, "protocolType": "MCP", "authorizerType": "NONE", "clientToken": onceToken(), "tags": tagged(c.Tags)}.with("description", c.Description)
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
		jwt := object{"discoveryUrl": c.DiscoveryURL}
		for name, values := range map[string][]string{"allowedAudience": c.Audiences, "allowedClients": c.Clients, "allowedScopes": c.Scopes} {
			if len(values) > 0 {
				jwt[name] = values
			}
		}
		input["authorizerType"], input["authorizerConfiguration"] = "CUSTOM_JWT", object{"customJWTAuthorizer": jwt}
	}
	if len(c.Versions) > 0 {
		input["protocolConfiguration"] = object{"mcp": object{"supportedVersions": c.Versions}}
	}
	p, err := c.connect(ctx, t)
	if err != nil {
		return err
	}
	role, err := p.role(ctx, c.Role)
	if err != nil {
		return p.advised(err, gatewaysList)
	}
	input["roleArn"] = role
	var made gatewayAnswer
	if err := p.call(ctx, http.MethodPost, "/gateways/", input, &made); err != nil {
		return p.exists(err, "onbehalf gateways show "+c.Name+" shows it", "onbehalf roles list")
	}
	g, err := p.gatewayByID(ctx, made.ID)
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
	account, err := c.account(ctx)
	if isDenied(err) {
		return "", hinted{err, "give the role's ARN, --role arn:aws:iam::ACCOUNT:role/" + named + ", or let the key do sts:GetCallerIdentity"}
	}
	return "arn:aws:iam::" + account + ":role/" + named, err
}

type gatewaysDeleteCmd struct {
	ofGateway
	Yes bool `name:"yes" help:"Do not ask."`
}

// Run deletes it.
func (c gatewaysDeleteCmd) Run(ctx context.Context, t *terminal) error {
	p, g, err := c.in(ctx, t)
	if err != nil {
		return err
	}
	if err := t.sure(ctx, c.Yes, "Delete gateway "+g.Name+" ("+g.ID+") and all that users granted to it?"); err != nil {
		return err
	}
	if err := p.call(ctx, http.MethodDelete, gatewayPath(g.ID), nil, nil); err != nil {
		if strings.Contains(err.Error(), "target") {
			return hinted{p.advised(err, gatewaysList), "onbehalf targets list " + g.ID + " shows what is in the way"}
		}
		return p.advised(err, gatewaysList)
	}
	return c.done(t, "deleted")
}
