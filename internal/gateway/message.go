package gateway

import (
	"encoding/json"
	"net/http"
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
		return m, malformed("The message is malformed: " + err.Error() + ".")
	}
	var version, method json.RawMessage
	for _, part := range list {
		switch part.name {
		case "jsonrpc":
			version = part.value
		case "id":
			m.id = part.value
		case "method":
			method = part.value
		case "params":
			m.params = part.value
		case "result", "error":
			m.reply = true
		}
	}
	if m.id != nil && !goodID(m.id) {
		m.id = nil
		return m, malformed("The id must be a string or an integer.")
	}
	if v, _ := text(version); v != "2.0" {
		return m, malformed(`The message is not JSON-RPC 2.0: "jsonrpc" must be "2.0".`)
	}
	if m.reply && method == nil {
		return m, nil
	}
	var ok bool
	if m.method, ok = text(method); method != nil && (!ok || m.method == "") {
		return m, malformed("The method must be a string.")
	}
	if string(m.params) == "null" {
		m.params = nil
	}
	switch {
	case method == nil || m.reply:
		return m, malformed("The message is neither a request nor a notification.")
	case m.id != nil && strings.HasPrefix(m.method, "notifications/"):
		return m, malformed("A notification has no id.")
	case m.params != nil && !isObject(m.params):
		return m, malformed("The params must be an object.")
	}
	return m, nil
}

func malformed(message string) *problem {
	return &problem{code: codeInvalidRequest, message: message, status: http.StatusBadRequest}
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
