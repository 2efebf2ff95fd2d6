package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/smithy-go"
)

// developer is who an agent acts as on this machine: the content of .agentcore.json,
// which the agent SDKs of Go and Python read and write as well.
type developer struct {
	Workload string `json:"workload_identity_name"`
	User     string `json:"user_id"`
	callback string // the workload's first return URL
}

const localFile = ".agentcore.json"

// developer reads the file, and makes what it lacks: the workload identity, the user, the file.
func (c *Client) developer(ctx context.Context, a *Agent, userID string) (who developer, err error) {
	file := filepath.Join(a.Folder(), localFile)
	content, err := readOwn(file)
	if err == nil {
		err = json.Unmarshal(content, &who)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return who, fmt.Errorf("%s cannot be read: %w", file, err)
	}
	known := who
	if who.Workload == "" {
		who.Workload = "dev-" + a.Name
	}
	if who.User == "" {
		who.User = "developer"
		if me, err := user.Current(); err == nil && me.Username != "" {
			who.User = me.Username
		}
	}
	var workload struct {
		ReturnURLs []string `json:"allowedResourceOauth2ReturnUrls"`
	}
	err = c.ask(ctx, http.MethodPost, "/identities/GetWorkloadIdentity", object{"name": who.Workload}, &workload)
	if isMissing(err) {
		err = c.ask(ctx, http.MethodPost, "/identities/CreateWorkloadIdentity", object{"name": who.Workload}, nil)
	}
	if err != nil {
		return who, err
	}
	if len(workload.ReturnURLs) > 0 {
		who.callback = workload.ReturnURLs[0]
	}
	if known.Workload != who.Workload || known.User != who.User {
		content, err := json.MarshalIndent(who, "", "  ")
		if err != nil {
			return who, err
		}
		if err := writeFile(file, content, 0o600); err != nil {
			return who, err
		}
	}
	if userID != "" {
		who.User = userID
	}
	return who, nil
}

// front is the door before an agent that runs on this machine: it does what a
// runtime does before it hands a call on.
type front struct {
	client  *Client
	agent   *Agent
	who     developer
	runner  *runner
	session string // of callers who name none
}

// Path is where the agent's contract has it called.
func (a *Agent) Path() string {
	switch a.Protocol {
	case "MCP":
		return "/mcp"
	case "A2A":
		return "/"
	}
	return "/invocations"
}

// handler lets in programs of this machine, and no page of the web: calls get an identity here.
func (f *front) handler() http.Handler {
	pages := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(strings.Trim(host, "[]")); host != "localhost" && !ip.IsLoopback() {
			http.Error(w, "This door is for this machine alone.", http.StatusForbidden)
			return
		}
		asked := r.WithContext(r.Context())
		asked.Method = http.MethodPost // others would be let pass as safe, but each call gets an identity, and a websocket begins with GET
		if pages.Check(asked) != nil {
			http.Error(w, "This door is not for pages of other origins.", http.StatusForbidden)
			return
		}
		f.serve(w, r)
	})
}

// The headers that only a runtime sets, besides the session.
const (
	headerRequest    = "X-Amzn-Bedrock-AgentCore-Runtime-Request-Id"
	headerToken      = "X-Amz-Bedrock-AgentCore-Identity-WAT"
	headerOlderToken = "WorkloadAccessToken"
	headerCallback   = "OAuth2CallbackUrl"
)

func (f *front) serve(w http.ResponseWriter, r *http.Request) {
	token, err := f.token(r)
	if err != nil {
		answerError(w, http.StatusForbidden, err)
		return
	}
	address, err := f.awaitAgent(r.Context())
	if err != nil {
		answerError(w, http.StatusFailedDependency, err)
		return
	}
	out, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+address, r.Body)
	if err != nil {
		answerError(w, http.StatusBadRequest, err)
		return
	}
	// Path and query alone: no spelling of a request line leads to another host.
	out.URL.Path, out.URL.RawPath, out.URL.RawQuery = r.URL.Path, r.URL.RawPath, r.URL.RawQuery
	out.ContentLength = r.ContentLength
	f.headers(r.Header, out.Header)
	session := r.Header.Get(headerSession)
	if session == "" {
		session = f.session
	}
	out.Header.Set(headerSession, session)
	out.Header.Set(headerRequest, uuid())
	if token != "" {
		out.Header.Set(headerToken, token)
		out.Header.Set(headerOlderToken, token)
	}
	if f.who.callback != "" {
		out.Header.Set(headerCallback, f.who.callback)
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	response, err := transport.RoundTrip(out)
	if err != nil {
		answerError(w, http.StatusFailedDependency, fmt.Errorf("the agent ended before it answered, or broke off: %w", err))
		return
	}
	defer response.Body.Close()
	response.Header.Set(headerSession, session)
	if response.StatusCode == http.StatusSwitchingProtocols {
		join(w, response)
		return
	}
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(response.StatusCode)
	copyAsItComes(w, response.Body)
}

// token is the user's workload token: of the token's subject, of the user that the call names, or of the developer.
func (f *front) token(r *http.Request) (string, error) {
	operation, in := "GetWorkloadAccessTokenForUserId", object{"workloadName": f.who.Workload, "userId": f.who.User}
	if named := r.Header.Get(headerUser); named != "" {
		in["userId"] = named
	}
	if bearer, is := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); is {
		operation, in = "GetWorkloadAccessTokenForJWT", object{"workloadName": f.who.Workload, "userToken": bearer}
	}
	var answer struct {
		Token string `json:"workloadAccessToken"`
	}
	if r.Method == http.MethodGet && r.URL.Path == "/ping" {
		return "", nil
	}
	err := f.client.ask(r.Context(), http.MethodPost, "/identities/"+operation, in, &answer)
	var said smithy.APIError
	if err != nil && !errors.As(err, &said) { // nor has the agent said anything
		err = &smithy.GenericAPIError{Code: "ServiceUnavailableException", Message: "the platform gives no workload token: " + err.Error()}
	}
	return answer.Token, err
}

// forwarded are the headers of a caller that an agent gets without being asked for.
var forwarded = []string{
	"Content-Type", "Accept", "Mcp-Session-Id", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name", "Traceparent", "Tracestate", "Baggage", "X-Amzn-Trace-Id", "Last-Event-Id",
}

// ofUpgrades are the headers that make a websocket of a request.
var ofUpgrades = []string{"Connection", "Upgrade", "Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Protocol", "Sec-Websocket-Extensions"}

// headers hands on what a runtime would: these, and what the settings let through.
func (f *front) headers(from, to http.Header) {
	names := slices.Concat(forwarded, f.agent.Headers)
	if from.Get("Upgrade") != "" {
		names = append(names, ofUpgrades...)
	}
	for _, name := range names {
		name = http.CanonicalHeaderKey(name)
		if values := from.Values(name); len(values) > 0 {
			to[name] = values
		}
	}
}

// startTime is how long an agent may take until it listens.
const startTime = 30 * time.Second

// awaitAgent answers where the agent is, once it listens; one that itself waits for a change is not waited for.
func (f *front) awaitAgent(ctx context.Context) (string, error) {
	for deadline := time.Now().Add(startTime); ; {
		port, why := f.runner.where()
		if why != "" {
			return "", errors.New(why)
		}
		err := errors.New("the agent has not begun yet")
		if port != 0 {
			address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
			connection, refused := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if refused == nil {
				return address, connection.Close()
			}
			err = fmt.Errorf("the agent does not listen on port %d: %w", port, refused)
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return "", err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// join connects a caller with the agent once both have agreed on a websocket, until one of them is done.
func join(w http.ResponseWriter, agreed *http.Response) {
	agent, ok := agreed.Body.(io.ReadWriteCloser)
	connection, caller, err := http.NewResponseController(w).Hijack()
	if !ok || err != nil {
		answerError(w, http.StatusNotImplemented, errors.New("the connection cannot be made another one"))
		return
	}
	defer connection.Close()
	agreed.Body = nil
	if agreed.Write(caller) != nil || caller.Flush() != nil {
		_ = agent.Close()
		return
	}
	done := make(chan struct{}, 2)
	pass := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from)
		done <- struct{}{}
	}
	go pass(agent, caller)
	go pass(connection, agent)
	<-done
	_ = agent.Close()
}

// copyAsItComes writes each part of a stream as soon as it is there. A stream that
// breaks off breaks off for the caller, too, who must not take the half for the whole.
func copyAsItComes(w http.ResponseWriter, from io.Reader) {
	flusher := http.NewResponseController(w)
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return
			}
			_ = flusher.Flush()
		}
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			panic(http.ErrAbortHandler)
		}
	}
}

// answerError answers what the platform has said, where it was the platform; else it
// is the agent that cannot be called.
func answerError(w http.ResponseWriter, status int, err error) {
	code, message := runtimeClientError, err.Error()
	var said smithy.APIError
	if errors.As(err, &said) {
		code, message = said.ErrorCode(), said.ErrorMessage()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set(headerErrorType, code)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
}
