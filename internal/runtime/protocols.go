package runtime

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

const eventStream = "text/event-stream"

// refuse answers an error in the form that the caller's protocol has for it:
//
//	401                 a JSON-RPC error, and WWW-Authenticate where a token would help
//	A2A, invocations    a JSON-RPC error with AWS's codes; access denied is as for all
//	AG-UI, invocations  an event RUN_ERROR
//	all others          AWS's JSON
func (s *Service) refuse(c *call, err error) {
	if c.begun {
		panic(http.ErrAbortHandler) // half an answer must not look whole
	}
	err = s.withOutput(c, err)
	f := fault.Of(err)
	if c.at != nil {
		auth.SetChallenge(c.w.Header(), c.at.challenge, err, c.r.Header.Get("Authorization") != "")
	}
	speaks := api.ServerProtocolHttp
	if c.at != nil && c.op.begins && c.op.method == http.MethodPost {
		speaks = c.at.speaks
	}
	switch {
	case speaks == api.ServerProtocolAgui && runErrors[f.Kind] != "":
		s.reword(c, err, eventStream, runError(runErrors[f.Kind], f.Message))
	case f.Kind == fault.Unauthenticated:
		s.reword(c, err, jsonType, rpcError(nil, -32001, f.Message))
	case speaks == api.ServerProtocolA2a && rpcCodes[f.Kind] != 0:
		s.reword(c, err, jsonType, rpcError(c.rpcID(), rpcCodes[f.Kind], f.Message))
	default:
		s.options.Refuse(c.w, c.r, c.op.info, err)
	}
}

// rpcCodes are AWS's codes of JSON-RPC errors of A2A runtimes. What is not here
// has no such form: access denied, and everything about signatures.
var rpcCodes = map[fault.Kind]int{
	fault.NotFound:      -32051,
	fault.Invalid:       -32052,
	fault.NotBuilt:      -32052,
	fault.Upstream:      -32052,
	fault.Throttled:     -32053,
	fault.QuotaExceeded: -32053,
	fault.Conflict:      -32052, // it is a ValidationException here: the operation has no other
	fault.Concurrent:    -32054,
	fault.RuntimeClient: -32055,
	fault.Undecryptable: -32603,
	fault.Unavailable:   -32603,
	fault.Internal:      -32603,
}

// runErrors are the codes of AG-UI's RUN_ERROR. The first five and AGENT_ERROR are AWS's.
var runErrors = map[fault.Kind]string{
	fault.Unauthenticated: "UNAUTHORIZED",
	fault.Denied:          "ACCESS_DENIED",
	fault.Invalid:         "VALIDATION_ERROR",
	fault.Throttled:       "RATE_LIMIT_EXCEEDED",
	fault.QuotaExceeded:   "RATE_LIMIT_EXCEEDED",
	fault.RuntimeClient:   "AGENT_ERROR",
	fault.NotFound:        "NOT_FOUND",
	fault.Conflict:        "VALIDATION_ERROR",
	fault.Concurrent:      "CONFLICT",
	fault.Unavailable:     "INTERNAL_ERROR",
	fault.Internal:        "INTERNAL_ERROR",
}

const jsonType = "application/json"

// runError is AG-UI's event for a run that has failed.
func runError(code, message string) []byte {
	out := api.AppendString([]byte(`data: {"type":"RUN_ERROR","message":`), message)
	return append(api.AppendString(append(out, `,"code":`...), code), "}\n\n"...)
}

// rpcError is a JSON-RPC error; without an id it has none, as observed at AWS.
func rpcError(id json.RawMessage, code int, message string) []byte {
	out := []byte(`{"jsonrpc":"2.0",`)
	if id != nil {
		out = append(append(append(out, `"id":`...), id...), ',')
	}
	out = strconv.AppendInt(append(out, `"error":{"code":`...), int64(code), 10)
	return append(api.AppendString(append(out, `,"message":`...), message), '}', '}')
}

// rpcID is the id of the JSON-RPC request in the body; null where there is none.
func (c *call) rpcID() json.RawMessage {
	var request struct {
		ID json.RawMessage `json:"id"`
	}
	if whole, inMemory := c.inMemory(); inMemory && json.Unmarshal(whole, &request) == nil && len(request.ID) > 0 {
		if first := request.ID[0]; first == '"' || first == '-' || first >= '0' && first <= '9' {
			return request.ID
		}
	}
	return json.RawMessage("null")
}

// inMemory is the body, where there is one that is not in a file.
func (c *call) inMemory() ([]byte, bool) {
	if c.body == nil {
		return nil, false
	}
	return c.body.Bytes()
}

// reword lets the renderer of errors choose status and headers and log the
// cause, and puts another body in place of its own.
func (s *Service) reword(c *call, err error, media string, body []byte) {
	info := c.op.info
	if fault.Is(err, fault.Unauthenticated) {
		info = nil // 401 is in no operation's model: SDKs have no tokens
	}
	s.options.Refuse(&reworded{ResponseWriter: c.w, media: media, body: body}, c.r, info, err)
}

type reworded struct {
	http.ResponseWriter
	media string
	body  []byte
}

// WriteHeader sends the status with the other body.
func (w *reworded) WriteHeader(status int) {
	header := w.Header()
	header.Set(headerType, w.media)
	header.Set("Content-Length", strconv.Itoa(len(w.body)))
	w.ResponseWriter.WriteHeader(status)
	_, _ = w.ResponseWriter.Write(w.body)
}

// Write takes the body that is not sent.
func (w *reworded) Write(p []byte) (int, error) { return len(p), nil }

// withOutput adds what the agent printed last, for a caller who may read its logs.
func (s *Service) withOutput(c *call, err error) error {
	var output printed
	if c.at == nil || c.caller.Kind == principal.Nobody || !errors.As(err, &output) || output == "" || !s.mayReadLogs(c.r.Context(), c) {
		return err
	}
	f := *fault.Of(err)
	f.Message += string(output)
	return &f
}
