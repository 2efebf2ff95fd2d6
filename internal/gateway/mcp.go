package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

const (
	maxBody  = 6 << 20  // bytes of a request, as AWS has it
	maxBatch = 50       // messages in a batch of 2025-03-26
	promised = 64 << 10 // bytes of memory that a Content-Length alone gets
)

// MCP serves /gateway/{gatewayId}/mcp: streamable HTTP without sessions, one
// JSON answer per POST.
func (s *Service) MCP() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header["X-Content-Type-Options"] = []string{"nosniff"}
	header["Cache-Control"] = []string{"no-store"}
	id, ok := pathID(r, "")
	switch {
	case !s.hostAllowed(r):
		refuse(w, http.StatusForbidden, "This server does not answer for the host of the request.")
		return
	case !s.originAllowed(r):
		refuse(w, http.StatusForbidden, "This origin may not call the gateway.")
		return
	case !ok:
		refuse(w, http.StatusNotFound, "There is nothing at this path.")
		return
	case r.Method != http.MethodPost:
		header["Allow"] = []string{"POST"}
		refuse(w, http.StatusMethodNotAllowed, "This gateway takes POST only: it has no sessions and no streams.")
		return
	}
	e, err := s.shelf.Find(r.Context(), id)
	if err != nil {
		s.refuseFault(w, r, nil, err)
		return
	}
	caller, err := s.caller(r, e)
	if err != nil {
		s.refuseFault(w, r, e, err)
		return
	}
	body, p := readBody(w, r)
	if p != nil {
		refuse(w, p.status, p.message)
		return
	}
	s.write(w, s.answer(&exchange{r.Context(), e, caller, r}, body))
}

// exchange is one POST under way.
type exchange struct {
	ctx      context.Context
	endpoint *endpoint
	caller   principal.Caller
	http     *http.Request
}

// caller finds out who calls. Each caller acts through the gateway's own
// workload identity, under the gateway's authorizer.
func (s *Service) caller(r *http.Request, e *endpoint) (principal.Caller, error) {
	if e.authorizer == nil {
		if err := s.gate.LimitOpen(r.Context(), e.account, principal.RequestOf(r.Context()).Address); err != nil {
			return principal.Caller{}, err
		}
		caller := s.gate.Anonymous(r.Context(), e.account)
		caller.Authorizer, caller.Workload = e.arn, e.workload
		return caller, nil
	}
	caller, err := s.gate.Bearer(r.Context(), r, e.account, e.arn, *e.authorizer)
	caller.Workload = e.workload
	return caller, err
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *problem) {
	switch {
	case !sendsJSON(r.Header):
		return nil, &problem{status: http.StatusUnsupportedMediaType, message: "The Content-Type must be application/json."}
	case !acceptsJSON(r.Header):
		return nil, &problem{status: http.StatusNotAcceptable, message: "The Accept header must allow application/json."}
	case r.Header.Get("Content-Encoding") != "":
		return nil, &problem{status: http.StatusUnsupportedMediaType, message: "The body must not have a Content-Encoding."}
	}
	tooLarge := &problem{status: http.StatusRequestEntityTooLarge, message: "The request is larger than 6 MB."}
	if r.ContentLength > maxBody {
		return nil, tooLarge
	}
	var buffer bytes.Buffer
	if r.ContentLength > 0 {
		buffer.Grow(int(min(r.ContentLength, promised)) + bytes.MinRead)
	}
	if _, err := buffer.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		var limit *http.MaxBytesError
		if errors.As(err, &limit) {
			return nil, tooLarge
		}
		return nil, &problem{status: http.StatusBadRequest, message: "The request broke off."}
	}
	return buffer.Bytes(), nil
}

// answer answers a body: one message, or a batch in the one revision that has them.
func (s *Service) answer(x *exchange, body []byte) reply {
	if err := checkJSON(body); err != nil {
		return failed(nil, "", &problem{code: codeParse, message: "The body is " + err.Error() + ".", status: http.StatusBadRequest})
	}
	body = bytes.TrimSpace(body)
	if isArray(body) {
		return s.batch(x, body)
	}
	return s.one(x, body, false)
}

// batch answers each message of a batch in turn.
func (s *Service) batch(x *exchange, body []byte) reply {
	version := x.http.Header.Get(headerVersion)
	if version == "" {
		version = oldest(x.endpoint.revisions)
	}
	if version != revision2025March {
		return failed(nil, "", &problem{code: codeInvalidRequest, message: "JSON-RPC batches are part of MCP " + revision2025March + " only.", status: http.StatusBadRequest})
	}
	var out []byte
	count := 0
	elements(body, func(each []byte) bool {
		if count++; count > maxBatch {
			return false
		}
		if answered := s.one(x, each, true); answered.body != nil {
			out = append(append(out, ','), answered.body...)
		}
		return true
	})
	switch {
	case count == 0 || count > maxBatch:
		return failed(nil, "", &problem{code: codeInvalidRequest, message: "A batch has 1 to " + strconv.Itoa(maxBatch) + " messages.", status: http.StatusBadRequest})
	case out == nil:
		return reply{status: http.StatusAccepted}
	}
	out[0] = '['
	return reply{status: http.StatusOK, body: append(out, ']')}
}

// one answers one message.
func (s *Service) one(x *exchange, body []byte, batched bool) reply {
	m, p := parse(body)
	if p != nil {
		return failed(m.id, "", p)
	}
	if m.reply {
		// Nobody here asks clients anything, so nobody waits for this.
		if x.http.Header.Get(headerVersion) >= revision2026July {
			return failed(nil, "", &problem{code: codeInvalidRequest, message: "A client sends requests and notifications only.", status: http.StatusBadRequest})
		}
		return reply{status: http.StatusAccepted}
	}
	r := &request{message: m}
	if p := r.read(); p != nil {
		if r.id == nil {
			return reply{status: http.StatusAccepted}
		}
		return failed(r.id, x.http.Header.Get(headerVersion), p)
	}
	if p := r.settle(x.endpoint.revisions, x.http.Header); p != nil {
		return failed(r.id, r.revision, p)
	}
	if r.id == nil {
		return reply{status: http.StatusAccepted}
	}
	if batched && r.method == "initialize" {
		return failed(r.id, "", &problem{code: codeInvalidRequest, message: "initialize cannot be part of a batch."})
	}
	return s.dispatch(x, r)
}

// write sends a reply.
func (s *Service) write(w http.ResponseWriter, out reply) {
	header := w.Header()
	if out.body == nil {
		w.WriteHeader(out.status)
		return
	}
	if out.retryAfter > 0 {
		header["Retry-After"] = []string{seconds(out.retryAfter)}
	}
	header["Content-Type"] = []string{"application/json"}
	header["Content-Length"] = []string{strconv.Itoa(len(out.body))}
	w.WriteHeader(out.status)
	_, _ = w.Write(out.body)
}

// refuse answers before there is a message to answer.
func refuse(w http.ResponseWriter, status int, message string) {
	out := failed(nil, "", &problem{code: status, message: message, status: status})
	header := w.Header()
	header["Content-Type"] = []string{"application/json"}
	header["Content-Length"] = []string{strconv.Itoa(len(out.body))}
	w.WriteHeader(status)
	_, _ = io.Copy(w, bytes.NewReader(out.body))
}

// refuseFault answers a fault before there is a message to answer.
func (s *Service) refuseFault(w http.ResponseWriter, r *http.Request, e *endpoint, err error) {
	s.logged(r, err)
	f := fault.Of(err)
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", seconds(f.RetryAfter))
	}
	if e != nil {
		auth.SetChallenge(w.Header(), e.challenge, err, r.Header.Get("Authorization") != "")
	}
	status := http.StatusInternalServerError
	switch f.Kind {
	case fault.NotFound:
		status = http.StatusNotFound
	case fault.Unauthenticated, fault.MissingSignature:
		status = http.StatusUnauthorized
	case fault.Denied:
		status = http.StatusForbidden
	case fault.Throttled:
		status = http.StatusTooManyRequests
	case fault.Unavailable, fault.Upstream:
		status = http.StatusServiceUnavailable
	}
	refuse(w, status, f.Message)
}

// logged tells the log what the caller is not told: the cause. What is ours to
// mend is an error, what a target or a provider failed at a warning.
func (s *Service) logged(r *http.Request, err error) {
	f := fault.Of(err)
	level := slog.LevelWarn
	switch f.Kind {
	case fault.Internal:
		level = slog.LevelError
	case fault.Unavailable, fault.Upstream, fault.Undecryptable:
	default:
		return
	}
	slog.Log(r.Context(), level, "gateway: "+f.Message, "request_id", principal.RequestOf(r.Context()).ID, "kind", f.Kind.String(), "error", err)
}
