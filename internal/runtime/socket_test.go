package runtime

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/coder/websocket"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/demoidp"
)

// chat is an agent's websocket: it says what it was opened with, then gives every
// message back. "bye" ends it from its side.
func chat(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}})
	if err != nil {
		return
	}
	conn.SetReadLimit(1 << 20)
	ctx := context.Background()
	_ = conn.Write(ctx, websocket.MessageText, []byte(fmt.Sprintf("%s %s user=%t", r.URL.RequestURI(), r.Header.Get(headerSession), r.Header.Get(headerToken) != "")))
	for {
		kind, message, err := conn.Read(ctx)
		if err != nil {
			return
		}
		if string(message) == "bye" {
			_ = conn.Close(4321, "see you")
			return
		}
		if conn.Write(ctx, kind, message) != nil {
			return
		}
	}
}

func (h *hosted) socket(arn string) string {
	return strings.TrimSuffix(invocationsPath(arn), pathInvocations) + pathSocket
}

// presigned is a URL that AWS's own signer made for the websocket.
func (h *hosted) presigned(t *testing.T, arn, query string, life time.Duration) string {
	t.Helper()
	r := h.request(t, http.MethodGet, h.socket(arn)+"?"+query+fmt.Sprintf("&X-Amz-Expires=%d", int(life.Seconds())), "")
	signer := v4.NewSigner()
	signedURL, _, err := signer.PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: h.root.AccessKeyID, SecretAccessKey: h.root.Secret.Reveal()}, r,
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "bedrock-agentcore", testRegion, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return signedURL
}

func TestSocket(t *testing.T) {
	t.Parallel()
	h := serving(t, chat)
	made := h.create(t, "chat", nil)
	session := api.NewUUID()
	r := h.sign(t, h.request(t, http.MethodGet, h.socket(made.AgentRuntimeArn)+"?topic=weather&qualifier=DEFAULT", "", headerSession, session, headerUser, "alice"), "")
	conn, response, err := websocket.Dial(t.Context(), r.URL.String(), &websocket.DialOptions{HTTPHeader: r.Header, Host: r.Host, Subprotocols: []string{"chat"}})
	if err != nil {
		t.Fatal(err, response)
	}
	conn.SetReadLimit(1 << 20)
	if conn.Subprotocol() != "chat" || response.Header.Get(headerSession) != session {
		t.Errorf("%q %v", conn.Subprotocol(), response.Header)
	}
	hear := func() string {
		t.Helper()
		_, message, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return string(message)
	}
	if got := hear(); got != "/ws?topic=weather "+session+" user=true" {
		t.Errorf("opened with %q", got)
	}
	for _, message := range []string{"", "hello", strings.Repeat("x", 126), strings.Repeat("y", 64<<10)} {
		if err := conn.Write(t.Context(), websocket.MessageBinary, []byte(message)); err != nil {
			t.Fatal(err)
		}
		if got := hear(); got != message {
			t.Errorf("%d bytes came back for %d", len(got), len(message))
		}
	}
	if !h.busy() {
		t.Error("a session with an open socket is idle")
	}
	// The agent's own close code comes through.
	if err := conn.Write(t.Context(), websocket.MessageText, []byte("bye")); err != nil {
		t.Fatal(err)
	}
	var closed websocket.CloseError
	if _, _, err := conn.Read(t.Context()); !errors.As(err, &closed) || closed.Code != 4321 || closed.Reason != "see you" {
		t.Errorf("%v", err)
	}
	h.eventually(t, func() bool {
		records := h.records(t, actionSocket)
		return len(records) == 2 && records[1].Detail["outcome"] == "closed" && !h.busy()
	})
}

// TestSocketBySignedURL: presigned for at most 300 seconds, with the session and
// the caller's headers in the query.
func TestSocketBySignedURL(t *testing.T) {
	t.Parallel()
	h := serving(t, chat)
	made := h.create(t, "signed", nil)
	session := api.NewUUID()
	conn, response, err := websocket.Dial(t.Context(), h.presigned(t, made.AgentRuntimeArn, headerSession+"="+session, 300*time.Second), nil)
	if err != nil {
		t.Fatal(err, response)
	}
	if _, message, err := conn.Read(t.Context()); err != nil || !strings.Contains(string(message), session) || strings.Contains(string(message), "X-Amz") {
		t.Errorf("%s %v", message, err)
	}
	_ = conn.CloseNow()
	refused := func(name, url string, status int) {
		t.Helper()
		conn, response, err := websocket.Dial(t.Context(), url, nil)
		if err == nil {
			_ = conn.CloseNow()
			t.Errorf("%s: opened", name)
		} else if response == nil || response.StatusCode != status {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := h.presigned(t, made.AgentRuntimeArn, headerSession+"="+session, 300*time.Second)
	refused("too long a life", h.presigned(t, made.AgentRuntimeArn, "a=b", 301*time.Second), 403)
	refused("another session", strings.Replace(good, session, api.NewUUID(), 1), 403)
	refused("unsigned", h.door.URL+h.socket(made.AgentRuntimeArn), 403)
	// Nowhere else.
	if response, _ := answer(t, h.request(t, http.MethodPost, strings.TrimPrefix(strings.Replace(good, "/ws?", "/invocations?", 1), h.door.URL), "")); response.StatusCode != 403 {
		t.Errorf("presigned invocation: %d", response.StatusCode)
	}
	if response, _ := answer(t, h.request(t, http.MethodGet, strings.TrimPrefix(good, h.door.URL), "")); response.StatusCode != 400 {
		t.Errorf("no upgrade: %d", response.StatusCode)
	}
}

// TestSocketOfABrowser: the token is a subprotocol, and no agent sees it.
func TestSocketOfABrowser(t *testing.T) {
	t.Parallel()
	offered := make(chan string, 2)
	h := serving(t, func(w http.ResponseWriter, r *http.Request) {
		offered <- r.Header.Get(headerProtocols) + r.Header.Get("Authorization") + r.Header.Get("Origin")
		chat(w, r)
	})
	made := h.create(t, "browser", func(r *api.CreateAgentRuntimeRequest) { r.AuthorizerConfiguration = h.jwt() })
	token := tokenInURL + "." + base64.RawURLEncoding.EncodeToString([]byte(h.token(t, demoidp.Ada)))
	for name, others := range map[string][]string{"alone": nil, "beside another": {"chat"}} {
		conn, response, err := websocket.Dial(t.Context(), h.door.URL+h.socket(made.AgentRuntimeArn), &websocket.DialOptions{
			HTTPHeader: http.Header{"Origin": {"https://app.example.com"}}, Subprotocols: append([]string{token, tokenInURL}, others...)})
		if err != nil {
			t.Fatal(name, err, response)
		}
		want := tokenInURL
		if others != nil {
			want = "chat"
		}
		if got := <-offered; got != strings.Join(others, "") || conn.Subprotocol() != want {
			t.Errorf("%s: the agent saw %q, the browser %q", name, got, conn.Subprotocol())
		}
		_ = conn.CloseNow()
	}
	for name, protocols := range map[string][]string{"no token": nil, "garbage": {tokenInURL + ".Z2FyYmFnZQ", tokenInURL}, "no base64": {tokenInURL + ".%%", tokenInURL}} {
		_, response, err := websocket.Dial(t.Context(), h.door.URL+h.socket(made.AgentRuntimeArn), &websocket.DialOptions{Subprotocols: protocols})
		if err == nil || response == nil || response.StatusCode != 401 && response.StatusCode != 403 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSocketEnds: each side hears how, and nothing is left running.
func TestSocketEnds(t *testing.T) {
	t.Parallel()
	h := serving(t, chat)
	made := h.create(t, "ends", nil)
	open := func(session string) *websocket.Conn {
		t.Helper()
		r := h.sign(t, h.request(t, http.MethodGet, h.socket(made.AgentRuntimeArn), "", headerSession, session), "")
		conn, response, err := websocket.Dial(t.Context(), r.URL.String(), &websocket.DialOptions{HTTPHeader: r.Header})
		if err != nil {
			t.Fatal(err, response)
		}
		if _, _, err := conn.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	code := func(conn *websocket.Conn) websocket.StatusCode {
		_, _, err := conn.Read(t.Context())
		return websocket.CloseStatus(err)
	}
	id := api.NewUUID()
	conn := open(id)
	_ = conn.Write(t.Context(), websocket.MessageBinary, make([]byte, maxFrame+1)) // it may be refused before it is all there
	if got := code(conn); got != websocket.StatusMessageTooBig {
		t.Errorf("a frame that is too long: %d", got)
	}
	conn = open(id)
	for _, n := range h.those(func(*session) bool { return true }) {
		n.stop("It was stopped by a test.")
	}
	if got := code(conn); got != websocket.StatusGoingAway {
		t.Errorf("a session that ended: %d", got)
	}
	conn = open(api.NewUUID())
	h.agents.newest().end("The agent's process ended with status 3.")
	if got := code(conn); got != websocket.StatusInternalError && got != websocket.StatusGoingAway {
		t.Errorf("an agent that crashed: %d", got)
	}
	conn = open(api.NewUUID())
	_ = conn.CloseNow()
	h.eventually(t, func() bool { return !h.busy() && len(h.records(t, actionSocket)) == 8 })

	// A platform that stops says good-bye, and waits until it is on record.
	conn = open(api.NewUUID())
	h.Service.Close()
	if got := code(conn); got != websocket.StatusGoingAway {
		t.Errorf("a platform that stopped: %d", got)
	}
	if records := h.records(t, actionSocket); len(records) != 10 || records[9].Detail["outcome"] != "session-ended" {
		t.Errorf("%d records, the last is %+v", len(records), records[len(records)-1])
	}
}

// TestSocketHeaders: an agent's answer to the opening of a websocket is held to the
// size of any other's.
func TestSocketHeaders(t *testing.T) {
	t.Parallel()
	const most = 64 << 20
	written := make(chan int, 1)
	h := serving(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		count, _ := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n")
		for line := []byte("X-Long: " + strings.Repeat("x", 64<<10) + "\r\n"); err == nil && count < most; {
			var n int
			n, err = conn.Write(line)
			count += n
		}
		written <- count
	})
	made := h.create(t, "headers", nil)
	r := h.sign(t, h.request(t, http.MethodGet, h.socket(made.AgentRuntimeArn), "", headerSession, api.NewUUID()), "")
	if conn, response, err := websocket.Dial(t.Context(), r.URL.String(), &websocket.DialOptions{HTTPHeader: r.Header}); err == nil || response == nil || response.StatusCode != http.StatusFailedDependency {
		t.Errorf("%v %v %v", conn, response, err)
	}
	if count := <-written; count >= most {
		t.Errorf("%d bytes of headers were taken in", count)
	}
}

// FuzzFrames: what passes is what came, up to a whole frame or the end, and no
// frame that is too long.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0x81, 5, 'h', 'e', 'l', 'l', 'o'})
	f.Add([]byte{0x82, 0xfe, 0, 3, 1, 2, 3, 4, 'a', 'b', 'c', 0x88, 0x80, 0, 0, 0, 0})
	f.Add([]byte{0x82, 127, 0, 0, 0, 0, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, sent []byte) {
		here, there := net.Pipe()
		got := make(chan []byte, 1)
		go func() {
			all, _ := io.ReadAll(there)
			got <- all
		}()
		d := &direction{from: bufio.NewReader(iotest.HalfReader(bytes.NewReader(sent))), to: here}
		d.run()
		_ = here.Close()
		passed := <-got
		if !bytes.HasPrefix(sent, passed) {
			t.Fatalf("%x became %x", sent, passed)
		}
		if d.err == nil && !d.closed {
			t.Fatal("it ended for no reason")
		}
		rest := bufio.NewReader(bytes.NewReader(passed))
		for {
			_, length, err := frameHeader(rest)
			if err != nil {
				break
			}
			if n, _ := rest.Discard(length); n < length && !d.inside {
				t.Fatalf("a frame of %d bytes was cut at %d unnoticed", length, n)
			}
		}
	})
}

// FuzzBrowserToken: whatever a page offers, no agent is offered the token.
func FuzzBrowserToken(f *testing.F) {
	f.Add(tokenInURL + ".YQ, " + tokenInURL + ", chat")
	f.Add("chat," + tokenInURL + ".%%")
	f.Fuzz(func(t *testing.T, offered string) {
		r := &http.Request{Header: http.Header{headerProtocols: {offered}}}
		browserToken(r)
		for _, left := range r.Header[headerProtocols] {
			for part := range strings.SplitSeq(left, ",") {
				if part = strings.TrimSpace(part); part == tokenInURL || strings.HasPrefix(part, tokenInURL+".") {
					t.Fatalf("%q left %q", offered, left)
				}
			}
		}
	})
}

// TestDuring: a call ends with its caller, its session, or its time, and says which.
func TestDuring(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		made := func() (*session, context.CancelFunc) {
			until, end := context.WithCancel(t.Context())
			return &session{until: until, process: &inProcess{ended: make(chan struct{})}}, end
		}
		n, end := made()
		ctx, cancel := n.during(t.Context(), time.Hour)
		time.Sleep(time.Hour)
		synctest.Wait()
		if cause := context.Cause(ctx); cause != errOver {
			t.Errorf("after an hour: %v", cause)
		}
		cancel()
		ctx, cancel = n.during(t.Context(), time.Hour)
		end()
		synctest.Wait()
		if cause := context.Cause(ctx); cause != errStopped {
			t.Errorf("a session that was stopped: %v", cause)
		}
		cancel()
		// An agent that has ended by itself may be read to its end.
		n, end = made()
		close(n.process.(*inProcess).ended)
		ctx, cancel = n.during(t.Context(), time.Hour)
		end()
		synctest.Wait()
		if ctx.Err() != nil {
			t.Error("what a crashed agent wrote was cut at once")
		}
		time.Sleep(lastWords)
		synctest.Wait()
		if cause := context.Cause(ctx); cause != errStopped {
			t.Errorf("a crash: %v", cause)
		}
		cancel()
	})
}
