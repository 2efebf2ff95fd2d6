package agent_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go/logging"

	"github.com/onbehalf/onbehalf/agent"
)

// Whatever prints a Secret, the value is not in it.
func TestNothingPrintsASecret(t *testing.T) {
	t.Parallel()
	const canary = "hunter2-and-more"
	secret := agent.NewSecret(canary)
	holder := struct {
		Token  agent.Secret
		Any    any
		Map    map[string]agent.Secret
		hidden agent.Secret // fmt may not call methods on it
	}{secret, secret, map[string]agent.Secret{"k": secret}, secret}
	problem := &agent.Error{Op: "access token", Kind: agent.ErrConsentNeeded, AuthorizationURL: secret}
	var printed strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3s"} {
		for _, value := range []any{secret, &secret, holder, &holder, problem, *problem, agent.WithWorkloadToken(t.Context(), canary)} {
			fmt.Fprintf(&printed, verb+"\n", value)
		}
	}
	for _, value := range []any{holder, map[agent.Secret]int{secret: 1}, problem} {
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		printed.Write(encoded)
	}
	slog.New(slog.NewTextHandler(&printed, nil)).Info("text", "secret", secret, "holder", holder, "error", problem)
	slog.New(slog.NewJSONHandler(&printed, nil)).Info("json", "secret", secret, "holder", holder, "error", problem)
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary)} {
		if strings.Contains(printed.String(), form) {
			t.Errorf("the secret is printed: %s", printed.String())
		}
	}
	if !strings.Contains(printed.String(), "[redacted]") {
		t.Error("nothing says that there is a secret")
	}
	if fmt.Sprint(agent.Secret{}) != "" || !agent.NewSecret("").IsZero() || secret.IsZero() || secret.Reveal() != canary {
		t.Error("empty and not empty are confused")
	}
}

// What a model sends cannot fill a Secret.
func TestASecretIsNotReadFromJSON(t *testing.T) {
	t.Parallel()
	var input struct{ Token agent.Secret }
	if err := json.Unmarshal([]byte(`{"Token":"chosen by a model"}`), &input); err == nil || !input.Token.IsZero() {
		t.Errorf("read %v, %v", input, err)
	}
}

// Also where the AWS configuration asks for whole requests and answers in the log.
func TestBodiesAreNotLogged(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	client := agent.NewClient(aws.Config{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "a secret key", ""), BaseEndpoint: aws.String("http://platform.test"),
		Logger:        logging.NewStandardLogger(&log),
		ClientLogMode: aws.LogRequest | aws.LogRequestWithBody | aws.LogResponse | aws.LogResponseWithBody,
		HTTPClient:    &wire{answer: func(int, call) (int, any) { return 200, object{"apiKey": "key-that-nobody-may-see"} }},
	})
	key, err := agent.APIKey(hosted(t), agent.APIKeyOptions{Provider: "weather", Client: client})
	if err != nil || key.IsZero() {
		t.Fatal(err)
	}
	if text := log.String(); text == "" || strings.Contains(text, workloadToken) || strings.Contains(text, "key-that-nobody-may-see") {
		t.Errorf("the log: %q", text)
	}
}

func TestSetAuthHeader(t *testing.T) {
	t.Parallel()
	r, err := http.NewRequest(http.MethodGet, "http://api.test", io.MultiReader())
	if err != nil {
		t.Fatal(err)
	}
	agent.NewSecret("granted").SetAuthHeader(r)
	if got := r.Header.Get("Authorization"); got != "Bearer granted" {
		t.Error(got)
	}
}
