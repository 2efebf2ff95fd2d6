package eventstream

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"

	"github.com/onbehalf/onbehalf/internal/api"
)

// read lets the official SDK read a stream, and says what it understood.
func read(t *testing.T, body []byte) (said []string, failed error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", ContentType)
		_, _ = w.Write(body)
	}))
	defer server.Close()
	client := bedrockagentcore.New(bedrockagentcore.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("AKIA", "secret", ""), RetryMaxAttempts: 1,
	})
	out, err := client.InvokeAgentRuntimeCommand(t.Context(), &bedrockagentcore.InvokeAgentRuntimeCommandInput{
		AgentRuntimeArn: aws.String("arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/a-0123456789"), Body: &types.InvokeAgentRuntimeCommandRequestBody{Command: aws.String("ls")},
	})
	if err != nil {
		t.Fatal(err)
	}
	stream := out.GetStream()
	defer stream.Close()
	for event := range stream.Events() {
		chunk, is := event.(*types.InvokeAgentRuntimeCommandStreamOutputMemberChunk)
		if !is {
			t.Errorf("an event of type %T", event)
			continue
		}
		switch {
		case chunk.Value.ContentStart != nil:
			said = append(said, "start")
		case chunk.Value.ContentDelta != nil:
			said = append(said, "out "+aws.ToString(chunk.Value.ContentDelta.Stdout), "err "+aws.ToString(chunk.Value.ContentDelta.Stderr))
		case chunk.Value.ContentStop != nil:
			said = append(said, string(chunk.Value.ContentStop.Status))
			if *chunk.Value.ContentStop.ExitCode != 7 {
				t.Errorf("exit code %d", *chunk.Value.ContentStop.ExitCode)
			}
		}
	}
	return said, stream.Err()
}

func chunk(b []byte, c api.ResponseChunk) []byte { return AppendEvent(b, "chunk", c.AppendJSON(nil)) }

// The official SDK reads what a command says, at once and in any size.
func TestEvents(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü\n", 30_000)
	b := chunk(nil, api.ResponseChunk{ContentStart: &api.ContentStartEvent{}})
	b = chunk(b, api.ResponseChunk{ContentDelta: &api.ContentDeltaEvent{Stdout: &long}})
	b = chunk(b, api.ResponseChunk{ContentDelta: &api.ContentDeltaEvent{Stdout: aws.String(""), Stderr: aws.String("no such file")}})
	b = chunk(b, api.ResponseChunk{ContentStop: &api.ContentStopEvent{ExitCode: 7, Status: api.CommandExecutionStatusCompleted}})
	said, err := read(t, b)
	want := []string{"start", "out " + long, "err ", "out ", "err no such file", "COMPLETED"}
	if err != nil || strings.Join(said, "|") != strings.Join(want, "|") {
		t.Errorf("%.200q, %v", said, err)
	}
}

// Each exception of the union reaches the SDK's caller as its own type.
func TestExceptions(t *testing.T) {
	t.Parallel()
	for member, is := range map[string]func(error) bool{
		"accessDeniedException":         as[*types.AccessDeniedException],
		"internalServerException":       as[*types.InternalServerException],
		"resourceNotFoundException":     as[*types.ResourceNotFoundException],
		"serviceQuotaExceededException": as[*types.ServiceQuotaExceededException],
		"throttlingException":           as[*types.ThrottlingException],
		"validationException":           as[*types.ValidationException],
		"runtimeClientError":            as[*types.RuntimeClientError],
	} {
		b := chunk(nil, api.ResponseChunk{ContentStart: &api.ContentStartEvent{}})
		b = AppendException(b, member, []byte(`{"message":"it is over","reason":"CannotParse"}`))
		said, err := read(t, b)
		if len(said) != 1 || !is(err) || !strings.Contains(err.Error(), "it is over") {
			t.Errorf("%s: %v, then %v", member, said, err)
		}
	}
}

func as[E error](err error) bool { return errors.As(err, new(E)) }

// A frame that was damaged on the way is noticed.
func TestDamage(t *testing.T) {
	t.Parallel()
	whole := chunk(nil, api.ResponseChunk{ContentDelta: &api.ContentDeltaEvent{Stdout: aws.String("abc")}})
	for _, at := range []int{0, 5, 9, 20, len(whole) - 6, len(whole) - 1} {
		damaged := append([]byte(nil), whole...)
		damaged[at] ^= 1
		if _, err := read(t, damaged); err == nil {
			t.Errorf("a damaged byte %d is not noticed", at)
		}
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	payload, frame := []byte(`{"contentDelta":{"stdout":"`+strings.Repeat("x", 4000)+`"}}`), make([]byte, 0, 8<<10)
	b.ReportAllocs()
	for b.Loop() {
		frame = AppendEvent(frame[:0], "chunk", payload)
	}
}
