package deploy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Invocation is one call of an agent.
type Invocation struct {
	Payload   []byte
	SessionID string // of the conversation; none: another one begins
	UserID    string // on whose behalf; it needs the right InvokeAgentRuntimeForUser
	Bearer    string // a JSON Web Token, where the agent has an authorizer; the user is its subject
	Qualifier string // endpoint; none: DEFAULT
	Accept    string // none: events, or JSON
	Header    http.Header
	Dev       string // URL of an agent that Dev runs on this machine, instead of the platform's
}

// Answer is what an agent says, as it says it. The caller closes Body.
type Answer struct {
	SessionID   string
	ContentType string
	Body        io.ReadCloser
}

// The headers of a call.
const (
	headerSession = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
	headerUser    = "X-Amzn-Bedrock-AgentCore-Runtime-User-Id"
	headerCustom  = "X-Amzn-Bedrock-AgentCore-Runtime-Custom-"
)

// Payload is what an agent is sent for what a person typed: JSON as it is, anything
// else as a prompt.
func Payload(text string) []byte {
	if json.Valid([]byte(text)) {
		return []byte(text)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(map[string]string{"prompt": text}) // of strings it never fails
	return bytes.TrimRight(out.Bytes(), "\n")
}

// CustomHeader is a header's name as agents may get it: with the prefix that all may
// have, unless it is one that the settings let through by name. passes is false where
// they do not let it through: the platform then drops it and says nothing.
func (a *Agent) CustomHeader(name string) (canonical string, passes bool) {
	canonical = http.CanonicalHeaderKey(name)
	if a.letsThrough(canonical) {
		return canonical, true
	}
	if !strings.HasPrefix(canonical, http.CanonicalHeaderKey(headerCustom)) {
		canonical = http.CanonicalHeaderKey(headerCustom + name)
	}
	return canonical, a.letsThrough(canonical)
}

func (a *Agent) letsThrough(canonical string) bool {
	return slices.ContainsFunc(a.Headers, func(allowed string) bool { return http.CanonicalHeaderKey(allowed) == canonical })
}

// LastSession is the session of the last conversation from this folder: of the user,
// because a session answers to the one who began it; at the endpoint, because a
// session keeps the version that it began with.
func (c *Client) LastSession(a *Agent, user, qualifier string) string {
	return c.remembered(a).Sessions[conversation(user, qualifier)]
}

// Invoke calls the agent and answers when its answer begins. The conversation is
// remembered as the last one.
func (c *Client) Invoke(ctx context.Context, a *Agent, in Invocation) (*Answer, error) {
	var r Runtime
	if in.Dev == "" {
		var err error
		if r, err = c.runtime(ctx, a); err != nil {
			return nil, err
		}
	}
	header := http.Header{}
	for name, values := range in.Header {
		header[name] = values
	}
	header.Set("Accept", in.Accept)
	if in.Accept == "" {
		header.Set("Accept", "text/event-stream, application/json")
	}
	header.Set("Content-Type", "application/json")
	if in.SessionID == "" && in.Dev == "" { // ours, so that it is known also where the agent fails
		in.SessionID = uuid()
	}
	if in.SessionID != "" {
		header.Set(headerSession, in.SessionID)
	}
	if in.UserID != "" {
		if in.Bearer != "" {
			return nil, errors.New("a call with a token is on behalf of the token's subject: leave the user id out")
		}
		header.Set(headerUser, in.UserID)
	}
	if name, wrong := unfit(header); wrong {
		return nil, fmt.Errorf("the header %s has a character that no header may have", name)
	}
	path := "/runtimes/" + url.QueryEscape(r.ARN) + "/invocations"
	if in.Qualifier != "" {
		path += "?qualifier=" + url.QueryEscape(in.Qualifier)
	}
	keep := func(session string) { // a conversation that cannot be remembered is answered all the same
		if in.Dev == "" {
			_ = c.remember(a, func(s *state) { s.keep(conversation(in.UserID, in.Qualifier), session) })
		}
	}
	response, err := c.do(ctx, call{method: http.MethodPost, at: in.Dev, path: path, header: header, body: in.Payload, bearer: in.Bearer, once: true})
	if codeOf(err) == runtimeClientError { // the session is there
		keep(in.SessionID)
	}
	if err != nil {
		return nil, err
	}
	answer := &Answer{SessionID: response.Header.Get(headerSession), ContentType: response.Header.Get("Content-Type"), Body: response.Body}
	if answer.SessionID == "" {
		answer.SessionID = in.SessionID
	}
	keep(answer.SessionID)
	return answer, nil
}

// unfit names a header that net/http would refuse to send, with an error that speaks of the network.
func unfit(header http.Header) (string, bool) {
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, value := range header[name] {
			if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return name, true
			}
		}
	}
	return "", false
}

// Streams reports whether the answer is server-sent events.
func (a *Answer) Streams() bool { return strings.HasPrefix(a.ContentType, "text/event-stream") }

// longestEvent bounds one event.
const longestEvent = 10 << 20

// Events yields the data of server-sent events as they come.
func (a *Answer) Events() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		lines := bufio.NewScanner(a.Body)
		lines.Buffer(nil, longestEvent)
		var data []string
		for lines.Scan() {
			line := lines.Text()
			value, isData := strings.CutPrefix(line, "data:")
			switch {
			case isData:
				data = append(data, strings.TrimPrefix(value, " "))
			case line == "" && data != nil:
				if !yield(strings.Join(data, "\n"), nil) {
					return
				}
				data = nil
			}
		}
		if err := lines.Err(); err != nil {
			yield("", err)
		} else if data != nil { // the stream ended in an event
			yield(strings.Join(data, "\n"), nil)
		}
	}
}
