package deploy

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	ids "github.com/aws/smithy-go/rand"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/onbehalf/onbehalf/client"
)

// Options are what a [Client] goes by, besides the AWS configuration.
type Options struct {
	// BaseEndpoint is the platform's URL. Default: what the configuration has for
	// Bedrock AgentCore, as `onbehalf env` sets it. Without one there is no client:
	// nothing of this package is meant to reach AWS with somebody's AWS keys.
	BaseEndpoint string
	// Progress is told what happens meanwhile. It may be called from several goroutines.
	Progress func(Progress)
}

// Client puts agents on one platform.
type Client struct {
	settings aws.Config
	endpoint string
	signer   *v4.Signer
	own      *client.Client
	progress progress
	patience time.Duration
	skew     atomic.Int64 // nanoseconds by which the platform's clock is ahead of ours
}

// NewClient makes a client of an AWS configuration, as config.LoadDefaultConfig
// loads it. The configuration's HTTP client must not have a timeout that is shorter
// than an agent's answer.
func NewClient(settings aws.Config, options ...func(*Options)) (*Client, error) {
	o := Options{BaseEndpoint: endpointOf(settings)}
	for _, option := range options {
		option(&o)
	}
	at, err := url.Parse(o.BaseEndpoint)
	if err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != "http" {
		return nil, fmt.Errorf("the platform's URL %q is none: set AWS_ENDPOINT_URL_BEDROCK_AGENTCORE, which `onbehalf env` prints", o.BaseEndpoint)
	}
	if settings.HTTPClient == nil {
		settings.HTTPClient = awshttp.NewBuildableClient()
	}
	return &Client{
		settings: settings, endpoint: strings.TrimRight(o.BaseEndpoint, "/"), signer: v4.NewSigner(), progress: o.Progress, patience: answerTime,
		own: client.New(settings, func(c *client.Options) { c.BaseEndpoint = o.BaseEndpoint }),
	}, nil
}

// Endpoint is the platform's URL.
func (c *Client) Endpoint() string { return c.endpoint }

func endpointOf(settings aws.Config) string {
	for _, source := range settings.ConfigSources {
		of, ok := source.(interface {
			GetServiceBaseEndpoint(context.Context, string) (string, bool, error)
		})
		if !ok {
			continue
		}
		for _, service := range []string{"Bedrock AgentCore", "Bedrock AgentCore Control"} {
			if endpoint, found, err := of.GetServiceBaseEndpoint(context.Background(), service); err == nil && found {
				return endpoint
			}
		}
	}
	return aws.ToString(settings.BaseEndpoint)
}

// Of the signing names.
const (
	agentCore = "bedrock-agentcore"
	iam       = "iam"
	sts       = "sts"
)

// call is one signed request.
type call struct {
	service, method, path string // agentCore where nothing is said
	at                    string // another URL, without a signature: an agent on this machine
	header                http.Header
	body                  []byte
	bearer                string // a JSON Web Token instead of the signature
	once                  bool   // not again when the platform is busy: the agent may have begun
}

// tries are how often a call is made that meets a platform which is busy or restarts.
const tries = 4

// do sends a call and answers what came, with its body still to be read.
func (c *Client) do(ctx context.Context, k call) (*http.Response, error) {
	corrected := false
	for try := 1; ; try++ {
		response, err := c.send(ctx, k)
		if err != nil {
			return nil, err
		}
		if response.StatusCode < http.StatusMultipleChoices {
			return response, nil
		}
		if k.at != "" { // whatever it is, it is the answer: nobody is busy between here and there
			return nil, agentsRefusal(response)
		}
		failed := refusal(response)
		theirs, noDate := http.ParseTime(response.Header.Get("Date"))
		again := false
		switch response.StatusCode {
		case http.StatusForbidden:
			if wrong := time.Until(theirs); noDate == nil && !corrected && (wrong+time.Duration(-c.skew.Load())).Abs() > wrongClock {
				c.skew.Store(int64(wrong))
				corrected, again = true, true
			}
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			again = true
		case http.StatusBadGateway, http.StatusGatewayTimeout:
			again = !k.once
		case http.StatusConflict:
			again = codeOf(failed) == "RetryableConflictException" && try < tries
		}
		if !again || try >= tries {
			return nil, failed
		}
		select {
		case <-ctx.Done():
			return nil, failed
		case <-time.After(time.Duration(try*try) * 100 * time.Millisecond):
		}
	}
}

// wrongClock is a difference that the platform minds, less a margin.
const wrongClock = 4 * time.Minute

func (c *Client) send(ctx context.Context, k call) (*http.Response, error) {
	where := c.endpoint + k.path
	if k.at != "" {
		where = k.at
	}
	request, err := http.NewRequestWithContext(ctx, k.method, where, bytes.NewReader(k.body))
	if err != nil {
		return nil, err
	}
	for name, values := range k.header {
		request.Header[name] = values
	}
	if len(k.body) > 0 && request.Header.Get("Content-Type") == "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if k.bearer != "" {
		request.Header.Set("Authorization", "Bearer "+k.bearer)
	}
	if k.bearer != "" || k.at != "" {
		return c.settings.HTTPClient.Do(request)
	}
	if c.settings.Credentials == nil {
		return nil, errors.New("the credentials cannot be had: the configuration has none")
	}
	key, err := c.settings.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("the credentials cannot be had: %w", err)
	}
	hash := sha256.Sum256(k.body)
	service := k.service
	if service == "" {
		service = agentCore
	}
	now := time.Now().Add(time.Duration(c.skew.Load()))
	if err := c.signer.SignHTTP(ctx, key, request, hex.EncodeToString(hash[:]), service, c.settings.Region, now); err != nil {
		return nil, err
	}
	return c.settings.HTTPClient.Do(request)
}

// mostRefused bounds what is read of an error.
const mostRefused = 1 << 20

// Of errors: what the platform calls an agent's own, and the header that says which one it is.
const (
	runtimeClientError = "RuntimeClientError"
	headerErrorType    = "X-Amzn-Errortype"
)

// agentsRefusal is the error of an agent that Dev runs, in the platform's words for an agent's error.
func agentsRefusal(response *http.Response) error {
	if response.Header.Get(headerErrorType) != "" { // it is the front door's
		return refusal(response)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, mostRefused))
	return failure(response, runtimeClientError, strings.TrimSpace(fmt.Sprintf("Received error (%d) from runtime. %s", response.StatusCode, body)))
}

// refusal is the error of an answer.
func refusal(response *http.Response) error {
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, mostRefused))
	var said struct {
		Type    string          `json:"__type"`
		Message string          `json:"message"`
		Error   json.RawMessage `json:"error"` // of JSON-RPC, to callers with a token
	}
	var query struct {
		Error struct{ Code, Message string }
	}
	code := ""
	if json.Unmarshal(body, &said) == nil {
		var nested struct{ Message string }
		if said.Message == "" && json.Unmarshal(said.Error, &nested) == nil {
			said.Message = nested.Message
		}
	} else if xml.Unmarshal(body, &query) == nil {
		code, said.Message = query.Error.Code, query.Error.Message
	}
	for _, other := range []string{response.Header.Get(headerErrorType), said.Type} {
		if code == "" {
			code, _, _ = strings.Cut(other, ":")
		}
	}
	if code == "" {
		code = "UnknownError" // a proxy on the way may have answered with anything
	}
	return failure(response, code, said.Message)
}

// failure is an error in the form that the AWS SDK gives its own: errors.As finds
// smithy.APIError and awshttp.ResponseError.
func failure(response *http.Response, code, message string) error {
	fault := smithy.FaultClient
	if response.StatusCode >= http.StatusInternalServerError {
		fault = smithy.FaultServer
	}
	return &awshttp.ResponseError{RequestID: response.Header.Get("X-Amzn-Requestid"), ResponseError: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: response}, Err: &smithy.GenericAPIError{Code: code, Message: message, Fault: fault},
	}}
}

func codeOf(err error) string {
	var said smithy.APIError
	if errors.As(err, &said) {
		return said.ErrorCode()
	}
	return ""
}

func isMissing(err error) bool {
	code := codeOf(err)
	return code == "ResourceNotFoundException" || code == "NoSuchEntity"
}

// object is a part of a request. with leaves out what was not said.
type object map[string]any

func (o object) with(name string, value any, said bool) object {
	if said {
		o[name] = value
	}
	return o
}

// answerTime bounds a call that is no agent's: the longest is a version whose code is unpacked meanwhile.
const answerTime = 2 * time.Minute

// mostAnswered bounds what is read of an answer that is no agent's.
const mostAnswered = 16 << 20

// nonsense is an answer that is not the platform's, though its status is.
func nonsense() error {
	return &smithy.GenericAPIError{Code: "UnknownError", Message: "the answer is not the platform's"}
}

// ask sends JSON and reads JSON; either may be nil.
func (c *Client) ask(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	return c.exchange(ctx, call{method: method, path: path, body: body}, json.Unmarshal, out)
}

// query sends a call of IAM or STS and reads its XML into out, which may be nil.
func (c *Client) query(ctx context.Context, service, action string, parameters map[string]string, out any) error {
	version := "2010-05-08"
	if service == sts {
		version = "2011-06-15"
	}
	form := url.Values{"Action": {action}, "Version": {version}}
	for name, value := range parameters {
		form.Set(name, value)
	}
	return c.exchange(ctx, call{
		service: service, method: http.MethodPost, path: "/", body: []byte(form.Encode()),
		header: http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=utf-8"}},
	}, xml.Unmarshal, out)
}

// exchange makes a call and reads all of its answer, in its time.
func (c *Client) exchange(ctx context.Context, k call, read func([]byte, any) error, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	response, err := c.do(ctx, k)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, mostAnswered))
	if err != nil || out == nil {
		return err
	}
	if read(answer, out) != nil {
		return nonsense()
	}
	return nil
}

// uuid is what session ids look like, and tokens that make a create that is sent twice one.
func uuid() string {
	id, _ := ids.NewUUID(rand.Reader).GetUUID() // random bytes never fail to come
	return id
}
