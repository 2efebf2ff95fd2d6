package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/onbehalf/onbehalf/agent/deploy"
	"github.com/onbehalf/onbehalf/client"
)

type agentLogsCmd struct {
	Follow    bool   `name:"follow" help:"Go on, until Ctrl-C."`
	SessionID string `name:"session-id" placeholder:"ID" help:"Of one session alone." complete:"sessions"`
	agentFile
}

// Run prints the lines. In JSON it is an object a line, so that a program can follow, too.
func (c agentLogsCmd) Run(ctx context.Context, t *terminal) error {
	h, err := c.host(ctx, t)
	if err != nil {
		return err
	}
	before := ""
	for line, err := range h.agents.Logs(ctx, h.agent, deploy.LogOptions{SessionID: c.SessionID, Follow: c.Follow}) {
		if err != nil {
			return h.told(err)
		}
		if c.Output == "json" {
			text, err := encodeJSON(line, "")
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(t.out, strings.ReplaceAll(strings.ReplaceAll(string(text), "\n  ", " "), "\n", "")); err != nil {
				return err
			}
			continue
		}
		if line.SessionID != before && c.SessionID == "" {
			before = line.SessionID
			fmt.Fprintln(t.err, "session", plain(before))
		}
		if _, err := fmt.Fprintln(t.out, line.Time.Local().Format(time.TimeOnly), readable(t, line.Text)); err != nil {
			return err
		}
	}
	return nil
}

type agentSessionsCmd struct{ agentFile }

// session is a session in JSON.
type session struct {
	ID        string     `json:"runtimeSessionId"`
	Version   string     `json:"agentRuntimeVersion"`
	Endpoint  string     `json:"endpointName"`
	Status    string     `json:"status"`
	User      string     `json:"user,omitempty"`
	Issuer    string     `json:"issuer,omitempty"`
	Principal string     `json:"principal,omitempty"`
	Created   *time.Time `json:"createdAt"`
	Used      *time.Time `json:"lastUsedAt"`
}

func sessionOf(s client.AgentRuntimeSession) session {
	out := session{
		ID: aws.ToString(s.RuntimeSessionId), Version: aws.ToString(s.AgentRuntimeVersion), Endpoint: aws.ToString(s.EndpointName), Status: string(s.Status),
		Principal: aws.ToString(s.Principal), Created: moment(s.CreatedAt), Used: moment(s.LastUsedAt),
	}
	if s.User != nil {
		out.User, out.Issuer = firstOf(aws.ToString(s.User.UserId), aws.ToString(s.User.Subject)), aws.ToString(s.User.Issuer)
	}
	return out
}

// Run lists them.
func (c agentSessionsCmd) Run(ctx context.Context, t *terminal) error {
	h, err := c.host(ctx, t)
	if err != nil {
		return err
	}
	items := func(yield func(session, error) bool) {
		for s, err := range h.agents.Sessions(ctx, h.agent) {
			if !yield(sessionOf(s), err) {
				return
			}
		}
	}
	now := time.Now()
	row := func(s session) []string {
		return []string{s.ID, s.Status, s.User, s.Version, s.Endpoint, ago(s.Created, now), ago(s.Used, now)}
	}
	return h.told(list(t, c.Output, columns("SESSION", "STATUS", "USER~", "VERSION", "ENDPOINT", "BEGAN", "LAST CALL"), row,
		"No session runs. A call begins one: onbehalf agent invoke", items))
}

type agentStopSessionCmd struct {
	SessionID   string `arg:"" optional:"" name:"session-id" help:"Which. Default: the last one that was invoked from this folder." complete:"sessions"`
	UserID      string `name:"user-id" placeholder:"USER" help:"Of this user's sessions, the last one."`
	BearerToken string `name:"bearer-token-file" placeholder:"FILE" help:"A JSON Web Token of the session's user, where the agent has an authorizer; - reads standard input."`
	Qualifier   string `name:"qualifier" placeholder:"ENDPOINT" help:"Endpoint. Default: DEFAULT."`
	agentFile
}

// Run ends it.
func (c agentStopSessionCmd) Run(ctx context.Context, t *terminal) error {
	h, err := c.host(ctx, t)
	if err != nil {
		return err
	}
	o := deploy.StopOptions{SessionID: c.SessionID, Qualifier: c.Qualifier}
	if c.UserID != "" && o.SessionID == "" {
		if o.SessionID = h.agents.LastSession(h.agent, c.UserID, c.Qualifier); o.SessionID == "" {
			return h.told(deploy.ErrNoSession) // and not somebody else's
		}
	}
	if c.BearerToken != "" {
		if o.Bearer, err = t.secret(ctx, "--bearer-token-file", c.BearerToken, "Token"); err != nil {
			return err
		}
		h.bearer = true
	}
	id, err := h.agents.StopSession(ctx, h.agent, o)
	if err != nil {
		return h.told(err)
	}
	if c.Output == "json" {
		return writeJSON(t.out, map[string]string{"runtimeSessionId": id})
	}
	_, err = fmt.Fprintln(t.out, "stopped", plain(id))
	return err
}
