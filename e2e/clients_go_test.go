package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	data "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// unions are the members of the union types that the steps use: the SDK has a
// type for each, and no table of them.
var unions = map[reflect.Type]map[string]reflect.Type{
	reflect.TypeFor[control.Oauth2ProviderConfigInput](): {
		"customOauth2ProviderConfig":    reflect.TypeFor[control.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig](),
		"googleOauth2ProviderConfig":    reflect.TypeFor[control.Oauth2ProviderConfigInputMemberGoogleOauth2ProviderConfig](),
		"githubOauth2ProviderConfig":    reflect.TypeFor[control.Oauth2ProviderConfigInputMemberGithubOauth2ProviderConfig](),
		"microsoftOauth2ProviderConfig": reflect.TypeFor[control.Oauth2ProviderConfigInputMemberMicrosoftOauth2ProviderConfig](),
		"includedOauth2ProviderConfig":  reflect.TypeFor[control.Oauth2ProviderConfigInputMemberIncludedOauth2ProviderConfig](),
	},
	reflect.TypeFor[control.Oauth2Discovery](): {
		"discoveryUrl":                reflect.TypeFor[control.Oauth2DiscoveryMemberDiscoveryUrl](),
		"authorizationServerMetadata": reflect.TypeFor[control.Oauth2DiscoveryMemberAuthorizationServerMetadata](),
	},
	reflect.TypeFor[control.AuthorizerConfiguration]():      {"customJWTAuthorizer": reflect.TypeFor[control.AuthorizerConfigurationMemberCustomJWTAuthorizer]()},
	reflect.TypeFor[control.GatewayProtocolConfiguration](): {"mcp": reflect.TypeFor[control.GatewayProtocolConfigurationMemberMcp]()},
	reflect.TypeFor[control.TargetConfiguration]():          {"mcp": reflect.TypeFor[control.TargetConfigurationMemberMcp]()},
	reflect.TypeFor[control.McpTargetConfiguration]():       {"openApiSchema": reflect.TypeFor[control.McpTargetConfigurationMemberOpenApiSchema]()},
	reflect.TypeFor[control.ApiSchemaConfiguration]():       {"inlinePayload": reflect.TypeFor[control.ApiSchemaConfigurationMemberInlinePayload]()},
	reflect.TypeFor[control.PrivateKeySource]():             {"kmsKeySource": reflect.TypeFor[control.PrivateKeySourceMemberKmsKeySource]()},
	reflect.TypeFor[control.CredentialProvider]():           {"oauthCredentialProvider": reflect.TypeFor[control.CredentialProviderMemberOauthCredentialProvider](), "apiKeyCredentialProvider": reflect.TypeFor[control.CredentialProviderMemberApiKeyCredentialProvider]()},
	reflect.TypeFor[control.AgentRuntimeArtifact](): {
		"codeConfiguration":      reflect.TypeFor[control.AgentRuntimeArtifactMemberCodeConfiguration](),
		"containerConfiguration": reflect.TypeFor[control.AgentRuntimeArtifactMemberContainerConfiguration](),
	},
	reflect.TypeFor[control.Code](): {"s3": reflect.TypeFor[control.CodeMemberS3]()},
	reflect.TypeFor[data.UserIdentifier](): {
		"userToken": reflect.TypeFor[data.UserIdentifierMemberUserToken](),
		"userId":    reflect.TypeFor[data.UserIdentifierMemberUserId](),
	},
}

// playGo plays the steps with the AWS SDK for Go.
func (s *stage) playGo(t *testing.T) played {
	p := played{Values: map[string]any{}}
	for name, value := range s.values {
		p.Values[name] = value
	}
	for i, step := range readSteps(t) {
		if step.Person != nil {
			body, err := json.Marshal(fill(map[string]any{"link": step.Person["link"], "callback": step.Person["callback"]}, p.Values))
			if err != nil {
				t.Fatal(err)
			}
			got := send(t, jsonRequest(t, http.MethodPost, p.Values["person"].(string), string(body)))
			if got.status != http.StatusOK {
				t.Fatalf("step %d: the person could not go through: %s", i, got.body)
			}
			p.Values["came_back"] = string(got.body)
			p.Results = append(p.Results, result{})
			continue
		}
		made := s.callGo(t, step, p.Values)
		for name, member := range step.Save {
			p.Values[name] = made.Output[member]
		}
		p.Results = append(p.Results, made)
	}
	return p
}

func (s *stage) callGo(t *testing.T, step step, values map[string]any) result {
	t.Helper()
	if step.As == "slow clock, corrected" {
		return result{Skipped: true} // the SDK would, and nobody can set the clock that it goes by
	}
	signer := skewed{v4.NewSigner(), map[string]time.Duration{"slow clock": -time.Hour, "fast clock": time.Hour}[step.As]}
	var client reflect.Value
	if mischief := s.misbehave(t, step.As); step.Service == "data" {
		client = reflect.ValueOf(bedrockagentcore.NewFromConfig(mischief, func(o *bedrockagentcore.Options) { o.HTTPSignerV4 = signer }))
	} else {
		client = reflect.ValueOf(bedrockagentcorecontrol.NewFromConfig(mischief, func(o *bedrockagentcorecontrol.Options) { o.HTTPSignerV4 = signer }))
	}
	method := client.MethodByName(step.Operation)
	if !method.IsValid() {
		t.Fatalf("the SDK has no operation %s", step.Operation)
	}
	input := reflect.New(method.Type().In(1).Elem())
	if step.Input != nil {
		var members any
		if err := json.Unmarshal(step.Input, &members); err != nil {
			t.Fatal(err)
		}
		if err := assign(input.Elem(), fill(members, values)); err != nil {
			t.Fatalf("%s: %v", step.Operation, err)
		}
	}
	if step.Pages == nil {
		return outcome(method.Call([]reflect.Value{reflect.ValueOf(t.Context()), input}))
	}
	// A paginator does what this does: the token of a page asks for the next one.
	var all result
	for {
		if err := assign(input.Elem().FieldByName("MaxResults"), float64(1)); err != nil {
			t.Fatal(err)
		}
		page := outcome(method.Call([]reflect.Value{reflect.ValueOf(t.Context()), input}))
		if page.Error != "" {
			return page
		}
		if all.Pages++; all.Pages == 1 {
			all.Status, all.RequestID, all.Output = page.Status, page.RequestID, page.Output
		}
		for _, item := range page.Output[step.Pages.Items].([]any) {
			all.Items = append(all.Items, item.(map[string]any)[step.Pages.Key])
		}
		next, more := page.Output["nextToken"].(string)
		if !more {
			return all
		}
		if all.Pages > 50 {
			t.Fatalf("%s: the pages do not end", step.Operation)
		}
		input.Elem().FieldByName("NextToken").Set(reflect.ValueOf(&next))
	}
}

// skewed is the SDK's signer with a clock that is off.
type skewed struct {
	*v4.Signer
	off time.Duration
}

func (s skewed) SignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, hash, service, region string, at time.Time, o ...func(*v4.SignerOptions)) error {
	return s.Signer.SignHTTP(ctx, c, r, hash, service, region, at.Add(s.off), o...)
}

// misbehave is the SDK's configuration for a step's mischief.
func (s *stage) misbehave(t *testing.T, as string) aws.Config {
	t.Helper()
	c := s.aws.Copy()
	own, err := c.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	use := func(id, secret, token string) {
		c.Credentials = credentials.NewStaticCredentialsProvider(id, secret, token)
	}
	spoil := func(name string, f func(*smithyhttp.Request)) {
		c.APIOptions = append(c.APIOptions, func(stack *middleware.Stack) error {
			return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc(name, func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
				f(in.Request.(*smithyhttp.Request))
				return next.HandleFinalize(ctx, in)
			}), "Signing", middleware.After)
		})
	}
	switch as {
	case "", "slow clock", "fast clock": // see skewed
	case "wrong secret":
		use(own.AccessKeyID, strings.Repeat("x", 40), "")
	case "unknown key":
		use("AKIAUNKNOWNUNKNOWN00", own.SecretAccessKey, "")
	case "session token":
		use(own.AccessKeyID, own.SecretAccessKey, "somebody else's")
	case "unsigned":
		spoil("unsigned", func(r *smithyhttp.Request) { r.Header.Del("Authorization") })
	case "altered body":
		spoil("altered", func(r *smithyhttp.Request) {
			altered, err := r.SetStream(strings.NewReader(`{"name":"agent-2"}`))
			if err != nil {
				t.Error(err)
			}
			*r = *altered
		})
	default:
		t.Fatalf("nobody taught the Go client to be %q", as)
	}
	return c
}

// assign puts a JSON value into a field of the SDK's, which names its members as the wire does but for the first letter.
func assign(field reflect.Value, value any) error {
	switch field.Kind() {
	case reflect.Pointer:
		field.Set(reflect.New(field.Type().Elem()))
		return assign(field.Elem(), value)
	case reflect.Struct:
		members, ok := value.(map[string]any)
		if !ok {
			return fmt.Errorf("%v is no object, for %s", value, field.Type())
		}
		for name, member := range members {
			target := field.FieldByName(strings.ToUpper(name[:1]) + name[1:])
			if !target.IsValid() {
				return fmt.Errorf("%s has no member %s", field.Type(), name)
			}
			if err := assign(target, member); err != nil {
				return err
			}
		}
	case reflect.Slice:
		list := value.([]any)
		field.Set(reflect.MakeSlice(field.Type(), len(list), len(list)))
		for i := range list {
			if err := assign(field.Index(i), list[i]); err != nil {
				return err
			}
		}
	case reflect.Map:
		field.Set(reflect.MakeMap(field.Type()))
		for name, member := range value.(map[string]any) {
			element := reflect.New(field.Type().Elem()).Elem()
			if err := assign(element, member); err != nil {
				return err
			}
			field.SetMapIndex(reflect.ValueOf(name), element)
		}
	case reflect.Interface:
		for name, member := range value.(map[string]any) {
			union, known := unions[field.Type()][name]
			if !known {
				return fmt.Errorf("the union %s has no member %s here: add it to unions", field.Type(), name)
			}
			made := reflect.New(union)
			if err := assign(made.Elem().FieldByName("Value"), member); err != nil {
				return err
			}
			field.Set(made)
		}
	default:
		given := reflect.ValueOf(value)
		if !given.CanConvert(field.Type()) {
			return fmt.Errorf("%v does not fit %s", value, field.Type())
		}
		field.Set(given.Convert(field.Type()))
	}
	return nil
}

// outcome is what a method of the SDK returned.
func outcome(returned []reflect.Value) result {
	var out result
	if err, failed := returned[1].Interface().(error); failed {
		return failure(err)
	}
	made := returned[0].Elem()
	metadata := made.FieldByName("ResultMetadata").Interface().(middleware.Metadata)
	out.RequestID, _ = awsmiddleware.GetRequestIDMetadata(metadata)
	if raw, ok := awsmiddleware.GetRawResponse(metadata).(*smithyhttp.Response); ok {
		out.Status = raw.StatusCode
	}
	out.Output, _ = plain(made).(map[string]any)
	return out
}

func failure(err error) result {
	out := result{Error: "no exception", Message: err.Error()}
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		out.Status = response.HTTPStatusCode()
		out.RequestID = response.HTTPResponse().Header.Get("X-Amzn-Requestid")
	}
	var known smithy.APIError
	if !errors.As(err, &known) {
		return out
	}
	out.Error, out.Message = known.ErrorCode(), known.ErrorMessage()
	var generic *smithy.GenericAPIError
	modelled := !errors.As(err, &generic)
	out.Modelled = &modelled
	add := func(reason, field string) {
		out.Reason = &reason
		if field != "" {
			out.Fields = append(out.Fields, field)
		}
	}
	var fromControl *control.ValidationException
	var fromData *data.ValidationException
	switch {
	case errors.As(err, &fromControl):
		add(string(fromControl.Reason), "")
		for _, field := range fromControl.FieldList {
			add(string(fromControl.Reason), *field.Name)
		}
	case errors.As(err, &fromData):
		add(string(fromData.Reason), "")
		for _, field := range fromData.FieldList {
			add(string(fromData.Reason), *field.Name)
		}
	}
	return out
}

// plain makes a JSON value of what the SDK returned: absent members are left
// out, and times are marked.
func plain(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
		if v.Kind() == reflect.Interface { // a union: its member's name is at the end of its type's
			_, name, _ := strings.Cut(v.Elem().Elem().Type().Name(), "Member")
			return map[string]any{strings.ToLower(name[:1]) + name[1:]: plain(v.Elem().Elem().FieldByName("Value"))}
		}
		return plain(v.Elem())
	case reflect.Struct:
		if at, ok := v.Interface().(time.Time); ok {
			return map[string]any{"$time": at.Format(time.RFC3339Nano)}
		}
		out := map[string]any{}
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if !field.IsExported() || field.Name == "ResultMetadata" || v.Field(i).IsZero() {
				continue
			}
			out[strings.ToLower(field.Name[:1])+field.Name[1:]] = plain(v.Field(i))
		}
		return out
	case reflect.Slice:
		out := make([]any, v.Len())
		for i := range out {
			out[i] = plain(v.Index(i))
		}
		return out
	case reflect.Map:
		out := map[string]any{}
		for _, key := range v.MapKeys() {
			out[key.String()] = plain(v.MapIndex(key))
		}
		return out
	case reflect.String:
		return v.String()
	}
	return v.Interface()
}
