package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/smithy-go"
)

// The operations that AWS has, without AWS's generated packages: these cost the
// server, which is the same program, 15 MB of memory before it has done anything.
// What is ours goes through package client, which costs nothing.

// Of the signing names.
const (
	agentCore = "bedrock-agentcore"
	tokens    = "sts"
)

// answerError is an operation's error, as the platform says it.
type answerError struct {
	code, message, request string
	status                 int
}

func (e *answerError) Error() string        { return e.code + ": " + e.message }
func (e *answerError) ErrorCode() string    { return e.code }
func (e *answerError) ErrorMessage() string { return e.message }
func (e *answerError) ErrorFault() smithy.ErrorFault {
	if e.status >= http.StatusInternalServerError {
		return smithy.FaultServer
	}
	return smithy.FaultClient
}

// identity calls an operation of the identity family: all of them are alike.
func (c *connection) identity(ctx context.Context, operation string, in, out any) error {
	return c.call(ctx, http.MethodPost, "/identities/"+operation, in, out)
}

// call sends one operation and reads its answer into out, which may be nil.
func (c *connection) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	answer, err := c.send(ctx, agentCore, method, path, "application/json", body)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return &answerError{code: "UnknownError", message: "the answer is not JSON"}
	}
	return nil
}

// tries are how often a call is made that meets a platform which is busy or restarts.
const tries = 3

// send signs and sends. A clock that is wrong is put right by the platform's.
func (c *connection) send(ctx context.Context, service, method, path, contentType string, body []byte) (answer []byte, err error) {
	var skew time.Duration
	for try := 1; ; try++ {
		var status int
		var theirs time.Time
		answer, status, theirs, err = c.sendOnce(ctx, service, method, path, contentType, body, skew)
		var said *answerError
		again := errors.As(err, &said) && (status == http.StatusTooManyRequests || status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout)
		if status == http.StatusForbidden && skew == 0 && !theirs.IsZero() && time.Until(theirs).Abs() > wrongClock {
			skew, again = time.Until(theirs), true
		}
		if !again || try == tries {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Duration(try) * 250 * time.Millisecond):
		}
	}
}

// wrongClock is a difference that the platform minds, less a margin.
const wrongClock = 4 * time.Minute

// mostAnswered bounds what is read of an answer.
const mostAnswered = 64 << 20

func (c *connection) sendOnce(ctx context.Context, service, method, path, contentType string, body []byte, skew time.Duration) (answer []byte, status int, theirs time.Time, err error) {
	request, err := http.NewRequestWithContext(ctx, method, c.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, theirs, err
	}
	if len(body) > 0 {
		request.Header.Set("Content-Type", contentType)
	}
	if c.settings.Credentials == nil {
		return nil, 0, theirs, errNoCredentials
	}
	key, err := c.settings.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, 0, theirs, errors.Join(errNoCredentials, err)
	}
	hash := sha256.Sum256(body)
	if err := c.signer.SignHTTP(ctx, key, request, hex.EncodeToString(hash[:]), service, c.settings.Region, time.Now().Add(skew)); err != nil {
		return nil, 0, theirs, err
	}
	response, err := c.settings.HTTPClient.Do(request)
	if err != nil {
		return nil, 0, theirs, err
	}
	defer response.Body.Close()
	theirs, _ = http.ParseTime(response.Header.Get("Date"))
	answer, err = io.ReadAll(io.LimitReader(response.Body, mostAnswered))
	if err != nil || response.StatusCode < http.StatusMultipleChoices {
		return answer, response.StatusCode, theirs, err
	}
	var said struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	_ = json.Unmarshal(answer, &said) // a proxy on the way may have answered with anything
	code := firstOf(response.Header.Get("X-Amzn-Errortype"), said.Type, "UnknownError")
	code, _, _ = strings.Cut(code, ":")
	return nil, response.StatusCode, theirs, &answerError{code: code, message: said.Message, request: response.Header.Get("X-Amzn-Requestid"), status: response.StatusCode}
}

var errNoCredentials = errors.New("no credentials were found to sign with")

// page is a page of a list, whichever member its items are in.
type page[T any] struct {
	NextToken string `json:"nextToken"`
	Workloads []T    `json:"workloadIdentities"`
	Providers []T    `json:"credentialProviders"`
	Items     []T    `json:"items"`
}

// paged yields a list's items, as of makes them, fetching a page when it is needed.
func paged[T, V any](fetch func(token string, out *page[T]) error, of func(T) V) iter.Seq2[V, error] {
	token := ""
	return pages(func() (items []V, more bool, err error) {
		var answer page[T]
		if err := fetch(token, &answer); err != nil {
			return nil, false, err
		}
		for _, part := range [][]T{answer.Workloads, answer.Providers, answer.Items} {
			for _, item := range part {
				items = append(items, of(item))
			}
		}
		token = answer.NextToken
		return items, token != "", nil
	})
}

// identityPages lists with an operation of the identity family.
func identityPages[T, V any](ctx context.Context, c *connection, operation string, of func(T) V) iter.Seq2[V, error] {
	return paged(func(token string, out *page[T]) error {
		in := map[string]any{}
		if token != "" {
			in["nextToken"] = token
		}
		return c.identity(ctx, operation, in, out)
	}, of)
}

// gatewayPages lists what lies at a path of the gateway family.
func gatewayPages[T, V any](ctx context.Context, c *connection, path string, of func(T) V) iter.Seq2[V, error] {
	return paged(func(token string, out *page[T]) error {
		query := ""
		if token != "" {
			query = "?" + url.Values{"nextToken": {token}}.Encode()
		}
		return c.call(ctx, http.MethodGet, path+query, nil, out)
	}, of)
}

// clock is a time as the API writes them: seconds since 1970, or RFC 3339.
type clock struct{ time.Time }

// UnmarshalJSON reads either.
func (c *clock) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte(`"`)) {
		return json.Unmarshal(text, &c.Time)
	}
	var seconds float64
	if err := json.Unmarshal(text, &seconds); err != nil {
		return err
	}
	c.Time = time.UnixMilli(int64(seconds * 1000))
	return nil
}

// at is nil where there is no time.
func (c clock) at() *time.Time { return moment(&c.Time) }

// object is a part of a request. with leaves out what was not said.
type object map[string]any

func (o object) with(name, value string) object {
	if value != "" {
		o[name] = value
	}
	return o
}

// onceToken makes a create that is sent twice one create.
func onceToken() string { return rand.Text() + rand.Text() }

var accountElement = regexp.MustCompile(`<Account>(\d{12})</Account>`)

// account asks whose key it is that signs.
func (c *connection) account(ctx context.Context) (string, error) {
	answer, err := c.send(ctx, tokens, http.MethodPost, "/", "application/x-www-form-urlencoded", []byte("Action=GetCallerIdentity&Version=2011-06-15"))
	if err != nil {
		return "", err
	}
	found := accountElement.FindSubmatch(answer)
	if found == nil {
		return "", fmt.Errorf("%s does not say whose key this is", c.endpoint)
	}
	return string(found[1]), nil
}
