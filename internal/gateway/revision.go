package gateway

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// revisions of MCP, newest first. They compare as text.
var revisions = []string{revision2026July, revision2025November, revision2025June, revision2025March}

const (
	revision2026July     = "2026-07-28" // stateless: each request carries version and capabilities
	revision2025November = "2025-11-25" // URL elicitation, error -32042
	revision2025June     = "2025-06-18" // structured content, no batches, version header
	revision2025March    = "2025-03-26" // what a request without the version header is taken for
)

// Headers as net/http spells them.
const (
	headerVersion = "Mcp-Protocol-Version"
	headerMethod  = "Mcp-Method"
	headerName    = "Mcp-Name"
)

// Keys of _meta that the protocol and AWS reserve.
const (
	metaVersion      = "io.modelcontextprotocol/protocolVersion"
	metaCapabilities = "io.modelcontextprotocol/clientCapabilities"
	metaServer       = "io.modelcontextprotocol/serverInfo"
	metaCredential   = "aws.bedrock-agentcore.gateway/credentialProviderConfiguration"
)

// request is a message with what is known of how to answer it.
type request struct {
	message
	revision     string
	stated       bool            // the client said which revision it speaks
	name         string          // params.name
	arguments    json.RawMessage // params.arguments, an object or nil
	meta         []member        // params._meta
	cursor       string          // params.cursor
	state        string          // params.requestState
	responses    json.RawMessage // params.inputResponses
	capabilities json.RawMessage // of _meta, in the newest revision
	ask          json.RawMessage // params.protocolVersion of initialize
}

// modern reports whether the request follows the stateless revision.
func (r *request) modern() bool { return r.revision >= revision2026July }

// read takes the params apart, as far as any method has them.
func (r *request) read() *problem {
	if r.params == nil {
		return nil
	}
	wrong := func(what string) *problem { return &problem{code: codeInvalidParams, message: what} }
	var room [8]member
	list, err := members(r.params, room[:0])
	if err != nil {
		return wrong("The params are malformed: " + err.Error() + ".")
	}
	for _, part := range list {
		ok := true
		switch part.name {
		case "name":
			r.name, ok = text(part.value)
		case "cursor":
			r.cursor, ok = text(part.value)
		case "requestState":
			r.state, ok = text(part.value)
		case "arguments":
			if r.arguments = part.value; !isObject(part.value) {
				r.arguments, ok = nil, string(part.value) == "null"
			}
		case "inputResponses":
			r.responses, ok = part.value, isObject(part.value)
		case "protocolVersion":
			r.ask = part.value
		case "_meta":
			if string(part.value) == "null" {
				break
			}
			if r.meta, err = members(part.value, nil); err != nil {
				return wrong("_meta is malformed: " + err.Error() + ".")
			}
		}
		if !ok {
			return wrong("The params' member " + part.name + " has the wrong type.")
		}
	}
	return nil
}

// settle decides which revision the request follows, and holds its headers
// against its body where the revision wants that.
func (r *request) settle(supported []string, header http.Header) *problem {
	stated := header[headerVersion]
	if len(stated) > 1 {
		return mismatch("there are several " + display(headerVersion) + " headers")
	}
	version := header.Get(headerVersion)
	carried := ""
	for _, m := range r.meta {
		switch m.name {
		case metaVersion:
			var ok bool
			if carried, ok = text(m.value); !ok || carried == "" {
				return &problem{code: codeInvalidParams, message: "The _meta field " + metaVersion + " must be a string.", status: 400}
			}
		case metaCapabilities:
			r.capabilities = m.value
		}
	}
	switch {
	case r.id == nil:
		// Notifications carry no _meta of the protocol's; nothing hangs on their revision.
		r.revision, r.stated = oldest(supported), version != ""
		if version != "" && !slices.Contains(supported, version) {
			return unsupported(supported, version)
		}
		return nil
	case carried == "" && version != "" && r.method != "initialize" && !slices.Contains(revisions, version):
		// Neither an old revision nor the newest: what such a client would have to send is not known.
		return unsupported(supported, version)
	case carried == "" && version < revision2026July:
		return r.settleLegacy(supported, version)
	}
	return r.settleModern(supported, version, carried, header)
}

func (r *request) settleLegacy(supported []string, version string) *problem {
	switch {
	case version == "" || r.method == "initialize":
		// initialize negotiates by its params; it has no version yet.
		if r.revision = oldest(supported); r.revision >= revision2026July {
			return unsupportedLegacy(supported, r)
		}
	case !slices.Contains(supported, version):
		return unsupported(supported, version)
	default:
		r.revision, r.stated = version, true
	}
	return nil
}

func (r *request) settleModern(supported []string, version, carried string, header http.Header) *problem {
	switch {
	case version == "":
		return mismatch("the " + display(headerVersion) + " header is missing")
	case carried == "":
		return &problem{code: codeInvalidParams, message: "The _meta field " + metaVersion + " is missing.", status: 400}
	case version != carried:
		return mismatch("the " + display(headerVersion) + " header does not match the _meta field " + metaVersion)
	case !slices.Contains(supported, version):
		return unsupported(supported, version)
	}
	r.revision, r.stated = version, true
	if !r.modern() {
		return nil
	}
	if problem := r.compare(header, headerMethod, r.method); problem != nil {
		return problem
	}
	switch r.method {
	case "tools/call", "prompts/get":
		if problem := r.compare(header, headerName, r.name); problem != nil {
			return problem
		}
	}
	if !isObject(r.capabilities) {
		return &problem{code: codeInvalidParams, message: "The _meta field " + metaCapabilities + " is missing or no object.", status: 400}
	}
	return nil
}

// compare holds a header against the body. What stands between client and
// gateway may have acted on the header, so the two must not differ.
func (r *request) compare(header http.Header, name, body string) *problem {
	values := header[name]
	switch len(values) {
	case 0:
		return mismatch("the " + name + " header is missing")
	case 1:
	default:
		return mismatch("there are several " + name + " headers")
	}
	value, ok := values[0], true
	if name == headerName {
		value, ok = decodeHeader(value)
	}
	if !ok || value != body {
		return mismatch("the " + name + " header does not match the body")
	}
	return nil
}

// decodeHeader undoes =?base64?…?=, which carries what a header cannot.
func decodeHeader(value string) (string, bool) {
	encoded, ok := strings.CutPrefix(value, "=?base64?")
	if !ok {
		return value, true
	}
	if encoded, ok = strings.CutSuffix(encoded, "?="); !ok {
		return value, true
	}
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	return string(decoded), err == nil
}

// urlElicitation reports whether the client said, with this request, that it
// can show its user a link.
func (r *request) urlElicitation() bool {
	return isObject(child(child(r.capabilities, "elicitation"), "url"))
}

// child is a member of an object; nil when there is none.
func child(object json.RawMessage, name string) json.RawMessage {
	if !isObject(object) {
		return nil
	}
	list, err := members(object, nil)
	if err != nil {
		return nil
	}
	for _, m := range list {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

func oldest(supported []string) string { return supported[len(supported)-1] }

// negotiate answers initialize: the revision asked for, or the newest that
// still has initialize.
func negotiate(supported []string, asked string) (string, bool) {
	if asked < revision2026July && slices.Contains(supported, asked) {
		return asked, true
	}
	for _, r := range supported {
		if r < revision2026July {
			return r, true
		}
	}
	return "", false
}

func mismatch(what string) *problem {
	return &problem{code: codeHeaderMismatch, message: "Header mismatch: " + what + ".", status: 400}
}

func unsupported(supported []string, requested string) *problem {
	data := append([]byte(`{"supported":`), appendTexts(nil, supported)...)
	data = append(appendText(append(data, `,"requested":`...), requested), '}')
	return &problem{code: codeVersion, message: "Unsupported protocol version; this gateway supports " + strings.Join(supported, ", ") + ".", data: data, status: 400}
}

// unsupportedLegacy names the versions also to clients that have no way
// forward: it may be all that their users get to see.
func unsupportedLegacy(supported []string, r *request) *problem {
	if r.method == "initialize" {
		asked, _ := text(r.ask)
		return unsupported(supported, asked)
	}
	return mismatch("the " + display(headerVersion) + " header is missing; this gateway supports " + strings.Join(supported, ", ") + " only")
}

// display spells the version header as the specification does.
func display(header string) string { return strings.Replace(header, "Mcp-Protocol", "MCP-Protocol", 1) }

func appendTexts(out []byte, list []string) []byte {
	out = append(out, '[')
	for i, s := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendText(out, s)
	}
	return append(out, ']')
}
