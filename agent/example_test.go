package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/onbehalf/onbehalf/agent"
)

// TestMain runs the examples as the programs that they are: the standard
// configuration chain leads them to a platform that answers each question once with a link.
func TestMain(m *testing.M) {
	platform := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ ResourceCredentialProviderName, SessionUri, Oauth2Flow string }
		_ = json.NewDecoder(r.Body).Decode(&asked)
		answer := map[string]string{}
		switch operation := path.Base(r.URL.Path); {
		case operation == "api-key":
			answer["apiKey"] = "key of " + asked.ResourceCredentialProviderName
		case asked.ResourceCredentialProviderName == "calendar" && asked.SessionUri == "":
			answer["authorizationUrl"], answer["sessionUri"], answer["sessionStatus"] = "https://onbehalf.example/authorize", session, "IN_PROGRESS"
		default:
			answer["accessToken"] = "token of " + asked.ResourceCredentialProviderName
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	}))
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": platform.URL, "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL": platform.URL, "AWS_REGION": "us-east-1",
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "a secret key", "DOCKER_CONTAINER": "",
	} {
		os.Setenv(name, value)
	}
	code := m.Run()
	platform.Close()
	os.Exit(code)
}

// A request's context, as a runtime makes it.
var ctx = agent.WithWorkloadToken(context.Background(), "the workload token of this request")

func Example() {
	// Wrapped once, called for as many users as there are.
	var listEvents = agent.RequireAccessToken(agent.AccessTokenOptions{
		Provider: "calendar",
		Flow:     agent.UserFederation,
		Scopes:   []string{"https://www.googleapis.com/auth/calendar.readonly"},
		OnAuthURL: func(ctx context.Context, url string) error {
			fmt.Println("Please allow it here:", url)
			return nil
		},
		Poller: agent.IntervalPoller{Interval: 10 * time.Millisecond},
	}, func(ctx context.Context, day string, token agent.Secret) (string, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://calendar.example/v1/events?day="+day, nil)
		if err != nil {
			return "", err
		}
		token.SetAuthHeader(r)
		return fmt.Sprintf("%s, with a token that prints as %s", r.URL, token), nil
	})

	events, err := listEvents(ctx, "today")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(events)
	// Output:
	// Please allow it here: https://onbehalf.example/authorize
	// https://calendar.example/v1/events?day=today, with a token that prints as [redacted]
}

func ExampleAccessToken() {
	token, err := agent.AccessToken(ctx, agent.AccessTokenOptions{Provider: "tickets", Flow: agent.M2M, Scopes: []string{"tickets.read"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(token.Reveal())
	// Output: token of tickets
}

func ExampleAPIKey() {
	key, err := agent.APIKey(ctx, agent.APIKeyOptions{Provider: "weather"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(key.Reveal())
	// Output: key of weather
}

func ExampleRequireAPIKey() {
	forecast := agent.RequireAPIKey(agent.APIKeyOptions{Provider: "weather"}, func(ctx context.Context, city string, key agent.Secret) (string, error) {
		return "It rains in " + city + ", says the holder of the " + key.Reveal(), nil
	})
	fmt.Println(forecast(ctx, "London"))
	// Output: It rains in London, says the holder of the key of weather <nil>
}

// Two secrets for one function, each in a field of its input.
func ExampleRequireAccessTokenInto() {
	type trip struct {
		City    string       `json:"city"` // from the model
		Token   agent.Secret `json:"-"`    // not from the model
		Weather agent.Secret `json:"-"`
	}
	plan := agent.RequireAccessTokenInto("Token", agent.AccessTokenOptions{Provider: "tickets", Flow: agent.OnBehalfOf},
		agent.RequireAPIKeyInto("Weather", agent.APIKeyOptions{Provider: "weather"},
			func(ctx context.Context, t trip) (string, error) {
				return fmt.Sprintf("to %s with %q and %q", t.City, t.Token.Reveal(), t.Weather.Reveal()), nil
			}))
	fmt.Println(plan(ctx, trip{City: "Paris"}))
	// Output: to Paris with "token of tickets" and "key of weather" <nil>
}

// Without OnAuthURL nothing waits: the link is in the error, for instance for
// the elicitation of an MCP server.
func ExampleError() {
	_, err := agent.AccessToken(ctx, agent.AccessTokenOptions{Provider: "calendar", Flow: agent.UserFederation})
	var problem *agent.Error
	if errors.As(err, &problem) && errors.Is(err, agent.ErrConsentNeeded) {
		fmt.Println(problem.AuthorizationURL.Reveal())
	}
	fmt.Println(err)
	// Output:
	// https://onbehalf.example/authorize
	// agent: access token of "calendar": the user has to consent. Show AuthorizationURL of the error to the user and call again afterwards, or set OnAuthURL and the call waits.
}

// A web application that hosts its agent itself knows who is signed in, and
// makes the workload token of each request from that.
func ExampleWithWorkloadToken() {
	workloadTokenOf := func(r *http.Request) string { return "what GetWorkloadAccessTokenForJWT answered" }
	handler := func(w http.ResponseWriter, r *http.Request) {
		ctx := agent.WithWorkloadToken(r.Context(), workloadTokenOf(r))
		token, err := agent.AccessToken(ctx, agent.AccessTokenOptions{Provider: "tickets", Flow: agent.OnBehalfOf})
		fmt.Fprint(w, token.Reveal(), " ", err)
	}
	w := httptest.NewRecorder()
	handler(w, httptest.NewRequest(http.MethodPost, "/ask", nil))
	fmt.Println(w.Body)
	// Output: token of tickets <nil>
}

// A client of one's own, for a second account or region in one program.
func ExampleNew() {
	client := agent.NewClient(aws.Config{Region: "eu-central-1"}) // usually from config.LoadDefaultConfig
	options := agent.APIKeyOptions{Provider: "weather", Client: client}
	fmt.Println(options.Provider)
	// Output: weather
}

// An agent that a runtime can host: typed in, a stream out, the key from the vault.
func ExampleApp() {
	type prompt struct {
		Text string `json:"prompt"`
	}
	app := agent.New().Entrypoint(func(ctx context.Context, in prompt) (iter.Seq[string], error) {
		key, err := agent.APIKey(ctx, agent.APIKeyOptions{Provider: "weather"})
		if err != nil {
			return nil, err
		}
		_ = key.Reveal() // goes into the request to the model
		return func(yield func(string) bool) {
			_ = yield("You asked: "+in.Text) && yield("It is sunny.")
		}, nil
	})
	// main would say: if err := app.Run(); err != nil { log.Fatal(err) }

	call := httptest.NewRequest("POST", "/invocations", strings.NewReader(`{"prompt": "What is the weather now?"}`))
	call.Header.Set("X-Amz-Bedrock-AgentCore-Identity-WAT", "the runtime's word for who asks")
	answer := httptest.NewRecorder()
	app.ServeHTTP(answer, call)
	fmt.Print(answer.Body)
	// Output:
	// data: "You asked: What is the weather now?"
	//
	// data: "It is sunny."
}
