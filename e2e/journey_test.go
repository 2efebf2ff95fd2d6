package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	data "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/smithy-go"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// journey is the main story, one call of the API or one page at a time, so that
// something can happen between any two of them. What is there already is found.
type journey struct {
	*platform
	t      testing.TB
	idp    *provider
	seen   *receipts
	name   string
	person *servertest.Person // Ada's browser

	jwt, providerARN, gatewayID string
	link, session               string
	location, callback          string // where the pages lead
	greeting                    string
}

// leg is one of the journey's steps.
type leg struct {
	name string
	take func(*journey, context.Context) error
}

// legs is the journey from the beginning to the end.
var legs = []leg{
	{"workload identity", (*journey).createAgent},
	{"credential provider", (*journey).createProvider},
	{"gateway", (*journey).createGateway},
	{"target", (*journey).createTarget},
	{"link", (*journey).ask},
	{"page opened", (*journey).openPage},
	{"allowed at the provider", (*journey).allow},
	{"code parked", (*journey).comeBack},
	{"completed", (*journey).complete},
	{"greeted", (*journey).greet},
}

func startJourney(t testing.TB, p *platform, idp *provider, seen *receipts, name string) *journey {
	t.Helper()
	tokens, err := idp.Issue(demoidp.Ada, demoidp.SignInClientID, "openid", "profile")
	if err != nil {
		t.Fatal(err)
	}
	return &journey{platform: p, t: t, idp: idp, seen: seen, name: name, jwt: tokens.ID, person: servertest.NewPerson(idp.url, demoidp.Ada)}
}

// travel goes through these legs, and stops at the first that fails.
func (j *journey) travel(ctx context.Context, legs []leg) error {
	for _, l := range legs {
		if j.greeting != "" {
			return nil // consent was there already
		}
		if err := l.take(j, ctx); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}

// clients are those of the platform as it listens now, whose answers are kept as receipts.
func (j *journey) clients() (*bedrockagentcorecontrol.Client, *bedrockagentcore.Client) {
	transport := &http.Client{Transport: j.seen}
	return bedrockagentcorecontrol.NewFromConfig(j.aws, func(o *bedrockagentcorecontrol.Options) { o.HTTPClient = transport }),
		bedrockagentcore.NewFromConfig(j.aws, func(o *bedrockagentcore.Options) { o.HTTPClient = transport })
}

// isThere reports whether something could not be made because it is there.
func isThere(err error) bool {
	var known smithy.APIError
	return errors.As(err, &known) && known.ErrorCode() == "ConflictException" || err != nil && strings.Contains(err.Error(), "already exists")
}

func (j *journey) createAgent(ctx context.Context) error {
	c, _ := j.clients()
	_, err := c.CreateWorkloadIdentity(ctx, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: &j.name, AllowedResourceOauth2ReturnUrls: []string{returnURL}})
	if isThere(err) {
		_, err = c.GetWorkloadIdentity(ctx, &bedrockagentcorecontrol.GetWorkloadIdentityInput{Name: &j.name})
	}
	return err
}

func (j *journey) createProvider(ctx context.Context) error {
	c, _ := j.clients()
	client := demoidp.Client{ID: j.name, Secret: "secret-of-" + j.name}
	var callback string
	made, err := c.CreateOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: &j.name, CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2, Oauth2ProviderConfigInput: discovered(j.idp.DiscoveryURL(), client),
	})
	if isThere(err) {
		found, lookup := c.GetOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.GetOauth2CredentialProviderInput{Name: &j.name})
		if err = lookup; err == nil {
			j.providerARN, callback = *found.CredentialProviderArn, *found.CallbackUrl
		}
	} else if err == nil {
		j.providerARN, callback = *made.CredentialProviderArn, *made.CallbackUrl
	}
	if err != nil {
		return err
	}
	client.RedirectURIs = []string{callback}
	return j.idp.Register(client)
}

func (j *journey) createGateway(ctx context.Context) error {
	c, _ := j.clients()
	made, err := c.CreateGateway(ctx, &bedrockagentcorecontrol.CreateGatewayInput{
		Name: &j.name, RoleArn: aws.String("arn:aws:iam::000000000000:role/onbehalf-default"), ProtocolType: control.GatewayProtocolTypeMcp, AuthorizerType: control.AuthorizerTypeCustomJwt,
		AuthorizerConfiguration: &control.AuthorizerConfigurationMemberCustomJWTAuthorizer{Value: control.CustomJWTAuthorizerConfiguration{
			DiscoveryUrl: aws.String(j.idp.DiscoveryURL()), AllowedAudience: []string{demoidp.SignInClientID},
		}},
	})
	if err == nil {
		j.gatewayID = *made.GatewayId
		return nil
	}
	if !isThere(err) {
		return err
	}
	pages := bedrockagentcorecontrol.NewListGatewaysPaginator(c, &bedrockagentcorecontrol.ListGatewaysInput{})
	for pages.HasMorePages() {
		list, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, g := range list.Items {
			if *g.Name == j.name {
				j.gatewayID = *g.GatewayId
				return nil
			}
		}
	}
	return errors.New("the gateway exists, and is not listed")
}

// peopleTool is an OpenAPI document of the demo provider's People API.
const peopleTool = `{"openapi":"3.0.3","info":{"title":"People","version":"1"},"servers":[{"url":%q}],"paths":{"/v1/people/me":{"get":{"operationId":"get_profile",
	"parameters":[{"name":"personFields","in":"query","required":true,"schema":{"type":"string"}}],"responses":{"200":{"description":"the person"}}}}}}`

func (j *journey) createTarget(ctx context.Context) error {
	c, _ := j.clients()
	_, err := c.CreateGatewayTarget(ctx, &bedrockagentcorecontrol.CreateGatewayTargetInput{
		GatewayIdentifier: &j.gatewayID, Name: aws.String("people"),
		TargetConfiguration: &control.TargetConfigurationMemberMcp{Value: &control.McpTargetConfigurationMemberOpenApiSchema{
			Value: &control.ApiSchemaConfigurationMemberInlinePayload{Value: fmt.Sprintf(peopleTool, j.idp.url)},
		}},
		CredentialProviderConfigurations: []control.CredentialProviderConfiguration{{
			CredentialProviderType: control.CredentialProviderTypeOauth,
			CredentialProvider: &control.CredentialProviderMemberOauthCredentialProvider{Value: control.OAuthCredentialProvider{
				ProviderArn: &j.providerARN, Scopes: []string{"openid", "profile"}, GrantType: control.OAuthGrantTypeAuthorizationCode, DefaultReturnUrl: aws.String(returnURL),
				CustomParameters: map[string]string{"access_type": "offline"},
			}},
		}},
	})
	if isThere(err) {
		return nil
	}
	return err
}

// ask calls the tool, and wants to be told to ask the person; an answer is as good.
func (j *journey) ask(ctx context.Context) error {
	var err error
	j.greeting, j.link, err = j.call(ctx)
	return err
}

// greet calls the tool, and wants the answer.
func (j *journey) greet(ctx context.Context) error {
	name, link, err := j.call(ctx)
	if err == nil && link != "" {
		err = errors.New("consent is asked for again")
	}
	j.greeting = name
	return err
}

// call is tools/call of MCP 2025-11-25: the person's name, or a link.
func (j *journey) call(ctx context.Context) (name, link string, err error) {
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"people___get_profile","arguments":{"personFields":"names"}}}`
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, j.url+"/gateway/"+j.gatewayID+"/mcp", strings.NewReader(body))
	if err != nil {
		return "", "", err
	}
	for header, value := range map[string]string{"Authorization": "Bearer " + j.jwt, "Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"} {
		request.Header.Set(header, value)
	}
	response, err := (&http.Client{Transport: j.seen}).Do(request)
	if err != nil {
		return "", "", err
	}
	defer response.Body.Close()
	var answer struct {
		Result struct {
			Content []struct{ Text string }
			IsError bool
		}
		Error struct {
			Code    int
			Message string
			Data    struct {
				Elicitations []struct{ URL string }
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return "", "", fmt.Errorf("%s: %w", response.Status, err)
	}
	switch {
	case answer.Error.Code == -32042 && len(answer.Error.Data.Elicitations) == 1:
		return "", answer.Error.Data.Elicitations[0].URL, nil
	case answer.Error.Code != 0 || answer.Result.IsError || len(answer.Result.Content) != 1:
		return "", "", fmt.Errorf("the tool call failed: %s %d %s %+v", response.Status, answer.Error.Code, answer.Error.Message, answer.Result)
	case !strings.Contains(answer.Result.Content[0].Text, "Ada Lovelace"):
		return "", "", errors.New("the tool's answer has another name in it, or none")
	}
	return "Ada Lovelace", "", nil
}

var continueLink = regexp.MustCompile(`<a class="button" href="([^"]+)"`)

func (j *journey) openPage(ctx context.Context) error {
	response, body, err := j.browse(ctx, j.link)
	if err != nil {
		return err
	}
	found := continueLink.FindStringSubmatch(body)
	if response.StatusCode != http.StatusOK || found == nil {
		return fmt.Errorf("the link shows a page with %s", response.Status)
	}
	j.location = html.UnescapeString(found[1])
	return nil
}

func (j *journey) allow(ctx context.Context) (err error) {
	j.callback, err = j.person.Visit(ctx, j.location, "allow")
	return err
}

func (j *journey) comeBack(ctx context.Context) error {
	response, _, err := j.browse(ctx, j.callback)
	if err != nil {
		return err
	}
	arrival, err := response.Location()
	if err != nil || arrival.Query().Get("session_id") == "" {
		return fmt.Errorf("the callback does not lead to the application: %s", response.Status)
	}
	j.session = arrival.Query().Get("session_id")
	return nil
}

func (j *journey) complete(ctx context.Context) error {
	_, c := j.clients()
	_, err := c.CompleteResourceTokenAuth(ctx, &bedrockagentcore.CompleteResourceTokenAuthInput{
		SessionUri: &j.session, UserIdentifier: &data.UserIdentifierMemberUserToken{Value: j.jwt},
	})
	return err
}

// browse is a GET of the person's browser.
func (j *journey) browse(ctx context.Context, url string) (*http.Response, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}
	request.Header.Set("Accept", "text/html")
	response, err := j.person.HTTP.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, string(body), err
}

// receipts keeps the request ids of answers that came in whole: whoever has such
// an answer may rely on what it says, whatever happens to the platform then.
type receipts struct {
	mu  sync.Mutex
	ids []string
}

func (r *receipts) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	r.mu.Lock()
	r.ids = append(r.ids, response.Header.Get("x-amzn-RequestId"))
	r.mu.Unlock()
	return response, nil
}
