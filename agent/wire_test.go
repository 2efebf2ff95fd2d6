package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/onbehalf/onbehalf/agent"
)

// call is a request as it went over the wire.
type call struct {
	Operation string
	Body      map[string]any
}

// wire answers the requests of the AWS SDK without a network, so that time can
// be a synctest bubble's, and keeps them. The platform's own answers are tested in story_test.go.
type wire struct {
	answer func(n int, c call) (status int, body any)

	mu    sync.Mutex
	calls []call
}

func (w *wire) Do(r *http.Request) (*http.Response, error) {
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	c := call{Operation: path.Base(r.URL.Path)}
	if err := json.Unmarshal(content, &c.Body); err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.calls = append(w.calls, c)
	n := len(w.calls)
	w.mu.Unlock()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	status, body := w.answer(n, c)
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Request: r, ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(encoded)),
	}, nil
}

func (w *wire) seen() []call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]call(nil), w.calls...)
}

// over is a client whose calls are answered by a function.
func over(answer func(n int, c call) (status int, body any)) (*agent.Client, *wire) {
	w := &wire{answer: answer}
	return agent.NewClient(aws.Config{
		Region: "us-east-1", HTTPClient: w, RetryMaxAttempts: 1, BaseEndpoint: aws.String("http://platform.test"),
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "a secret key", ""),
	}), w
}

type object = map[string]any

func exception(code, message string) object { return object{"__type": code, "message": message} }

const (
	workloadToken = "workload-token-that-nobody-may-see"
	link          = "https://platform.test/identities/oauth2/authorize?request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3Aabc"
	session       = "urn:ietf:params:oauth:request_uri:abc"
)

var inProgress = object{"authorizationUrl": link, "sessionUri": session, "sessionStatus": "IN_PROGRESS"}

func hosted(t *testing.T) context.Context { return agent.WithWorkloadToken(t.Context(), workloadToken) }
