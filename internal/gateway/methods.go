package gateway

import (
	"context"
	"errors"
	"net/http"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
)

// dispatch answers a request. What reveals or does something is decided and
// recorded; ping is neither.
func (s *Service) dispatch(x *exchange, r *request) reply {
	var do func(context.Context, *exchange, *request) (reply, error)
	switch {
	case r.method == "tools/call":
		do = s.call
	case r.method == "tools/list":
		do = s.list
	case r.method == "ping" && !r.modern():
		return closed(append(open(nil, r.id), `"result":{`...))
	case r.method == "initialize" && !r.modern():
		do = s.initialize
	case r.method == "server/discover" && r.modern():
		do = s.discover
	default:
		return failed(r.id, r.revision, &problem{code: codeNoMethod, message: "Method not found: " + clip(r.method, 100)})
	}
	var out reply
	err := s.gate.Do(x.ctx, x.caller, []gate.Check{{Action: gate.InvokeGateway, Resource: x.endpoint.arn}}, func(ctx context.Context) (err error) {
		gate.Detail(ctx, "method", r.method)
		out, err = do(ctx, x, r)
		return err
	})
	if err == nil {
		return out
	}
	var p *problem
	if errors.As(err, &p) {
		return failed(r.id, r.revision, p)
	}
	s.logged(x.http, err)
	out = failed(r.id, r.revision, faulted(err))
	out.retryAfter = fault.Of(err).RetryAfter
	return out
}

// refused makes a protocol error the outcome of an act: recorded as invalid,
// rendered as the problem says.
func refused(p *problem) error {
	return fault.New(fault.Invalid, "%s", p.message).Because(p)
}

func (s *Service) initialize(_ context.Context, x *exchange, r *request) (reply, error) {
	asked, ok := text(r.ask)
	if !ok {
		return reply{}, refused(&problem{code: codeInvalidParams, message: "initialize needs params.protocolVersion.", status: http.StatusOK})
	}
	version, ok := negotiate(x.endpoint.revisions, asked)
	if !ok {
		return reply{}, refused(unsupported(x.endpoint.revisions, asked))
	}
	out := s.result(r, x.endpoint, "complete", len(x.endpoint.instructions))
	out = appendText(append(out, `"protocolVersion":`...), version)
	out = s.appendServer(append(out, `,"capabilities":{"tools":{}},"serverInfo":`...), x.endpoint)
	return closed(appendInstructions(out, x.endpoint)), nil
}

// discover tells a client of the stateless revision what it needs to know.
func (s *Service) discover(_ context.Context, x *exchange, r *request) (reply, error) {
	out := s.result(r, x.endpoint, "complete", len(x.endpoint.instructions))
	out = appendTexts(append(out, `"supportedVersions":`...), x.endpoint.revisions)
	out = append(out, `,"capabilities":{"tools":{}},`+cacheHints...)
	return closed(appendInstructions(out, x.endpoint)), nil
}

// cacheHints keep lists out of shared caches and ask for them anew each time: a
// list is cheap, and who may see what can change from one call to the next.
const cacheHints = `"ttlMs":0,"cacheScope":"private"`

func appendInstructions(out []byte, e *endpoint) []byte {
	if e.instructions == "" {
		return out
	}
	return appendText(append(out, `,"instructions":`...), e.instructions)
}

// list answers tools/list from memory.
func (s *Service) list(_ context.Context, x *exchange, r *request) (reply, error) {
	page, next, err := x.endpoint.page(r.cursor)
	if err != nil {
		return reply{}, refused(&problem{code: codeInvalidParams, message: "The cursor is not one of this gateway's."})
	}
	size := 0
	for _, t := range page {
		size += len(t.definition) + 1
	}
	out := append(s.result(r, x.endpoint, "complete", size), `"tools":[`...)
	for i, t := range page {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, t.definition...)
	}
	out = append(out, ']')
	if next != "" {
		out = appendText(append(out, `,"nextCursor":`...), next)
	}
	if r.modern() {
		out = append(out, ","+cacheHints...)
	}
	return closed(out), nil
}

// clip bounds foreign text in a message.
func clip(s string, limit int) string {
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
