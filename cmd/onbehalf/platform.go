package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/onbehalf/onbehalf/client"
	"github.com/onbehalf/onbehalf/internal/server"
)

// platform is what the commands of daily work have in common. They are signed
// calls of the platform's own API, under whatever policies their key has, so they
// work from anywhere:
//
//	--endpoint, or the environment as `onbehalf env` prints it, or the data folder
//	      ▼
//	connection ── SigV4 ──▶ the platform
//
// An endpoint is always named by one of the three. Without one nothing is sent:
// a command of ours never reaches AWS with somebody's AWS keys.
type platform struct {
	Endpoint string `name:"endpoint" placeholder:"URL" help:"The platform's URL. Default: AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL, else the platform of the data folder." group:"Which platform"`
	Profile  string `name:"profile" placeholder:"NAME" help:"AWS profile with the key to sign with. Default: the environment's, else the data folder's root key." group:"Which platform"`
	Region   string `name:"region" env:"ONBEHALF_REGION" placeholder:"REGION" help:"The platform's region. Default: the environment's, else the data folder's." group:"Which platform"`
	Data     string `name:"data" env:"ONBEHALF_DATA" type:"path" placeholder:"DIR" help:"Data folder of a platform on this machine. Default ~/.local/share/onbehalf." group:"Which platform"`
	Output   string `name:"output" enum:"table,json" default:"table" help:"table or json."`

	dataNamed bool // on the command line, and so meant, whatever the environment says
}

// AfterApply remembers whether --data was typed.
func (p *platform) AfterApply(k *kong.Context) error {
	for _, path := range k.Path {
		if path.Flag != nil && path.Flag.Name == "data" && !path.Resolved {
			p.dataNamed = true
		}
	}
	return nil
}

// connection is the platform as one command sees it.
type connection struct {
	t        *terminal
	settings aws.Config // signs and retries
	endpoint string
	signer   *v4.Signer
	own      *client.Client // what AWS does not have; the rest: calls.go
}

// Variables that name an endpoint, as `onbehalf env` prints them.
const (
	controlVariable = "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL"
	dataVariable    = "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"
)

// connect finds the platform and the key to sign with.
func (p platform) connect(ctx context.Context, t *terminal) (*connection, error) {
	folder, missing := p.folder()
	endpoint := p.Endpoint
	if endpoint == "" && !p.dataNamed {
		endpoint = firstOf(os.Getenv(controlVariable), os.Getenv(dataVariable))
	}
	settings, err := p.load(ctx, t, folder, endpoint == "")
	if err != nil {
		return nil, hinted{fmt.Errorf("the AWS settings cannot be read: %w", err), "onbehalf env prints settings that work on the platform's own machine"}
	}
	if endpoint == "" && p.Profile != "" {
		endpoint = profileEndpoint(ctx, settings)
	}
	if endpoint == "" {
		if missing != nil {
			return nil, hinted{missing, "start the platform first: onbehalf serve; or say where it is: --endpoint URL, or the variables that onbehalf env prints there"}
		}
		endpoint = folder[controlVariable]
	}
	at, err := url.Parse(endpoint)
	if err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != "http" {
		return nil, usageError{fmt.Errorf("the endpoint %q is no URL such as https://agents.example.com", endpoint)}
	}
	if at.Scheme == "http" && !loopback(at.Hostname()) {
		fmt.Fprintln(t.err, "warning: http to another machine: whoever is on the way reads what is sent, secrets too")
	}
	return &connection{
		t: t, settings: settings, endpoint: strings.TrimRight(endpoint, "/"), signer: v4.NewSigner(),
		own: client.New(settings, func(o *client.Options) { o.BaseEndpoint = endpoint }), // an option, because variables win over the configuration
	}, nil
}

// profileEndpoint is what the services section of the profile says, as for the AWS CLI.
func profileEndpoint(ctx context.Context, settings aws.Config) string {
	for _, source := range settings.ConfigSources {
		if shared, ok := source.(config.SharedConfig); ok {
			for _, service := range []string{"Bedrock AgentCore Control", "Bedrock AgentCore"} {
				if endpoint, found, err := shared.GetServiceBaseEndpoint(ctx, service); err == nil && found {
					return endpoint
				}
			}
		}
	}
	return ""
}

// folder is the data folder's environment; the error says that there is none.
func (p platform) folder() (map[string]string, error) {
	variables, err := server.Environment(server.Config{Data: p.Data, Region: p.Region})
	if err != nil {
		return nil, err
	}
	folder := map[string]string{}
	for _, v := range variables {
		folder[v.Name] = v.Value
	}
	return folder, nil
}

// load reads the SDK's settings. A platform of this machine is called with the
// key of its own folder: whatever AWS keys the environment has are another's.
func (p platform) load(ctx context.Context, t *terminal, folder map[string]string, local bool) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithEC2IMDSClientEnableState(imds.ClientDisabled),                     // asking it takes seconds where there is none
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(time.Minute)), // the SDK's own kind: it takes AWS_CA_BUNDLE into it
		config.WithRetryer(retryer),
	}
	region := p.Region
	switch named := firstOf(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_PROFILE"), os.Getenv("AWS_SHARED_CREDENTIALS_FILE")); {
	case p.Profile != "":
		options = append(options, config.WithSharedConfigProfile(p.Profile))
	case folder != nil && (local || named == ""):
		options = append(options, config.WithSharedConfigProfile(folder["AWS_PROFILE"]), config.WithSharedConfigFiles([]string{}),
			config.WithSharedCredentialsFiles([]string{folder["AWS_SHARED_CREDENTIALS_FILE"]}))
		region = firstOf(region, folder["AWS_REGION"])
	}
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	settings, err := config.LoadDefaultConfig(ctx, options...)
	settings.HTTPClient = patient{t, settings.HTTPClient}
	if settings.Region == "" {
		settings.Region = firstOf(folder["AWS_REGION"], server.Config{}.WithDefaults().Region)
	}
	return settings, err
}

// retryer is the SDK's, but where nobody listens it says so at once.
func retryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			if errors.Is(err, syscall.ECONNREFUSED) {
				return aws.FalseTernary
			}
			return aws.UnknownTernary
		})}, o.Retryables...)
	})
}

// patient tells a person at a terminal that an answer is awaited, and from whom.
type patient struct {
	t     *terminal
	inner aws.HTTPClient
}

// Do sends the request.
func (p patient) Do(r *http.Request) (*http.Response, error) {
	defer p.t.waiting("waiting for " + r.URL.Host)()
	return p.inner.Do(r)
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

func firstOf(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}
