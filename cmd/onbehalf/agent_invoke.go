package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/onbehalf/onbehalf/agent/deploy"
	"github.com/onbehalf/onbehalf/client"
)

type agentInvokeCmd struct {
	Payload     string   `arg:"" name:"payload" help:"JSON, or a prompt: what is no JSON is sent as {\"prompt\": …}; - reads standard input."`
	UserID      string   `name:"user-id" placeholder:"USER" help:"On whose behalf: the agent gets this user's tokens."`
	SessionID   string   `name:"session-id" placeholder:"ID" help:"The conversation to go on with, 33 to 256 characters. Default: the last one."`
	NewSession  bool     `name:"new-session" help:"Begin a conversation."`
	BearerToken string   `name:"bearer-token-file" placeholder:"FILE" help:"A JSON Web Token, where the agent has an authorizer; - reads standard input. The user is its subject."`
	Header      []string `name:"header" short:"H" sep:"none" placeholder:"NAME:VALUE" help:"A header for the agent: one that its settings allow, else with the prefix X-Amzn-Bedrock-AgentCore-Runtime-Custom-."`
	Qualifier   string   `name:"qualifier" placeholder:"ENDPOINT" help:"Endpoint. Default: DEFAULT."`
	Dev         bool     `name:"dev" help:"Call the one that onbehalf agent dev runs on this machine."`
	Port        int      `name:"port" default:"8090" help:"Where that is."`
	agentFile
}

// Help is shown below the flags.
func (agentInvokeCmd) Help() string {
	return `Examples:
  onbehalf agent invoke '{"prompt": "How much is 2X2?"}' --user-id ada
  onbehalf agent invoke "And 3X3?" --user-id ada         # goes on with the same session
  onbehalf agent invoke Hello --new-session --output json
  onbehalf agent invoke Hello --dev
A session answers to the user who began it: another user begins one of their own.`
}

// Run calls the agent.
func (c agentInvokeCmd) Run(ctx context.Context, t *terminal) error {
	in, err := c.invocation(ctx, t)
	if err != nil {
		return err
	}
	h, err := c.host(ctx, t)
	if err != nil {
		return err
	}
	if c.Dev {
		in.Dev = "http://127.0.0.1:" + strconv.Itoa(c.Port) + h.agent.Path()
	}
	for _, line := range c.Header {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return usageError{fmt.Errorf("the header %q is not like Team: blue", line)}
		}
		in.Header.Add(h.agent.CustomHeader(strings.TrimSpace(name)), strings.TrimSpace(value))
	}
	remembered := false
	if in.SessionID == "" && !c.NewSession && in.Dev == "" {
		in.SessionID = h.agents.LastSession(h.agent, in.UserID)
		remembered = in.SessionID != ""
	}
	stop := t.waiting("waiting for the agent")
	answer, err := h.agents.Invoke(ctx, h.agent, in)
	stop()
	if err != nil {
		if c.Dev && errors.Is(err, syscall.ECONNREFUSED) {
			return hinted{fmt.Errorf("no agent runs on port %d of this machine", c.Port), "in another terminal: onbehalf agent dev; --port says another port"}
		}
		var advice hinted
		if err = h.told(err); remembered && !errors.As(err, &advice) {
			err = hinted{err, "--new-session begins another conversation"}
		}
		return err
	}
	defer answer.Body.Close()
	if c.Output == "json" {
		return c.whole(t, answer)
	}
	if !remembered {
		fmt.Fprintln(t.err, "session", plain(answer.SessionID))
	}
	return c.print(t, answer)
}

func (c agentInvokeCmd) invocation(ctx context.Context, t *terminal) (in deploy.Invocation, err error) {
	text := c.Payload
	if text == "-" {
		content, err := io.ReadAll(io.LimitReader(t.in, 100<<20))
		if err != nil {
			return in, err
		}
		text = string(content)
	}
	if c.SessionID != "" && c.NewSession {
		return in, usageError{errors.New("--session-id and --new-session are two wishes")}
	}
	in = deploy.Invocation{Payload: deploy.Payload(text), SessionID: c.SessionID, UserID: c.UserID, Qualifier: c.Qualifier, Header: http.Header{}}
	if c.BearerToken != "" {
		if in.Bearer, err = t.secret(ctx, "--bearer-token-file", c.BearerToken, "Token"); err != nil {
			return in, err
		}
		if c.UserID != "" {
			return in, usageError{errors.New("a call with a token is on behalf of the token's subject: leave --user-id out")}
		}
	}
	return in, nil
}

// print writes an answer as it comes: an event a line, anything else byte for byte. A terminal does not obey an agent.
func (c agentInvokeCmd) print(t *terminal, answer *deploy.Answer) error {
	if answer.Streams() {
		for event, err := range answer.Events() {
			if err != nil {
				return brokenOff(err)
			}
			if _, err := fmt.Fprintln(t.out, t.safe(event)); err != nil {
				return err
			}
		}
		return nil
	}
	out := t.out
	if _, is := screen(t.out); is {
		out = &safeWriter{out: t.out}
	}
	ends := &lastByte{Writer: out}
	if _, err := io.Copy(ends, answer.Body); err != nil {
		return brokenOff(err)
	}
	if ends.last != '\n' {
		_, err := fmt.Fprintln(t.out)
		return err
	}
	return nil
}

func brokenOff(err error) error {
	return hinted{fmt.Errorf("the answer broke off: %w", err), "onbehalf agent logs shows what the agent printed"}
}

// whole prints an answer as one object, when it has ended.
func (c agentInvokeCmd) whole(t *terminal, answer *deploy.Answer) error {
	out := struct {
		SessionID   string   `json:"sessionId"`
		ContentType string   `json:"contentType"`
		Body        string   `json:"body"`
		Events      []string `json:"events,omitempty"`
	}{SessionID: answer.SessionID, ContentType: answer.ContentType}
	if answer.Streams() {
		for event, err := range answer.Events() {
			if err != nil {
				return brokenOff(err)
			}
			out.Events = append(out.Events, event)
		}
		return writeJSON(t.out, out)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return brokenOff(err)
	}
	out.Body = string(body)
	return writeJSON(t.out, out)
}

// safe is text for a terminal where out is one, and as it is elsewhere.
func (t *terminal) safe(text string) string {
	if _, is := screen(t.out); is {
		return told(text)
	}
	return text
}

// safeWriter shows control characters, line breaks and tabs apart, across the borders of writes.
type safeWriter struct {
	out  io.Writer
	rest []byte
}

func (w *safeWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	whole := len(w.rest)
	for back := 1; back < utf8.UTFMax && back <= len(w.rest); back++ { // a character that is not here yet as a whole
		if at := len(w.rest) - back; utf8.RuneStart(w.rest[at]) {
			if !utf8.FullRune(w.rest[at:]) {
				whole = at
			}
			break
		}
	}
	text := strings.ReplaceAll(told(string(w.rest[:whole])), `\x09`, "\t")
	w.rest = append(w.rest[:0], w.rest[whole:]...)
	_, err := io.WriteString(w.out, text)
	return len(p), err
}

type lastByte struct {
	io.Writer
	last byte
}

func (w *lastByte) Write(p []byte) (int, error) {
	if len(p) > 0 {
		w.last = p[len(p)-1]
	}
	return w.Writer.Write(p)
}

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
	SessionID string `arg:"" optional:"" name:"session-id" help:"Which. Default: the last one that was invoked from this folder." complete:"sessions"`
	UserID    string `name:"user-id" placeholder:"USER" help:"Of this user's sessions, the last one."`
	Qualifier string `name:"qualifier" placeholder:"ENDPOINT" help:"Endpoint. Default: DEFAULT."`
	agentFile
}

// Run ends it.
func (c agentStopSessionCmd) Run(ctx context.Context, t *terminal) error {
	h, err := c.host(ctx, t)
	if err != nil {
		return err
	}
	id, err := h.agents.StopSession(ctx, h.agent, firstOf(c.SessionID, h.agents.LastSession(h.agent, c.UserID)), c.Qualifier)
	if err != nil {
		return h.told(err)
	}
	if c.Output == "json" {
		return writeJSON(t.out, map[string]string{"runtimeSessionId": id})
	}
	_, err = fmt.Fprintln(t.out, "stopped", plain(id))
	return err
}
