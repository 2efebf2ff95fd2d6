package agent_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/agent"
)

// What each flow and option puts on the wire: what the Python package puts there, and nothing else.
func TestRequests(t *testing.T) {
	t.Parallel()
	with := func(change func(*agent.AccessTokenOptions)) agent.AccessTokenOptions {
		o := agent.AccessTokenOptions{Provider: "people", Flow: agent.M2M}
		change(&o)
		return o
	}
	for name, test := range map[string]struct {
		options agent.AccessTokenOptions
		want    object
	}{
		"M2M, without scopes": {
			with(func(*agent.AccessTokenOptions) {}),
			object{"oauth2Flow": "M2M", "scopes": []any{}},
		},
		"M2M": {
			with(func(o *agent.AccessTokenOptions) {
				o.Scopes, o.Audiences = []string{"read"}, []string{"https://api.test"}
			}),
			object{"oauth2Flow": "M2M", "scopes": []any{"read"}, "audiences": []any{"https://api.test"}},
		},
		"on behalf of": {
			with(func(o *agent.AccessTokenOptions) {
				o.Flow, o.Scopes, o.Resources = agent.OnBehalfOf, []string{"read"}, []string{"https://api.test"}
				o.CustomParameters = map[string]string{"requested_token_use": "on_behalf_of"}
			}),
			object{"oauth2Flow": "ON_BEHALF_OF_TOKEN_EXCHANGE", "scopes": []any{"read"}, "resources": []any{"https://api.test"}, "customParameters": object{"requested_token_use": "on_behalf_of"}},
		},
		"a user's": {
			with(func(o *agent.AccessTokenOptions) {
				o.Flow, o.Scopes, o.CallbackURL, o.CustomState, o.ForceAuthentication = agent.UserFederation, []string{"openid"}, "http://localhost/back", "mine", true
			}),
			object{"oauth2Flow": "USER_FEDERATION", "scopes": []any{"openid"}, "resourceOauth2ReturnUrl": "http://localhost/back", "customState": "mine", "forceAuthentication": true},
		},
		"a user's, with the context's callback": {
			with(func(o *agent.AccessTokenOptions) { o.Flow = agent.UserFederation }),
			object{"oauth2Flow": "USER_FEDERATION", "scopes": []any{}, "resourceOauth2ReturnUrl": "http://localhost/context"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, wire := over(func(int, call) (int, any) { return http.StatusOK, object{"accessToken": "granted"} })
			ctx := hosted(t)
			if test.options.Flow == agent.UserFederation && test.options.CallbackURL == "" {
				ctx = agent.WithCallbackURL(ctx, "http://localhost/context")
			}
			test.options.Client = client
			token, err := agent.AccessToken(ctx, test.options)
			if err != nil || token.Reveal() != "granted" {
				t.Fatalf("%q, %v", token.Reveal(), err)
			}
			test.want["workloadIdentityToken"], test.want["resourceCredentialProviderName"] = workloadToken, "people"
			if diff := cmp.Diff([]call{{"token", test.want}}, wire.seen()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAPIKeyRequest(t *testing.T) {
	t.Parallel()
	client, wire := over(func(int, call) (int, any) { return http.StatusOK, object{"apiKey": "key"} })
	key, err := agent.APIKey(hosted(t), agent.APIKeyOptions{Provider: "weather", Client: client})
	if err != nil || key.Reveal() != "key" {
		t.Fatalf("%q, %v", key.Reveal(), err)
	}
	want := []call{{"api-key", object{"workloadIdentityToken": workloadToken, "resourceCredentialProviderName": "weather"}}}
	if diff := cmp.Diff(want, wire.seen()); diff != "" {
		t.Error(diff)
	}
}

// What can be wrong, how it is told apart, and what is said about it.
func TestErrors(t *testing.T) {
	t.Parallel()
	answer := func(status int, body any) func(int, call) (int, any) {
		return func(int, call) (int, any) { return status, body }
	}
	for name, test := range map[string]struct {
		answer func(int, call) (int, any)
		kind   error
		says   string
	}{
		"unknown provider":  {answer(404, exception("ResourceNotFoundException", "OAuth2 credential provider people not found.")), agent.ErrNotFound, "list-oauth2-credential-providers"},
		"callback URL":      {answer(400, exception("ValidationException", "You must register and use at least one ResourceOauth2ReturnUrl")), agent.ErrInvalid, "--name WORKLOAD --allowed-resource-oauth2-return-urls http://localhost/back"},
		"a bad request":     {answer(400, exception("ValidationException", "No.")), agent.ErrInvalid, "ValidationException: No"},
		"workload token":    {answer(401, exception("UnauthorizedException", "The workload access token has expired.")), agent.ErrAccessDenied, "get a new one"},
		"permission":        {answer(403, exception("AccessDeniedException", "User is not authorized to perform")), agent.ErrAccessDenied, "policy"},
		"unknown key":       {answer(403, exception("UnrecognizedClientException", "The security token is invalid")), agent.ErrCredentials, "onbehalf env"},
		"too many":          {answer(429, exception("ThrottlingException", "Slow down")), agent.ErrThrottled, "later"},
		"trouble":           {answer(500, exception("InternalServerException", "Sorry")), agent.ErrUnavailable, "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"},
		"a proxy's trouble": {answer(502, nil), agent.ErrUnavailable, "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"},
		"nothing":           {answer(200, object{}), agent.ErrUnavailable, "neither a token nor a link"},
		"failed session":    {answer(200, object{"sessionStatus": "FAILED", "sessionUri": session}), agent.ErrConsentFailed, "new link"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := over(test.answer)
			called := false
			_, err := agent.RequireAccessToken(agent.AccessTokenOptions{Provider: "people", Flow: agent.UserFederation, CallbackURL: "http://localhost/back", Client: client},
				func(context.Context, string, agent.Secret) (string, error) { called = true; return "", nil })(hosted(t), "")
			var known *agent.Error
			if !errors.As(err, &known) || !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), `"people"`) {
				t.Errorf("want %v that says %q, got %v", test.kind, test.says, err)
			}
			if temporary := test.kind == agent.ErrThrottled || test.kind == agent.ErrUnavailable; known != nil && known.Temporary() != temporary {
				t.Errorf("Temporary is %t", known.Temporary())
			}
			if called {
				t.Error("the function was called without a token")
			}
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	client := agent.NewClient(aws.Config{Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, BaseEndpoint: aws.String("http://127.0.0.1:1"), RetryMaxAttempts: 1})
	_, err := agent.APIKey(hosted(t), agent.APIKeyOptions{Provider: "weather", Client: client})
	if !errors.Is(err, agent.ErrUnavailable) {
		t.Error(err)
	}
}

func TestOptionsThatAreMissing(t *testing.T) {
	t.Parallel()
	client, wire := over(nil)
	for says, get := range map[string]func(context.Context) (agent.Secret, error){
		"Flow is empty": func(ctx context.Context) (agent.Secret, error) {
			return agent.AccessToken(ctx, agent.AccessTokenOptions{Provider: "people", Client: client})
		},
		"access token: the request is not valid: Provider is empty": func(ctx context.Context) (agent.Secret, error) {
			return agent.AccessToken(ctx, agent.AccessTokenOptions{Flow: agent.M2M, Client: client})
		},
		"API key: the request is not valid: Provider is empty": func(ctx context.Context) (agent.Secret, error) {
			return agent.APIKey(ctx, agent.APIKeyOptions{Client: client})
		},
	} {
		if _, err := get(hosted(t)); !errors.Is(err, agent.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q, got %v", says, err)
		}
	}
	if len(wire.seen()) > 0 {
		t.Error("the platform was asked")
	}
}

// A platform that quotes what it was sent does not get it into an error, nor into what errors.As finds in it.
func TestErrorsQuoteNoSecret(t *testing.T) {
	t.Parallel()
	const state, parameter = "state-that-nobody-may-see", "parameter-that-nobody-may-see"
	secrets := []string{workloadToken, state, parameter, link, session}
	clean := func(err error) {
		t.Helper()
		var api smithy.APIError
		texts := []string{err.Error(), fmt.Sprintf("%+v %#v", err, err)}
		if errors.As(err, &api) {
			texts = append(texts, api.Error(), api.ErrorMessage())
		}
		for _, text := range texts {
			for _, secret := range secrets {
				if strings.Contains(text, secret) {
					t.Errorf("%q is in %s", secret, text)
				}
			}
		}
	}
	quoting := func(n int, c call) (int, any) {
		if n == 1 && c.Operation == "token" {
			return 200, inProgress
		}
		return 400, exception("ValidationException", fmt.Sprintf("%v is not valid", c.Body))
	}
	o := agent.AccessTokenOptions{
		Provider: "people", Flow: agent.UserFederation, CustomState: state, CustomParameters: map[string]string{"hint": parameter},
		OnAuthURL: func(context.Context, string) error { return nil }, Poller: agent.IntervalPoller{Interval: 1},
	}
	o.Client, _ = over(quoting)
	_, err := agent.AccessToken(hosted(t), o)
	clean(err)
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "ValidationException" || !strings.Contains(err.Error(), "[redacted]") {
		t.Errorf("the exception is lost: %v", err)
	}

	o.Client, _ = over(quoting)
	broken := errors.New("no browser")
	o.OnAuthURL = func(_ context.Context, url string) error { return fmt.Errorf("open %s: %w", url, broken) }
	_, err = agent.AccessToken(hosted(t), o)
	clean(err)
	if !errors.Is(err, broken) {
		t.Errorf("the cause is lost: %v", err)
	}

	o.Client, _ = over(quoting)
	o.OnAuthURL, o.Poller = nil, nil
	_, err = agent.AccessToken(hosted(t), o)
	clean(err)
	var needed *agent.Error
	if !errors.Is(err, agent.ErrConsentNeeded) || !errors.As(err, &needed) || needed.AuthorizationURL.Reveal() != link {
		t.Errorf("want the link in the error's field, got %v", err)
	}

	client, _ := over(quoting)
	_, err = agent.APIKey(hosted(t), agent.APIKeyOptions{Provider: "weather", Client: client})
	clean(err)
}
