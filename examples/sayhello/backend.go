package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/smithy-go/middleware"

	"github.com/onbehalf/onbehalf/internal/server"
)

// Backend is what stands behind the AWS API: a platform in this process, one
// that is running, or Amazon's. Only endpoints and credentials differ.
type Backend struct {
	*Platform
	Description string // for the first line
	DemoURL     string // of the demo provider beside it; empty where there is none
	Stop        func() // ends what OpenBackend started
}

// OpenBackend starts or finds the platform.
func OpenBackend(ctx context.Context, s *Settings, log *slog.Logger) (*Backend, error) {
	b := &Backend{DemoURL: s.DemoProvider, Stop: func() {}}
	options := []func(*config.LoadOptions) error{config.WithRegion(s.Region), config.WithAPIOptions([]func(*middleware.Stack) error{logCalls(log)})}
	switch s.Backend {
	case "aws":
		b.Description = "Amazon Bedrock AgentCore in " + s.Region
	case "embedded":
		started, err := b.embed(ctx, s)
		if err != nil {
			return nil, err
		}
		options = append(options, started...)
	default:
		b.Description = "platform on " + s.Backend
		options = append(options, config.WithBaseEndpoint(s.Backend))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err == nil {
		_, err = loaded.Credentials.Retrieve(ctx)
	}
	if err != nil {
		b.Stop()
		return nil, &CredentialsError{Problem{What: "there are no AWS credentials", Cause: err, Hint: hintCredentials}}
	}
	b.Platform = &Platform{Control: bedrockagentcorecontrol.NewFromConfig(loaded), Data: bedrockagentcore.NewFromConfig(loaded), Region: s.Region}
	return b, nil
}

// embed starts the platform in this process, on loopback, with the demo provider beside it.
func (b *Backend) embed(ctx context.Context, s *Settings) ([]func(*config.LoadOptions) error, error) {
	data, remove := s.Data, func() {}
	if data == "" {
		temporary, err := os.MkdirTemp("", "sayhello-")
		if err != nil {
			return nil, &ConfigurationError{Problem{What: "no temporary folder can be made", Cause: err, Hint: "Name a folder with --data."}}
		}
		data, remove = temporary, func() { _ = os.RemoveAll(temporary) }
	}
	data, err := filepath.Abs(data)
	if err != nil {
		return nil, err
	}
	configuration := server.Config{Addr: or(s.Addr, "127.0.0.1:0"), Data: data, Dev: true, Region: s.Region, LogLevel: "error"}
	if s.Addr == fixedAddr {
		configuration.DemoAddr = fixedDemo
	}
	if s.LogLevel <= slog.LevelDebug {
		configuration.LogLevel = "debug"
	}
	log := server.Logger(configuration, os.Stderr)
	slog.SetDefault(log)
	if issuer, audience := s.inboundTrust(); issuer != "" {
		configuration.TrustedIssuers = []string{issuer + "=" + audience}
	}
	platform, err := server.Start(ctx, configuration, log)
	if err != nil {
		remove()
		problem := Problem{What: "the platform does not start", Cause: err, Hint: "Another --data folder makes a fresh start."}
		var taken *server.PortTakenError
		if errors.As(err, &taken) {
			problem.Hint = "Stop the program that listens there, or choose another address with --addr."
		}
		return nil, &ConfigurationError{problem}
	}
	b.DemoURL = platform.DemoURL()
	b.Description = "embedded platform on " + platform.URL()
	b.Stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = platform.Close(ctx)
		remove()
	}
	return []func(*config.LoadOptions) error{
		config.WithBaseEndpoint(platform.URL()),
		config.WithSharedCredentialsFiles([]string{platform.CredentialsFile()}),
		config.WithSharedConfigFiles(nil),
		config.WithSharedConfigProfile(server.Profile),
	}, nil
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
