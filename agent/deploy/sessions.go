package deploy

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/onbehalf/onbehalf/client"
)

// Status is an agent on a platform.
type Status struct {
	Runtime
	Endpoints []Endpoint `json:"endpoints"`
	Sessions  *int       `json:"sessions,omitempty"` // that run now; nil where the caller may not list them
}

// Endpoint is a name under which a version is called.
type Endpoint struct {
	Name    string `json:"name"`
	ARN     string `json:"agentRuntimeEndpointArn"`
	Live    string `json:"liveVersion"`
	Target  string `json:"targetVersion,omitempty"`
	Status  string `json:"status"`
	Created string `json:"createdAt,omitempty"`
}

// Status says how the agent is.
func (c *Client) Status(ctx context.Context, a *Agent) (Status, error) {
	found, err := c.runtime(ctx, a)
	if err != nil {
		return Status{}, err
	}
	s := Status{}
	path := "/runtimes/" + url.PathEscape(found.ID) + "/"
	if err := c.ask(ctx, http.MethodGet, path, nil, &s.Runtime); err != nil {
		return s, err
	}
	for token := ""; ; {
		var page struct {
			Endpoints []Endpoint `json:"runtimeEndpoints"`
			NextToken string     `json:"nextToken"`
		}
		query := ""
		if token != "" {
			query = "?nextToken=" + url.QueryEscape(token)
		}
		if err := c.ask(ctx, http.MethodPost, path+"runtime-endpoints/"+query, nil, &page); err != nil {
			return s, err
		}
		s.Endpoints = append(s.Endpoints, page.Endpoints...)
		if token = page.NextToken; token == "" {
			break
		}
	}
	count := 0
	for _, err := range c.Sessions(ctx, a) {
		if codeOf(err) == "AccessDeniedException" {
			return s, nil
		}
		if err != nil {
			return s, err
		}
		count++
	}
	s.Sessions = &count
	return s, nil
}

// Sessions yields the agent's sessions that run now.
func (c *Client) Sessions(ctx context.Context, a *Agent) iter.Seq2[client.AgentRuntimeSession, error] {
	return func(yield func(client.AgentRuntimeSession, error) bool) {
		r, err := c.runtime(ctx, a)
		if err != nil {
			yield(client.AgentRuntimeSession{}, err)
			return
		}
		pages := client.NewListAgentRuntimeSessionsPaginator(c.own, &client.ListAgentRuntimeSessionsInput{AgentRuntimeId: &r.ID})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(client.AgentRuntimeSession{}, err)
				return
			}
			for _, s := range page.Sessions {
				if !yield(s, nil) {
					return
				}
			}
		}
	}
}

// ErrNoSession is an agent that was not called from this folder.
var ErrNoSession = errors.New("no session is remembered here")

// StopOptions say which session is ended.
type StopOptions struct {
	SessionID string // none: the last one that was invoked from this folder, whoever's it is
	Bearer    string // a JSON Web Token of its user, where the agent has an authorizer
	Qualifier string // endpoint; none: DEFAULT
}

// StopSession ends a session. It answers which.
func (c *Client) StopSession(ctx context.Context, a *Agent, o StopOptions) (string, error) {
	id := o.SessionID
	if id == "" {
		id = c.remembered(a).Last
	}
	if id == "" {
		return "", ErrNoSession
	}
	r, err := c.runtime(ctx, a)
	if err != nil {
		return id, err
	}
	path := "/runtimes/" + url.QueryEscape(r.ARN) + "/stopruntimesession"
	if o.Qualifier != "" {
		path += "?qualifier=" + url.QueryEscape(o.Qualifier)
	}
	response, err := c.do(ctx, call{
		method: http.MethodPost, path: path, bearer: o.Bearer, header: http.Header{http.CanonicalHeaderKey(headerSession): {id}}, body: []byte(`{"clientToken":"` + uuid() + `"}`),
	})
	if err == nil {
		_ = response.Body.Close()
	}
	if err == nil || isMissing(err) { // the next call begins a conversation of its own
		err = errors.Join(err, c.remember(a, func(s *state) { s.drop(id) }))
	}
	return id, err
}

// Line is one that a session of the agent printed.
type Line struct {
	Time      time.Time `json:"timestamp"`
	SessionID string    `json:"runtimeSessionId"`
	Text      string    `json:"message"`
}

// LogOptions say which lines.
type LogOptions struct {
	SessionID string // of one session alone
	Follow    bool   // go on until the context ends
}

// How often new lines are asked for: at once while there are some, then less.
const (
	followMin = 200 * time.Millisecond
	followMax = 2 * time.Second
)

// Logs yields what the agent's sessions printed, the oldest first.
func (c *Client) Logs(ctx context.Context, a *Agent, o LogOptions) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r, err := c.runtime(ctx, a)
		if err != nil {
			yield(Line{}, err)
			return
		}
		in := &client.GetAgentRuntimeLogsInput{AgentRuntimeId: &r.ID, MaxResults: aws.Int32(1000)}
		if o.SessionID != "" {
			in.RuntimeSessionId = &o.SessionID
		}
		for pause := followMin; ; {
			page, err := c.own.GetAgentRuntimeLogs(ctx, in)
			if o.Follow && ctx.Err() != nil {
				return
			}
			if err != nil {
				yield(Line{}, err)
				return
			}
			for _, e := range page.Events {
				if !yield(Line{aws.ToTime(e.Timestamp), aws.ToString(e.RuntimeSessionId), aws.ToString(e.Message)}, nil) {
					return
				}
			}
			in.NextToken = page.NextToken
			if len(page.Events) > 0 {
				pause = followMin
				continue
			}
			if !o.Follow {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(pause*2, followMax)
		}
	}
}
