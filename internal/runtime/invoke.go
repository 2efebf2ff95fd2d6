package runtime

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
)

const (
	maxPayload = 100 << 20        // bytes, as AWS has it
	callLimit  = 15 * time.Minute // until an agent begins to answer
	longestRun = time.Hour        // of a stream
	told       = 4 << 10          // bytes of an agent's error that the caller is told
)

// passed are the headers that go through in both directions, whoever calls.
var passedIn = []string{"Content-Type", "Accept", "Mcp-Session-Id", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name", "X-Amzn-Trace-Id", "Traceparent", "Tracestate", "Baggage"}
var passedOut = []string{"Content-Type", "Mcp-Session-Id", "Mcp-Protocol-Version", "X-Amzn-Trace-Id", "Traceparent", "Tracestate", "Baggage"}

// invoke hands one call to a session's agent, and its answer back as it comes.
// It runs inside the act: an error is one before the first byte of an answer.
func (s *Service) invoke(ctx context.Context, caller principal.Caller, at *served, w http.ResponseWriter, r *http.Request, body io.Reader, size int64) error {
	id, err := sessionID(r)
	if err != nil {
		return err
	}
	w.Header().Set(headerSession, id)
	if at.version.status != api.AgentRuntimeStatusReady {
		return fault.New(fault.Conflict, "The agent runtime is %s: %s", at.version.status, at.version.failure)
	}
	header, err := s.outgoing(ctx, caller, at, r)
	if err != nil {
		return err
	}
	header.Set(headerSession, id)
	n, release, err := s.acquire(ctx, caller, at, id)
	if err != nil {
		return err
	}
	defer release()
	if token := header.Get("X-Amz-Bedrock-Agentcore-Identity-Wat"); token != "" {
		n.secrets.add(token)
	}
	gate.Detail(ctx, "session", id)
	ctx, cancel := context.WithTimeout(ctx, longestRun)
	defer cancel()
	_, _, path := protocol(&at.version.settings)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+path, io.NopCloser(body))
	if err != nil {
		return fault.Wrap(err, "calling an agent")
	}
	request.Header, request.ContentLength = header, size
	response, err := n.agent.RoundTrip(request)
	if err != nil {
		return n.broken(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 400 {
		return refused(response, n)
	}
	for _, name := range passedOut {
		if values := response.Header.Values(name); len(values) > 0 {
			w.Header()[name] = values
		}
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	return stream(w, response.Body)
}

// outgoing are the headers toward the agent: what the caller may send, who asks,
// and for whom. What callers send under the names that say so is not among them.
func (s *Service) outgoing(ctx context.Context, caller principal.Caller, at *served, r *http.Request) (http.Header, error) {
	header, err := allowed(&at.version.settings, r.Header)
	if err != nil {
		return nil, err
	}
	for _, name := range passedIn {
		if values := r.Header.Values(name); len(values) > 0 {
			header[name] = values
		}
	}
	header.Set(headerRequest, principal.RequestOf(ctx).ID)
	if caller.User.IsZero() {
		return header, nil // without a person there is no token: the agent is told nothing of whom it may act for
	}
	caller.Workload = s.workload(at.runtime)
	token, err := s.identity.Mint(ctx, caller)
	if err != nil {
		return nil, err
	}
	header.Set("X-Amz-Bedrock-Agentcore-Identity-Wat", token.Reveal())
	header.Set("Workloadaccesstoken", token.Reveal())
	if s.options.CallbackURL != "" {
		header.Set("Oauth2callbackurl", s.options.CallbackURL)
	}
	return header, nil
}

// broken says why an agent did not answer.
func (n *session) broken(ctx context.Context, err error) error {
	select {
	case <-n.process.Ended():
		return fault.New(fault.RuntimeClient, "The agent ended during the call. %s%s", n.process.End(), n.log.tail()).Because(err)
	default:
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fault.New(fault.RuntimeClient, "The agent did not answer.%s", n.log.tail()).Because(err)
}

// refused is an agent's own error, in its words.
func refused(response *http.Response, n *session) error {
	body, _ := io.ReadAll(io.LimitReader(response.Body, told))
	text := strings.ToValidUTF8(n.secrets.hide(string(body)), "")
	return fault.New(fault.RuntimeClient, "Received error (%d) from runtime. %s", response.StatusCode, text)
}

// stream passes an answer on, each piece when it comes.
func stream(w http.ResponseWriter, from io.Reader) error {
	control := http.NewResponseController(w)
	buffer := make([]byte, 32<<10)
	for {
		count, err := from.Read(buffer)
		if count > 0 {
			if _, err := w.Write(buffer[:count]); err != nil {
				return context.Canceled // the caller has left
			}
			if err := control.Flush(); err != nil {
				return context.Canceled
			}
		}
		switch err {
		case nil:
		case io.EOF:
			return nil
		default:
			// The status has left: that it is not whole can be told by cutting it alone.
			panic(http.ErrAbortHandler)
		}
	}
}

func newSessionID() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:])
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	text := hex.EncodeToString(raw[:])
	return fmt.Sprintf("%s-%s-%s-%s-%s", text[:8], text[8:12], text[12:16], text[16:20], text[20:])
}
