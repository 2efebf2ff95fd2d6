package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// assemble puts the steps of a call in the SDK's order and under its names, so
// that middleware which is added by configuration finds its place.
func (c *Client) assemble(stack *middleware.Stack, o Options, operation string, output any) error {
	serialize := middleware.SerializeMiddlewareFunc("OperationSerializer", func(ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler) (middleware.SerializeOutput, middleware.Metadata, error) {
		request, hash, err := encode(in.Request.(*smithyhttp.Request), o.BaseEndpoint, operation, in.Parameters)
		if err != nil {
			return middleware.SerializeOutput{}, middleware.Metadata{}, &smithy.SerializationError{Err: err}
		}
		in.Request = request
		return next.HandleSerialize(v4.SetPayloadHash(ctx, hash), in)
	})
	sign := middleware.FinalizeMiddlewareFunc("Signing", func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
		if err := c.sign(ctx, o, in.Request.(*smithyhttp.Request)); err != nil {
			return middleware.FinalizeOutput{}, middleware.Metadata{}, &v4.SigningError{Err: err}
		}
		return next.HandleFinalize(ctx, in)
	})
	deserialize := middleware.DeserializeMiddlewareFunc("OperationDeserializer", func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		if err != nil {
			return out, metadata, err
		}
		response := out.RawResponse.(*smithyhttp.Response)
		c.learn(response.Response)
		out.Result = output
		err = decode(response.Response, output)
		smithyhttp.CloseResponseBody(ctx, response, false, err)
		return out, metadata, err
	})
	agent := awsmiddleware.NewRequestUserAgent()
	agent.AddSDKAgentKey(awsmiddleware.APIMetadata, "onbehalf")
	attempts := retry.NewAttemptMiddleware(o.Retryer, smithyhttp.RequestCloner)
	for _, err := range []error{
		stack.Serialize.Add(serialize, middleware.After),
		stack.Build.Add(agent, middleware.After),
		stack.Finalize.Add(attempts, middleware.After),
		stack.Finalize.Add(sign, middleware.After),
		stack.Deserialize.Add(deserialize, middleware.After),
		awsmiddleware.AddRequestIDRetrieverMiddleware(stack),
		awshttp.AddResponseErrorMiddleware(stack),
		awsmiddleware.AddRawResponseToMetadata(stack),
		awsmiddleware.AddRecordResponseTiming(stack),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// encode makes the HTTP request, and the hash of its body for the signature. All that a call says is in its body: users' ids
// are nobody's business on the way, and URLs end in logs.
func encode(request *smithyhttp.Request, base, operation string, input any) (_ *smithyhttp.Request, hash string, err error) {
	if base == "" {
		return nil, "", errNoEndpoint
	}
	target, err := url.Parse(base)
	if err != nil || target.Host == "" {
		return nil, "", fmt.Errorf("the endpoint %q is not a URL", base)
	}
	target.Path = strings.TrimSuffix(target.Path, "/") + "/onbehalf/" + operation
	request.URL, request.Method = target, http.MethodPost
	if streaming, is := input.(interface{ stream() io.ReadSeeker }); is {
		return encodeStream(request, streaming.stream())
	}
	body, err := json.Marshal(input)
	if err != nil {
		return nil, "", err
	}
	request.Header.Set("Content-Type", "application/json")
	sum := sha256.Sum256(body)
	request, err = request.SetStream(bytes.NewReader(body))
	return request, hex.EncodeToString(sum[:]), err
}

// patient is how long a body may be to be sent without asking first. Of a longer
// one the server looks at the headers and says whether it wants it, so that
// nobody sends 250 MB to be told of a wrong key.
const patient = 1 << 20

// encodeStream sends what is left of content as it is. It is read twice, and
// never held in memory: once for the hash that is signed, and once per attempt.
func encodeStream(request *smithyhttp.Request, content io.ReadSeeker) (_ *smithyhttp.Request, hash string, err error) {
	if content == nil {
		return nil, "", errNoContent
	}
	request.Header.Set("Content-Type", "application/octet-stream")
	if request, err = request.SetStream(content); err != nil {
		return nil, "", err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, content); err != nil {
		return nil, "", fmt.Errorf("the content cannot be read: %w", err)
	}
	if err := request.RewindStream(); err != nil {
		return nil, "", err
	}
	if request.ContentLength > patient {
		request.Header.Set("Expect", "100-continue")
		request.Proto, request.ProtoMajor, request.ProtoMinor = "HTTP/1.1", 1, 1 // net/http waits for the answer only where it reads this
	}
	hash = hex.EncodeToString(sum.Sum(nil))
	request.Header.Set("X-Amz-Content-Sha256", hash) // lets the server check the signature before the content has come
	return request, hash, nil
}

func (c *Client) sign(ctx context.Context, o Options, request *smithyhttp.Request) error {
	if o.Credentials == nil {
		return errNoCredentials
	}
	credentials, err := o.Credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("the credentials cannot be had: %w", err)
	}
	now := time.Now().Add(time.Duration(c.skew.Load()))
	return c.signer.SignHTTP(ctx, credentials, request.Request, v4.GetPayloadHash(ctx), signingName, o.Region, now)
}

// tolerated is the difference of clocks that the server does not mind.
const tolerated = 4 * time.Minute

// learn remembers by how much our clock is wrong, for the next attempt.
func (c *Client) learn(response *http.Response) {
	theirs, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return
	}
	if skew := time.Until(theirs); skew > tolerated || skew < -tolerated {
		c.skew.Store(int64(skew))
	} else {
		c.skew.Store(0)
	}
}

// largest bounds what is read of an answer.
const largest = 16 << 20

func decode(response *http.Response, output any) error {
	body, err := io.ReadAll(io.LimitReader(response.Body, largest))
	if err != nil {
		return &smithy.DeserializationError{Err: err}
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return decodeError(response, body)
	}
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, output); err != nil {
		return &smithy.DeserializationError{Err: err}
	}
	return nil
}

// decodeError makes the typed error of an answer, and a general one of what no model has.
func decodeError(response *http.Response, body []byte) error {
	var said struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	_ = json.Unmarshal(body, &said) // a proxy on the way may have answered with anything
	name := response.Header.Get("X-Amzn-Errortype")
	if name == "" {
		name = said.Type
	}
	if typed := exception(name); typed != nil {
		_ = json.Unmarshal(body, typed)
		return typed
	}
	general := &smithy.GenericAPIError{Code: name, Message: said.Message, Fault: smithy.FaultClient}
	if response.StatusCode >= http.StatusInternalServerError {
		general.Fault = smithy.FaultServer
	}
	if general.Code == "" {
		general.Code = fmt.Sprintf("HTTP%d", response.StatusCode)
	}
	return general
}
