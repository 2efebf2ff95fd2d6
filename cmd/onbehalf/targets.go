package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
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
  onbehalf targets create greeter people --openapi people.yaml \
    --provider people --scope profile --return-url https://app.example.com/back
  onbehalf targets list greeter`
}

// target is a gateway's target in JSON.
type target struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Gateway     string     `json:"gatewayId"`
	Status      string     `json:"status"`
	Kind        string     `json:"kind,omitempty"`
	Credential  string     `json:"credentialType,omitempty"`
	GrantType   string     `json:"grantType,omitempty"`
	ProviderARN string     `json:"providerArn,omitempty"`
	KeyIn       string     `json:"keyLocation,omitempty"`
	KeyName     string     `json:"keyParameterName,omitempty"`
	Scopes      []string   `json:"scopes,omitempty"`
	ReturnURL   string     `json:"returnUrl,omitempty"`
	Description string     `json:"description,omitempty"`
	Reasons     []string   `json:"statusReasons,omitempty"`
	Created     *time.Time `json:"created,omitempty"`
	Updated     *time.Time `json:"updated,omitempty"`
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

// targetAnswer is a target as the API has it, in a list or by itself.
type targetAnswer struct {
	ID          string   `json:"targetId"`
	Name        string   `json:"name"`
	Status      string   `json:"status"`
	Reasons     []string `json:"statusReasons"`
	Description string   `json:"description"`
	Target      struct {
		MCP struct {
			OpenAPI json.RawMessage `json:"openApiSchema"`
		} `json:"mcp"`
	} `json:"targetConfiguration"`
	Credentials []struct {
		Type     string `json:"credentialProviderType"`
		Provider struct {
			OAuth struct {
				ProviderARN string   `json:"providerArn"`
				Scopes      []string `json:"scopes"`
				GrantType   string   `json:"grantType"`
				ReturnURL   string   `json:"defaultReturnUrl"`
			} `json:"oauthCredentialProvider"`
			Key struct {
				ProviderARN string `json:"providerArn"`
				Location    string `json:"credentialLocation"`
				Name        string `json:"credentialParameterName"`
			} `json:"apiKeyCredentialProvider"`
		} `json:"credentialProvider"`
	} `json:"credentialProviderConfigurations"`
	Created clock `json:"createdAt"`
	Updated clock `json:"updatedAt"`
}

func (a targetAnswer) of(gatewayID string) target {
	shown := target{ID: a.ID, Name: a.Name, Gateway: gatewayID, Status: a.Status, Description: a.Description, Reasons: a.Reasons, Created: a.Created.at(), Updated: a.Updated.at()}
	if len(a.Target.MCP.OpenAPI) > 0 {
		shown.Kind = "OpenAPI"
	}
	for _, each := range a.Credentials {
		oauth, key := each.Provider.OAuth, each.Provider.Key
		shown.Credential, shown.ProviderARN = each.Type, firstOf(oauth.ProviderARN, key.ProviderARN)
		shown.GrantType, shown.Scopes, shown.ReturnURL = oauth.GrantType, oauth.Scopes, oauth.ReturnURL
		shown.KeyIn, shown.KeyName = key.Location, key.Name
	}
	return shown
}

func (c *connection) targets(ctx context.Context, gatewayID string) iter.Seq2[target, error] {
	return gatewayPages(ctx, c, gatewayPath(gatewayID)+"targets/", func(a targetAnswer) target { return a.of(gatewayID) })
}

func targetPath(gatewayID, id string) string {
	return gatewayPath(gatewayID) + "targets/" + url.PathEscape(id) + "/"
}

// target finds one by its name, or else by its id.
func (c *connection) target(ctx context.Context, g gateway, named string) (target, error) {
	id := ""
	for v, err := range c.targets(ctx, g.ID) {
		if err != nil {
			return target{}, err
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
		return target{}, hinted{fmt.Errorf("gateway %s has no target %s", g.Name, named), targetsList(g) + " shows what there is"}
	}
	var found targetAnswer
	err := c.call(ctx, http.MethodGet, targetPath(g.ID, id), nil, &found)
	return found.of(g.ID), err
}

func showTarget(t *terminal, output string, g gateway, v target) error {
	now := time.Now()
	credential := v.ProviderARN
	if credential == "" {
		credential = "none"
	}
	return show(t, output, v, field{"Name", v.Name}, field{"ID", v.ID}, field{"Gateway", g.Name + " (" + g.ID + ")"}, field{"Status", v.Status}, field{"Why", lines(v.Reasons)},
		field{"Kind", v.Kind}, field{"Credential", credential}, field{"Type", firstOf(v.GrantType, v.Credential)}, field{"Key goes into", strings.TrimSpace(v.KeyIn + " " + v.KeyName)}, field{"Scopes", lines(v.Scopes)}, field{"Return URL", v.ReturnURL}, field{"Description", v.Description},
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
	return showTarget(t, c.Output, g, found)
}

type targetsCreateCmd struct {
	ofGateway
	Name     string `arg:"" name:"name" help:"Its name: tools are called NAME___operationId."`
	OpenAPI  string `name:"openapi" required:"" placeholder:"FILE" help:"The API's OpenAPI document, YAML or JSON; - reads standard input." complete:"files"`
	Provider string `name:"provider" placeholder:"NAME" help:"Credential provider whose tokens, or whose API key, the calls carry. Default: the API needs none." complete:"providers"`
	ofKind
	Flow        string   `name:"flow" enum:"user,m2m,on-behalf-of" default:"user" placeholder:"FLOW" help:"Whose token: user, who is asked for consent; m2m, the gateway's own; on-behalf-of, the user's, traded for their sign-in. Default user."`
	Scopes      []string `name:"scope" placeholder:"SCOPE" sep:"none" help:"A scope that the API wants. Repeatable."`
	ReturnURL   string   `name:"return-url" placeholder:"URL" help:"Your page to which a user comes back after consenting."`
	KeyIn       string   `name:"key-in" enum:",header,query" default:"" placeholder:"PLACE" help:"Where an API key goes: header or query. Default header."`
	KeyName     string   `name:"key-name" placeholder:"NAME" help:"That header's or parameter's name. Default Authorization."`
	KeyPrefix   string   `name:"key-prefix" placeholder:"TEXT" help:"What stands before the key, such as Bearer."`
	Description string   `name:"description" placeholder:"TEXT" help:"For people."`
}

// Help is shown below the flags.
func (targetsCreateCmd) Help() string {
	return `Examples:
  onbehalf targets create greeter people --openapi people.yaml \
    --provider people --scope profile --return-url https://app.example.com/back
  curl -fsS https://api.example.com/openapi.json |
    onbehalf targets create greeter weather --openapi - --provider weather-key --key-in query --key-name key`
}

// largestDocument is more than the platform takes.
const largestDocument = 32 << 20

// Run makes it.
func (c targetsCreateCmd) Run(ctx context.Context, t *terminal) error {
	ofKey := firstOf(c.KeyIn, c.KeyName, c.KeyPrefix) != ""
	switch {
	case c.Provider == "" && (len(c.Scopes) > 0 || c.ReturnURL != "" || ofKey):
		return usageError{errors.New("--scope, --return-url and --key-… are of --provider, which is missing")}
	case c.Flow != "user" && c.ReturnURL != "":
		return usageError{errors.New("--return-url is of --flow user: nobody else comes back")}
	}
	text, err := c.document(t)
	if err != nil {
		return err
	}
	p, g, err := c.in(ctx, t)
	if err != nil {
		return err
	}
	input := object{
		"name": c.Name, "clientToken": onceToken(), "targetConfiguration": object{"mcp": object{"openApiSchema": object{"inlinePayload": text}}},
	}.with("description", c.Description)
	if c.Provider != "" {
		found, err := p.provider(ctx, c.Provider, c.Type)
		if err != nil {
			return p.advised(err, providersList)
		}
		credential, err := c.credential(found)
		if err != nil {
			return err
		}
		input["credentialProviderConfigurations"] = []object{credential}
	}
	var made targetAnswer
	if err := p.call(ctx, http.MethodPost, gatewayPath(g.ID)+"targets/", input, &made); err != nil {
		return p.exists(err, "onbehalf targets show "+g.Name+" "+c.Name+" shows it", targetsList(g))
	}
	found, err := p.target(ctx, g, made.ID)
	if err != nil {
		return p.advised(err, targetsList(g))
	}
	return showTarget(t, c.Output, g, found)
}

// grantTypes are the API's names of the flows.
var grantTypes = map[string]string{"user": "AUTHORIZATION_CODE", "m2m": "CLIENT_CREDENTIALS", "on-behalf-of": "TOKEN_EXCHANGE"}

// credential is what the calls carry.
func (c targetsCreateCmd) credential(p provider) (object, error) {
	ofKey := firstOf(c.KeyIn, c.KeyName, c.KeyPrefix) != ""
	switch {
	case p.Type == kindAPIKey && (len(c.Scopes) > 0 || c.ReturnURL != "" || c.Flow != "user"):
		return nil, usageError{fmt.Errorf("%s is an API key: --scope, --return-url and --flow are not for it", p.Name)}
	case p.Type == kindAPIKey:
		places := map[string]string{"header": "HEADER", "query": "QUERY_PARAMETER"}
		key := object{"providerArn": p.ARN}.with("credentialLocation", places[c.KeyIn]).with("credentialParameterName", c.KeyName).with("credentialPrefix", c.KeyPrefix)
		return object{"credentialProviderType": "API_KEY", "credentialProvider": object{"apiKeyCredentialProvider": key}}, nil
	case ofKey:
		return nil, usageError{fmt.Errorf("%s is no API key: --key-in, --key-name and --key-prefix are not for it", p.Name)}
	case c.Flow == "user" && c.ReturnURL == "":
		return nil, usageError{errors.New("--return-url is missing: to which page of yours does a user come back after consenting?")}
	}
	scopes := append([]string{}, c.Scopes...) // the API wants the list, also where it is empty
	token := object{"providerArn": p.ARN, "scopes": scopes, "grantType": grantTypes[c.Flow]}.with("defaultReturnUrl", c.ReturnURL)
	return object{"credentialProviderType": "OAUTH", "credentialProvider": object{"oauthCredentialProvider": token}}, nil
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
	if err := t.sure(ctx, c.Yes, "Delete target "+found.Name+" of gateway "+g.Name+"?"); err != nil {
		return err
	}
	if err := p.call(ctx, http.MethodDelete, targetPath(g.ID, found.ID), nil, nil); err != nil {
		return p.advised(err, targetsList(g))
	}
	return c.done(t, "deleted")
}
