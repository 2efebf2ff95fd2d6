package client

import (
	"context"
	"errors"
	"os"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// ServiceID is the name of the service in errors and in AWS_ENDPOINT_URL_ONBEHALF.
const ServiceID = "Onbehalf"

// signingName is the one that all operations of a server are signed with, ours and AWS's.
const signingName = "bedrock-agentcore"

// Options are what calls go by. New fills them in from an aws.Config.
type Options struct {
	BaseEndpoint string // the platform's URL
	Region       string
	Credentials  aws.CredentialsProvider
	HTTPClient   aws.HTTPClient
	Retryer      aws.Retryer
	APIOptions   []func(*middleware.Stack) error // further middleware, as in the AWS SDK
}

// Client calls the operations; safe for concurrent use.
type Client struct {
	options Options
	signer  *v4.Signer
	skew    atomic.Int64 // nanoseconds by which the server's clock is ahead of ours
}

// New makes a client of an AWS configuration, as config.LoadDefaultConfig loads it.
func New(cfg aws.Config, options ...func(*Options)) *Client {
	o := Options{Region: cfg.Region, Credentials: cfg.Credentials, HTTPClient: cfg.HTTPClient, APIOptions: cfg.APIOptions, BaseEndpoint: endpoint(cfg)}
	if cfg.Retryer != nil {
		o.Retryer = cfg.Retryer()
	}
	for _, option := range options {
		option(&o)
	}
	if o.Retryer == nil {
		o.Retryer = retry.NewStandard()
	}
	if cfg.RetryMaxAttempts != 0 {
		o.Retryer = retry.AddWithMaxAttempts(o.Retryer, cfg.RetryMaxAttempts)
	}
	if o.HTTPClient == nil {
		o.HTTPClient = awshttp.NewBuildableClient()
	}
	return &Client{options: o, signer: v4.NewSigner()}
}

// endpoint finds the platform as the SDK finds a service: what the program says
// wins over the service's own variable, that over a profile's setting, and all
// over AWS_ENDPOINT_URL. Where ours is not set, AgentCore's data plane has the
// same address.
func endpoint(cfg aws.Config) string {
	for _, service := range []struct{ id, variable string }{{ServiceID, "AWS_ENDPOINT_URL_ONBEHALF"}, {"Bedrock AgentCore", "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"}} {
		_, general := os.LookupEnv("AWS_ENDPOINT_URL")
		if _, own := os.LookupEnv(service.variable); general && !own {
			continue
		}
		for _, source := range cfg.ConfigSources {
			if s, ok := source.(interface {
				GetServiceBaseEndpoint(context.Context, string) (string, bool, error)
			}); ok {
				if value, found, err := s.GetServiceBaseEndpoint(context.Background(), service.id); found && err == nil {
					return value
				}
			}
		}
	}
	return aws.ToString(cfg.BaseEndpoint)
}

// invoke sends one operation, with the SDK's retries around it.
func (c *Client) invoke(ctx context.Context, operation string, input, output any, options []func(*Options)) error {
	o := c.options
	for _, option := range options {
		option(&o)
	}
	ctx = middleware.ClearStackValues(ctx)
	ctx = middleware.WithServiceID(ctx, ServiceID)
	ctx = middleware.WithOperationName(ctx, operation)
	stack := middleware.NewStack(operation, smithyhttp.NewStackRequest)
	err := c.assemble(stack, o, operation, output)
	for _, add := range o.APIOptions {
		if err == nil {
			err = add(stack)
		}
	}
	if err == nil {
		_, _, err = middleware.DecorateHandler(smithyhttp.NewClientHandlerWithOptions(o.HTTPClient), stack).Handle(ctx, input)
	}
	if err != nil {
		return &smithy.OperationError{ServiceID: ServiceID, OperationName: operation, Err: err}
	}
	return nil
}

var (
	errNoEndpoint    = errors.New("no endpoint: set AWS_ENDPOINT_URL_ONBEHALF to the platform's URL; `onbehalf env` prints it")
	errNoCredentials = errors.New("the configuration has no credentials")
	errNoMorePages   = errors.New("no more pages")
	errNoContent     = errors.New("the input has no content to send")
)
