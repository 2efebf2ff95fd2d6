package gateway

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// reply is the answer to one message: an HTTP status and a body; without a body
// the message was a notification.
type reply struct {
	status     int
	body       []byte
	retryAfter time.Duration
}

// open begins a JSON-RPC response; an id that could not be read is left out.
func open(out []byte, id json.RawMessage) []byte {
	out = append(out, `{"jsonrpc":"2.0",`...)
	if id != nil {
		out = append(append(append(out, `"id":`...), id...), ',')
	}
	return out
}

// failed renders an error.
func failed(id json.RawMessage, revision string, p *problem) reply {
	out := open(make([]byte, 0, 160+len(p.message)+len(p.data)), id)
	out = strconv.AppendInt(append(out, `"error":{"code":`...), int64(p.code), 10)
	out = appendText(append(out, `,"message":`...), p.message)
	if p.data != nil {
		out = append(append(out, `,"data":`...), p.data...)
	}
	return reply{status: statusOf(p, revision), body: append(out, '}', '}')}
}

// statusOf is the HTTP status of an error. The stateless revision has its own;
// before it, an error that a JSON-RPC response can carry travels with 200.
func statusOf(p *problem, revision string) int {
	if p.status != 0 {
		return p.status
	}
	if revision >= revision2026July {
		switch p.code {
		case codeNoMethod:
			return http.StatusNotFound
		case codeInvalidParams, codeVersion, codeCapability, codeHeaderMismatch, codeInvalidRequest:
			return http.StatusBadRequest
		}
	}
	return http.StatusOK
}

// faulted says a fault in JSON-RPC's terms.
func faulted(err error) *problem {
	f := fault.Of(err)
	p := &problem{message: f.Message}
	switch f.Kind {
	case fault.Invalid, fault.NotFound, fault.Conflict, fault.NotBuilt:
		p.code = codeInvalidParams
	case fault.Unauthenticated:
		p.code, p.status = http.StatusUnauthorized, http.StatusUnauthorized
	case fault.Denied:
		p.code, p.status = http.StatusForbidden, http.StatusForbidden
	case fault.Throttled:
		p.code, p.status = http.StatusTooManyRequests, http.StatusTooManyRequests
	case fault.Unavailable:
		p.code, p.status = codeInternal, http.StatusServiceUnavailable
	default:
		p.code, p.status = codeInternal, http.StatusInternalServerError
	}
	return p
}

// result begins a result of this request's revision: the stateless one wants
// each result to say what it is and who made it.
func (s *Service) result(r *request, e *endpoint, kind string, size int) []byte {
	out := open(make([]byte, 0, size+256+len(e.name)), r.id)
	out = append(out, `"result":{`...)
	if r.modern() {
		out = append(append(append(out, `"resultType":"`...), kind...), `","_meta":{"`+metaServer+`":`...)
		out = append(s.appendServer(out, e), '}', ',')
	}
	return out
}

// appendServer is what the gateway says of itself.
func (s *Service) appendServer(out []byte, e *endpoint) []byte {
	out = appendText(append(out, `{"name":`...), e.name)
	return append(appendText(append(out, `,"version":`...), s.options.Version), '}')
}

// close ends a result and its response; a comma after the last member goes.
func closed(out []byte) reply {
	if out[len(out)-1] == ',' {
		out = out[:len(out)-1]
	}
	return reply{status: http.StatusOK, body: append(out, '}', '}')}
}

// toolResult renders the result of tools/call.
func (s *Service) toolResult(r *request, e *endpoint, a *Answer) reply {
	size := len(a.Text) + bytes.Count(a.Text, []byte{'"'}) + bytes.Count(a.Text, []byte{'\\'}) + bytes.Count(a.Text, []byte{'\n'})
	structured := a.Object != nil && !a.IsError && r.revision >= revision2025June
	if structured {
		size += len(a.Object)
	}
	out := s.result(r, e, "complete", size)
	out = appendText(append(out, `"content":[{"type":"text","text":`...), a.Text)
	out = append(out, `}],`...)
	if structured {
		out = append(append(append(out, `"structuredContent":`...), a.Object...), ',')
	}
	return closed(strconv.AppendBool(append(out, `"isError":`...), a.IsError))
}

// toolFailure is a tool result that says what went wrong. detail is for
// gateways with exception level DEBUG; like the text it holds no cause.
func (s *Service) toolFailure(r *request, e *endpoint, text, detail string) reply {
	if !e.debug || detail == "" {
		return s.toolResult(r, e, &Answer{Text: []byte(text), IsError: true})
	}
	out := open(make([]byte, 0, 512+2*len(text)), r.id)
	out = append(out, `"result":{`...)
	if r.modern() {
		out = append(out, `"resultType":"complete",`...)
	}
	out = appendText(append(out, `"content":[{"type":"text","text":`...), text)
	out = append(out, `}],"isError":true,"_meta":{`...)
	if r.modern() {
		out = append(s.appendServer(append(out, `"`+metaServer+`":`...), e), ',')
	}
	out = appendText(append(out, `"debug":{"type":"text","text":`...), detail)
	return closed(append(out, '}', '}'))
}

func seconds(d time.Duration) string {
	return strconv.Itoa(int(math.Ceil(d.Seconds())))
}
