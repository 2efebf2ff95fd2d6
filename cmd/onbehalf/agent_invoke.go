package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/onbehalf/onbehalf/agent/deploy"
)

type agentInvokeCmd struct {
	Payload     string   `arg:"" name:"payload" help:"JSON, or a prompt: what is no JSON is sent as {\"prompt\": …}; - reads standard input."`
	UserID      string   `name:"user-id" placeholder:"USER" help:"On whose behalf: the agent gets this user's tokens."`
	SessionID   string   `name:"session-id" placeholder:"ID" help:"The conversation to go on with, 33 to 256 characters. Default: the user's last one since the last launch."`
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
	h.bearer, h.dev = c.BearerToken != "", c.Dev
	if c.Dev {
		in.Dev = "http://127.0.0.1:" + strconv.Itoa(c.Port) + h.agent.Path()
	}
	for _, line := range c.Header {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return usageError{fmt.Errorf("the header %q is not like Team: blue", line)}
		}
		name, passes := h.agent.CustomHeader(strings.TrimSpace(name))
		if !passes {
			fmt.Fprintf(t.err, "warning: the agent does not get %s: onbehalf agent configure --request-header %s, then launch\n", plain(name), plain(name))
		}
		in.Header.Add(name, strings.TrimSpace(value))
	}
	remembered := false
	if in.SessionID == "" && !c.NewSession && in.Dev == "" {
		in.SessionID = h.agents.LastSession(h.agent, in.UserID, in.Qualifier)
		remembered = in.SessionID != ""
	}
	stop := t.waiting("waiting for the agent")
	answer, err := h.agents.Invoke(ctx, h.agent, in)
	stop()
	if err != nil {
		if c.Dev && errors.Is(err, syscall.ECONNREFUSED) {
			return hinted{fmt.Errorf("no agent runs on port %d of this machine", c.Port), "in another terminal: onbehalf agent dev; --port says another port"}
		}
		return orAnew(h.told(err), remembered)
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

// orAnew is an error with advice for a conversation that was gone on with, where it has no other.
func orAnew(err error, remembered bool) error {
	var advice hinted
	if !remembered || errors.Is(err, errStopped) || errors.As(err, &advice) && advice.hint != "" {
		return err
	}
	return hinted{err, "--new-session begins another conversation"}
}

// longestPayload is what the platform accepts.
const longestPayload = 100 << 20

func (c agentInvokeCmd) invocation(ctx context.Context, t *terminal) (in deploy.Invocation, err error) {
	text := c.Payload
	if text == "-" {
		content, err := io.ReadAll(io.LimitReader(t.in, longestPayload+1))
		if err != nil {
			return in, err
		}
		if len(content) > longestPayload { // half of it would be another one
			return in, usageError{errors.New("the payload has more than 100 MB, which is what an agent takes")}
		}
		text = string(content)
	}
	if c.SessionID != "" && c.NewSession {
		return in, usageError{errors.New("--session-id and --new-session are two wishes")}
	}
	if meant := strings.TrimLeft(text, " \t\r\n"); (strings.HasPrefix(meant, "{") || strings.HasPrefix(meant, "[")) && !json.Valid([]byte(text)) {
		fmt.Fprintln(t.err, "warning: the payload is no JSON: it is sent as a prompt")
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
				return c.brokenOff(err)
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
		return c.brokenOff(err)
	}
	if ends.last != '\n' {
		_, err := fmt.Fprintln(t.out)
		return err
	}
	return nil
}

func (c agentInvokeCmd) brokenOff(err error) error {
	if errors.Is(err, context.Canceled) {
		return errStopped
	}
	return hinted{fmt.Errorf("the answer broke off: %w", err), whereItPrints(c.Dev)}
}

// whole prints an answer as one object, when it has ended.
func (c agentInvokeCmd) whole(t *terminal, answer *deploy.Answer) error {
	out := struct {
		SessionID   string   `json:"runtimeSessionId"`
		ContentType string   `json:"contentType"`
		Body        string   `json:"body"`
		Events      []string `json:"events,omitempty"`
	}{SessionID: answer.SessionID, ContentType: answer.ContentType}
	if answer.Streams() {
		for event, err := range answer.Events() {
			if err != nil {
				return c.brokenOff(err)
			}
			out.Events = append(out.Events, event)
		}
		return writeJSON(t.out, out)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return c.brokenOff(err)
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
	text := told(string(w.rest[:whole]))
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
