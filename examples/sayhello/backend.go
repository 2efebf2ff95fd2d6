package main

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/smithy-go/middleware"
)

// Backend is what stands behind the AWS API: a platform in this process, one
// that is running, or Amazon's. Only endpoints and credentials differ.
type Backend struct {
	*Platform
	Description string // for the first line
	DemoURL     string // of the demo provider beside it; empty where there is none
	Stop        func() // ends what OpenBackend started
}

// OpenBackend starts or finds the platform. own is the person's own sign-in, if
// it is not the demo provider's: an embedded platform is told to trust it.
func OpenBackend(ctx context.Context, s *Settings, own *SignIn, log *slog.Logger, logs logWriter) (*Backend, error) {
	b := &Backend{DemoURL: strings.TrimSuffix(s.DemoProvider, "/"), Stop: func() {}}
	options := []func(*config.LoadOptions) error{config.WithRegion(s.Region), config.WithAPIOptions([]func(*middleware.Stack) error{logCalls(log)})}
	endpoint := "" // AWS's own
	switch s.Backend {
	case backendAWS:
		b.Description, options = "Amazon Bedrock AgentCore in "+s.Region, append(options, chosen(s.AWS)...)
		// The SDK follows these; who has forgotten that they are set should see it.
		if elsewhere := os.Getenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"); elsewhere != "" {
			b.Description += " at " + elsewhere
		}
	case backendEmbedded:
		started, err := b.embed(ctx, s, own, logs)
		if err != nil {
			return nil, err
		}
		endpoint, options = started.endpoint, append(options, started.credentials...)
	default:
		endpoint = strings.TrimSuffix(s.Backend, "/")
		b.Description, options = "platform on "+endpoint, append(options, chosen(s.AWS)...)
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err == nil {
		looking, cancel := ctx, context.CancelFunc(func() {})
		if s.Backend != backendAWS { // no use in waiting for an instance role that is not there
			looking, cancel = context.WithTimeout(ctx, 3*time.Second)
		}
		_, err = loaded.Credentials.Retrieve(looking)
		cancel()
	}
	if err != nil {
		b.Stop()
		if ctx.Err() != nil {
			return nil, stopped()
		}
		return nil, &CredentialsError{Problem{What: "there are no AWS credentials", Cause: err, Hint: hintCredentials}}
	}
	// Said to each client, an endpoint wins over AWS_ENDPOINT_URL_… of the environment.
	b.Platform = &Platform{Region: s.Region, Log: log,
		Control: bedrockagentcorecontrol.NewFromConfig(loaded, func(o *bedrockagentcorecontrol.Options) {
			if endpoint != "" {
				o.BaseEndpoint = &endpoint
			}
		}),
		Data: bedrockagentcore.NewFromConfig(loaded, func(o *bedrockagentcore.Options) {
			if endpoint != "" {
				o.BaseEndpoint = &endpoint
			}
		}),
	}
	return b, nil
}

// chosen makes the SDK use the AWS_ variables of .env, which it does not read.
func chosen(file map[string]string) []func(*config.LoadOptions) error {
	var options []func(*config.LoadOptions) error
	if id := file["AWS_ACCESS_KEY_ID"]; id != "" {
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(id, file["AWS_SECRET_ACCESS_KEY"], file["AWS_SESSION_TOKEN"])))
	}
	if path := file["AWS_SHARED_CREDENTIALS_FILE"]; path != "" {
		options = append(options, config.WithSharedCredentialsFiles([]string{path}))
	}
	if path := file["AWS_CONFIG_FILE"]; path != "" {
		options = append(options, config.WithSharedConfigFiles([]string{path}))
	}
	if profile := file["AWS_PROFILE"]; profile != "" {
		options = append(options, config.WithSharedConfigProfile(profile))
	}
	return options
}

// logCalls writes a debug line per AWS call: operation, request id, time. Never a body.
func logCalls(log *slog.Logger) func(*middleware.Stack) error {
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("sayhelloLog", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			started := time.Now()
			out, metadata, err := next.HandleInitialize(ctx, in)
			id, _ := awsmiddleware.GetRequestIDMetadata(metadata)
			log.Debug("call", "operation", awsmiddleware.GetOperationName(ctx), "request_id", id, "duration", time.Since(started).Round(time.Millisecond), "error", errorText(err))
			return out, metadata, err
		}), middleware.After)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return safe(err)
}
