package deploy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/onbehalf/onbehalf/client"
)

// LaunchOptions say how an agent is launched.
type LaunchOptions struct {
	// Adopt takes over a runtime of the agent's name that was not launched from this
	// folder: for a build server, which begins with nothing each time.
	Adopt bool
	// Clean installs all packages anew.
	Clean bool
}

// Runtime is an agent's runtime on a platform.
type Runtime struct {
	ARN           string    `json:"agentRuntimeArn"`
	ID            string    `json:"agentRuntimeId"`
	Name          string    `json:"agentRuntimeName"`
	Version       string    `json:"agentRuntimeVersion"`
	Status        string    `json:"status"`
	FailureReason string    `json:"failureReason,omitempty"`
	RoleARN       string    `json:"roleArn,omitempty"`
	Created       time.Time `json:"createdAt,omitzero"`
	Updated       time.Time `json:"lastUpdatedAt,omitzero"`
	Workload      *struct {
		ARN string `json:"workloadIdentityArn"`
	} `json:"workloadIdentityDetails,omitempty"`
}

// The statuses that a launch waits for, and one that it does not wait out.
const (
	statusReady        = "READY"
	statusCreateFailed = "CREATE_FAILED"
	statusUpdateFailed = "UPDATE_FAILED"
)

// FailedError is a runtime that cannot be run, with the platform's reason.
type FailedError struct {
	Status, Reason string
	Runtime        Runtime
}

func (e *FailedError) Error() string {
	return fmt.Sprintf("version %s of the runtime is %s: %s", e.Runtime.Version, e.Status, e.Reason)
}

// ErrTaken is a runtime of the agent's name that was not launched from this folder.
var ErrTaken = errors.New("a runtime of this name is there already, and was not launched from this folder")

// Launch packages an agent, puts it on the platform, and waits until it is READY.
// The first time makes the runtime, each further time its next version, to which
// the next call from here goes; sessions that run keep the version that they began with.
// Another launch from the same folder is waited for.
func (c *Client) Launch(ctx context.Context, a *Agent, o LaunchOptions) (Runtime, error) {
	if err := a.Check(); err != nil {
		return Runtime{}, err
	}
	unlock, err := a.lock(ctx, c.progress)
	if err != nil {
		return Runtime{}, err
	}
	defer unlock()
	if o.Clean {
		if err := a.Forget(); err != nil {
			return Runtime{}, err
		}
	}
	for _, name := range a.Suspicious() {
		c.progress.say("note", name+" in environment: looks like a secret. An agent gets its keys from the vault at run time")
	}
	before, err := c.find(ctx, a)
	if err != nil {
		return Runtime{}, err
	}
	if before.ID != "" && !o.Adopt && c.remembered(a).Runtime != before.ID {
		return Runtime{}, fmt.Errorf("%w: %s", ErrTaken, before.ARN)
	}
	built, err := a.build(ctx, c.progress)
	if err != nil {
		return Runtime{}, err
	}
	role, made, err := c.MakeRole(ctx, a)
	if err != nil {
		return Runtime{}, err
	}
	c.progress.say("role", role+map[bool]string{true: " (made)"}[made])
	code, err := c.upload(ctx, built)
	if err != nil {
		return Runtime{}, err
	}
	return c.put(ctx, a, before.ID, a.request(built, code, role))
}

func (c *Client) upload(ctx context.Context, built artifact) (*client.PutAgentCodeOutput, error) {
	file, err := os.Open(built.file)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	c.progress.say("uploading", bytesText(built.size))
	code, err := c.own.PutAgentCode(ctx, &client.PutAgentCodeInput{Code: file})
	if err == nil && aws.ToString(code.Sha256) != built.sha256 {
		err = errors.New("the package did not arrive as it was sent; try again")
	}
	return code, err
}

// request is what CreateAgentRuntime and UpdateAgentRuntime have in common.
func (a *Agent) request(built artifact, code *client.PutAgentCodeOutput, role string) object {
	protocol := a.Protocol
	if protocol == "" {
		protocol = "HTTP"
	}
	lifecycle := object{}.with("idleRuntimeSessionTimeout", int(a.IdleTimeout.Seconds()), a.IdleTimeout > 0).
		with("maxLifetime", int(a.MaxLifetime.Seconds()), a.MaxLifetime > 0)
	return object{
		"agentRuntimeArtifact": object{"codeConfiguration": object{
			"code":    object{"s3": object{"bucket": aws.ToString(code.Bucket), "prefix": aws.ToString(code.Prefix)}},
			"runtime": built.runtime, "entryPoint": built.entryPoint,
		}},
		"roleArn":               role,
		"networkConfiguration":  object{"networkMode": "PUBLIC"},
		"protocolConfiguration": object{"serverProtocol": protocol},
	}.
		with("description", a.Description, a.Description != "").
		with("environmentVariables", a.Environment, len(a.Environment) > 0).
		with("lifecycleConfiguration", lifecycle, len(lifecycle) > 0).
		with("filesystemConfigurations", a.filesystems(), len(a.Storage) > 0).
		with("requestHeaderConfiguration", object{"requestHeaderAllowlist": a.Headers}, len(a.Headers) > 0).
		with("authorizerConfiguration", object{"customJWTAuthorizer": a.Authorizer}, a.Authorizer != nil)
}

// filesystems are the folders that outlive a session.
func (a *Agent) filesystems() (all []object) {
	for _, path := range a.Storage {
		all = append(all, object{"sessionStorage": object{"mountPath": path}})
	}
	return all
}

// put makes the runtime, or its next version where id names one.
func (c *Client) put(ctx context.Context, a *Agent, id string, request object) (Runtime, error) {
	request["clientToken"] = uuid()
	var answer Runtime
	var err error
	if id == "" {
		request["agentRuntimeName"] = a.Name
		err = c.ask(ctx, http.MethodPut, "/runtimes/", request, &answer)
	} else {
		err = c.ask(ctx, http.MethodPut, "/runtimes/"+url.PathEscape(id)+"/", request, &answer)
	}
	if err != nil {
		return Runtime{}, err
	}
	if answer.ID == "" || answer.Version == "" {
		return Runtime{}, nonsense()
	}
	if err := c.remember(a, func(s *state) { s.Runtime = answer.ID }); err != nil {
		return Runtime{}, err
	}
	c.progress.say("runtime", answer.ID+", version "+answer.Version)
	ready, err := c.await(ctx, answer)
	if before := c.remembered(a); err != nil || !before.moveOn() {
		return ready, err
	}
	c.progress.say("sessions", "the next call begins one with version "+ready.Version+"; those that run keep theirs")
	return ready, c.remember(a, func(s *state) { s.moveOn() })
}

// launchTime bounds the wait for READY, and for a runtime that is deleted to be gone.
const launchTime = 5 * time.Minute

// await waits until the version can be used.
func (c *Client) await(ctx context.Context, r Runtime) (Runtime, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, launchTime, fmt.Errorf("the runtime %s is not %s after %v", r.ID, statusReady, launchTime))
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		var now Runtime
		if err := c.ask(ctx, http.MethodGet, "/runtimes/"+url.PathEscape(r.ID)+"/?version="+url.QueryEscape(r.Version), nil, &now); err != nil {
			return r, err
		}
		switch now.Status {
		case statusReady:
			return now, nil
		case statusCreateFailed, statusUpdateFailed:
			return now, &FailedError{Status: now.Status, Reason: now.FailureReason, Runtime: now}
		}
		select {
		case <-ctx.Done():
			return now, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// find answers the agent's runtime: the one that was launched from here, else by its name. The zero one where there is none.
func (c *Client) find(ctx context.Context, a *Agent) (Runtime, error) {
	if id := c.remembered(a).Runtime; id != "" {
		var known Runtime
		err := c.ask(ctx, http.MethodGet, "/runtimes/"+url.PathEscape(id)+"/", nil, &known)
		if err != nil && !isMissing(err) {
			return Runtime{}, err
		}
		if err == nil && known.Name == a.Name { // what is remembered may have come with somebody's folder
			return known, nil
		}
	}
	for token := ""; ; {
		var page struct {
			Runtimes  []Runtime `json:"agentRuntimes"`
			NextToken string    `json:"nextToken"`
		}
		path := "/runtimes/?maxResults=100"
		if token != "" {
			path += "&nextToken=" + url.QueryEscape(token)
		}
		if err := c.ask(ctx, http.MethodPost, path, nil, &page); err != nil {
			return Runtime{}, err
		}
		for _, r := range page.Runtimes {
			if r.Name == a.Name {
				return r, nil
			}
		}
		if token = page.NextToken; token == "" {
			return Runtime{}, nil
		}
	}
}

// ErrNotLaunched is an agent that is not on the platform.
var ErrNotLaunched = errors.New("the agent is not on this platform")

// runtime is find, for what needs one.
func (c *Client) runtime(ctx context.Context, a *Agent) (Runtime, error) {
	r, err := c.find(ctx, a)
	if err == nil && r.ID == "" {
		err = fmt.Errorf("%w: there is no runtime %s at %s", ErrNotLaunched, a.Name, c.endpoint)
	}
	return r, err
}
