package gateway

import (
	"encoding/json"
	"strings"
)

// message is one JSON-RPC message as it came. Its parts alias the body.
type message struct {
	id     json.RawMessage // as the client wrote it; nil for a notification
	method string
	params json.RawMessage // an object, or nil
	reply  bool            // an answer of the client's, to a request that nobody made
}

// JSON-RPC's codes, MCP's, and, beyond the ranges that both reserve, the HTTP
// status for what neither has a code for.
const (
	codeParse          = -32700
	codeInvalidRequest = -32600
	codeNoMethod       = -32601
	codeInvalidParams  = -32602
	codeInternal       = -32603
	codeHeaderMismatch = -32020
	codeCapability     = -32021
	codeVersion        = -32022
	codeElicitation    = -32042
)

// problem is a JSON-RPC error and the HTTP status that it travels with.
type problem struct {
	code    int
	message string
	data    []byte // JSON; nil for none
	status  int    // 0: 200, or what the revision has for the code
}

func (p *problem) Error() string { return p.message }

// parse reads one message. body is valid JSON. What can be said of a malformed
// message, its id above all, is returned beside the problem.
func parse(body []byte) (message, *problem) {
	var m message
	var room [8]member
	list, err := members(body, room[:0])
	if err != nil {
		return m, &problem{code: codeInvalidRequest, message: "The message is malformed: " + err.Error() + ".", status: 400}
	}
	var versioned, hasMethod, hasParams bool
	for _, part := range list {
		switch part.name {
		case "jsonrpc":
			version, _ := text(part.value)
			versioned = version == "2.0"
		case "id":
			if !goodID(part.value) {
				return m, &problem{code: codeInvalidRequest, message: "The id must be a string or an integer.", status: 400}
			}
			m.id = part.value
		case "method":
			m.method, hasMethod = text(part.value)
			if !hasMethod || m.method == "" {
				return m, &problem{code: codeInvalidRequest, message: "The method must be a string.", status: 400}
			}
		case "params":
			m.params, hasParams = part.value, true
		case "result", "error":
			m.reply = true
		}
	}
	switch {
	case !versioned:
		return m, &problem{code: codeInvalidRequest, message: `The message is not JSON-RPC 2.0: "jsonrpc" must be "2.0".`, status: 400}
	case m.reply && !hasMethod:
		return m, nil
	case !hasMethod || m.reply:
		return m, &problem{code: codeInvalidRequest, message: "The message is neither a request nor a notification.", status: 400}
	case m.id != nil && strings.HasPrefix(m.method, "notifications/"):
		return m, &problem{code: codeInvalidRequest, message: "A notification has no id.", status: 400}
	case hasParams && !isObject(m.params):
		if string(m.params) != "null" {
			return m, &problem{code: codeInvalidRequest, message: "The params must be an object.", status: 400}
		}
		m.params = nil
	}
	return m, nil
}

// goodID accepts strings and integers of a size that can be echoed.
func goodID(id json.RawMessage) bool {
	if len(id) == 0 || len(id) > 1024 {
		return false
	}
	if id[0] == '"' {
		return true
	}
	for i, c := range id {
		if (c < '0' || c > '9') && !(i == 0 && c == '-') {
			return false
		}
	}
	return true
}
