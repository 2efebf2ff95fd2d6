package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
)

type targetsCmd struct {
	List   targetsListCmd   `cmd:"" help:"List the targets of a gateway." example:"onbehalf targets list greeter"`
	Show   targetsShowCmd   `cmd:"" help:"Show one." example:"onbehalf targets show greeter people"`
	Create targetsCreateCmd `cmd:"" help:"Put a gateway before an API: each operation of its OpenAPI document is a tool."`
	Delete targetsDeleteCmd `cmd:"" help:"Delete one; its tools are gone at once." example:"onbehalf targets delete greeter people"`
}

// Help is shown below the commands of targets.
func (targetsCmd) Help() string {
	return `Examples:
  onbehalf targets create greeter people --openapi people.yaml --provider people --scope profile --return-url https://app.example.com/back
  onbehalf targets list greeter`
}

// target is a gateway's target in JSON.
type target struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Gateway     string     `json:"gatewayId"`
	Status      string     `json:"status"`
	Kind        string     `json:"kind,omitempty"`
	ProviderARN string     `json:"providerArn,omitempty"`
	Scopes      []string   `json:"scopes,omitempty"`
	ReturnURL   string     `json:"returnUrl,omitempty"`
	Description string     `json:"description,omitempty"`
	Reasons     []string   `json:"statusReasons,omitempty"`
	Created     *time.Time `json:"created,omitempty"`
	Updated     *time.Time `json:"updated,omitempty"`
}

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

func targetsList(g gateway) string { return "onbehalf targets list " + g.Name }

type targetsListCmd struct {
	ofGateway
	listing
}

// Run lists them.
func (c targetsListCmd) Run(ctx context.Context, t *terminal) error {
	p, g, err := c.in(ctx, t)
	if err != nil {
		return err
	}
	now := time.Now()
	row := func(v target) []string { return []string{v.Name, v.ID, v.Status, ago(v.Created, now), v.Description} }
	return p.advised(list(t, c.Output, columns("NAME", "ID", "STATUS", "CREATED", "DESCRIPTION~"), row,
		"Gateway "+g.Name+" has no targets. Make one: onbehalf targets create "+g.Name+" NAME --openapi FILE", first(c.listing, p.targets(ctx, g.ID))), gatewaysList)
}

func (c *connection) targets(ctx context.Context, gatewayID string) iter.Seq2[target, error] {
	pager := control.NewListGatewayTargetsPaginator(c.control, &control.ListGatewayTargetsInput{GatewayIdentifier: &gatewayID})
	return pages(func() (items []target, more bool, err error) {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, false, err
		}
		for _, v := range page.Items {
			items = append(items, target{ID: aws.ToString(v.TargetId), Name: aws.ToString(v.Name), Gateway: gatewayID, Status: string(v.Status),
				Description: aws.ToString(v.Description), Created: moment(v.CreatedAt), Updated: moment(v.UpdatedAt)})
		}
		return items, pager.HasMorePages(), nil
	})
}

// target finds one by its name, or else by its id.
func (c *connection) target(ctx context.Context, g gateway, named string) (*control.GetGatewayTargetOutput, error) {
	id := ""
	for v, err := range c.targets(ctx, g.ID) {
		if err != nil {
			return nil, err
		}
		if v.Name == named {
			id = v.ID
			break
		}
		if v.ID == named {
			id = v.ID
		}
	}
	if id == "" {
		return nil, hinted{fmt.Errorf("gateway %s has no target %s", g.Name, named), targetsList(g) + " shows what there is"}
	}
	return c.control.GetGatewayTarget(ctx, &control.GetGatewayTargetInput{GatewayIdentifier: &g.ID, TargetId: &id})
}

func describeTarget(g gateway, v *control.GetGatewayTargetOutput) target {
	shown := target{
		ID: aws.ToString(v.TargetId), Name: aws.ToString(v.Name), Gateway: g.ID, Status: string(v.Status), Description: aws.ToString(v.Description), Reasons: v.StatusReasons,
		Created: moment(v.CreatedAt), Updated: moment(v.UpdatedAt),
	}
	if mcp, is := v.TargetConfiguration.(*types.TargetConfigurationMemberMcp); is {
		if _, is := mcp.Value.(*types.McpTargetConfigurationMemberOpenApiSchema); is {
			shown.Kind = "OpenAPI"
		}
	}
	for _, each := range v.CredentialProviderConfigurations {
		if oauth, is := each.CredentialProvider.(*types.CredentialProviderMemberOauthCredentialProvider); is {
			shown.ProviderARN, shown.Scopes, shown.ReturnURL = aws.ToString(oauth.Value.ProviderArn), oauth.Value.Scopes, aws.ToString(oauth.Value.DefaultReturnUrl)
		}
	}
	return shown
}

func showTarget(t *terminal, output string, g gateway, v target) error {
	now := time.Now()
	credential := v.ProviderARN
	if credential == "" {
		credential = "none"
	}
	return show(t, output, v, field{"Name", v.Name}, field{"ID", v.ID}, field{"Gateway", g.Name + " (" + g.ID + ")"}, field{"Status", v.Status}, field{"Why", lines(v.Reasons)},
		field{"Kind", v.Kind}, field{"Credential", credential}, field{"Scopes", lines(v.Scopes)}, field{"Return URL", v.ReturnURL}, field{"Description", v.Description},
		field{"Created", exactly(v.Created, now)}, field{"Updated", exactly(v.Updated, now)})
}

type targetsShowCmd struct {
	ofGateway
	Target string `arg:"" name:"target" help:"Name or id of the target." complete:"targets"`
}

// Run shows it.
func (c targetsShowCmd) Run(ctx context.Context, t *terminal) error {
	p, g, err := c.in(ctx, t)
	if err != nil {
		return err
	}
	found, err := p.target(ctx, g, c.Target)
	if err != nil {
		return p.advised(err, targetsList(g))
	}
	return showTarget(t, c.Output, g, describeTarget(g, found))
}

type targetsCreateCmd struct {
	ofGateway
	Name        string   `arg:"" name:"name" help:"Its name: tools are called NAME___operationId."`
	OpenAPI     string   `name:"openapi" required:"" placeholder:"FILE" help:"The API's OpenAPI document, YAML or JSON; - reads standard input." complete:"files"`
	Provider    string   `name:"provider" placeholder:"NAME" help:"OAuth2 credential provider whose tokens the calls carry. Default: the API needs none." complete:"oauth2"`
	Scopes      []string `name:"scope" placeholder:"SCOPE" sep:"none" help:"A scope that the API wants. Repeatable."`
	ReturnURL   string   `name:"return-url" placeholder:"URL" help:"Your page to which a user comes back after consenting."`
	Description string   `name:"description" placeholder:"TEXT" help:"For people."`
}

// Help is shown below the flags.
func (targetsCreateCmd) Help() string {
	return `Examples:
  onbehalf targets create greeter people --openapi people.yaml --provider people --scope profile --return-url https://app.example.com/back
  curl -fsS https://api.example.com/openapi.json | onbehalf targets create greeter weather --openapi -`
}

// largestDocument is more than the platform takes.
const largestDocument = 32 << 20

// Run makes it.
func (c targetsCreateCmd) Run(ctx context.Context, t *terminal) error {
	switch {
	case c.Provider == "" && (len(c.Scopes) > 0 || c.ReturnURL != ""):
		return usageError{errors.New("--scope and --return-url are of --provider, which is missing")}
	case c.Provider != "" && c.ReturnURL == "":
		return usageError{errors.New("--return-url is missing: to which page of yours does a user come back after consenting?")}
	}
	text, err := c.document(t)
	if err != nil {
		return err
	}
	p, g, err := c.in(ctx, t)
	if err != nil {
		return err
	}
	input := control.CreateGatewayTargetInput{
		GatewayIdentifier: &g.ID, Name: &c.Name, Description: given(c.Description),
		TargetConfiguration: &types.TargetConfigurationMemberMcp{Value: &types.McpTargetConfigurationMemberOpenApiSchema{Value: &types.ApiSchemaConfigurationMemberInlinePayload{Value: text}}},
	}
	if c.Provider != "" {
		found, _, err := p.oauth2Provider(ctx, c.Provider)
		if err != nil {
			return p.advised(err, providersList+" --type oauth2")
		}
		scopes := append([]string{}, c.Scopes...) // the API wants the list, also where it is empty
		input.CredentialProviderConfigurations = []types.CredentialProviderConfiguration{{
			CredentialProviderType: types.CredentialProviderTypeOauth,
			CredentialProvider: &types.CredentialProviderMemberOauthCredentialProvider{Value: types.OAuthCredentialProvider{
				ProviderArn: &found.ARN, Scopes: scopes, GrantType: types.OAuthGrantTypeAuthorizationCode, DefaultReturnUrl: &c.ReturnURL,
			}},
		}}
	}
	made, err := p.control.CreateGatewayTarget(ctx, &input)
	if err != nil {
		return p.exists(err, "onbehalf targets show "+g.Name+" "+c.Name+" shows it", targetsList(g))
	}
	found, err := p.target(ctx, g, aws.ToString(made.TargetId))
	if err != nil {
		return p.advised(err, targetsList(g))
	}
	return showTarget(t, c.Output, g, describeTarget(g, found))
}

func (c targetsCreateCmd) document(t *terminal) (string, error) {
	from := t.in
	if c.OpenAPI != "-" {
		file, err := os.Open(c.OpenAPI)
		if err != nil {
			return "", err
		}
		defer file.Close()
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, largestDocument+1))
	switch {
	case err != nil:
		return "", err
	case len(text) > largestDocument:
		return "", fmt.Errorf("%s is larger than %d MB", c.OpenAPI, largestDocument>>20)
	case strings.TrimSpace(string(text)) == "":
		return "", fmt.Errorf("%s is empty", c.OpenAPI)
	}
	return string(text), nil
}

type targetsDeleteCmd struct {
	ofGateway
	Target string `arg:"" name:"target" help:"Name or id of the target." complete:"targets"`
	Yes    bool   `name:"yes" help:"Do not ask."`
}

// Run deletes it.
func (c targetsDeleteCmd) Run(ctx context.Context, t *terminal) error {
	p, g, err := c.in(ctx, t)
	if err != nil {
		return err
	}
	found, err := p.target(ctx, g, c.Target)
	if err != nil {
		return p.advised(err, targetsList(g))
	}
	if err := t.sure(ctx, c.Yes, "Delete target "+aws.ToString(found.Name)+" of gateway "+g.Name+"?"); err != nil {
		return err
	}
	if _, err := p.control.DeleteGatewayTarget(ctx, &control.DeleteGatewayTargetInput{GatewayIdentifier: &g.ID, TargetId: found.TargetId}); err != nil {
		return p.advised(err, targetsList(g))
	}
	return c.done(t, "deleted")
}
