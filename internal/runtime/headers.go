package runtime

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// Headers of the data plane, as net/http spells them.
const (
	headerSession  = "X-Amzn-Bedrock-Agentcore-Runtime-Session-Id"
	headerUser     = "X-Amzn-Bedrock-Agentcore-Runtime-User-Id"
	headerRequest  = "X-Amzn-Bedrock-Agentcore-Runtime-Request-Id"
	headerToken    = "X-Amz-Bedrock-Agentcore-Identity-Wat" // what SDKs of 2026 read
	headerOldToken = "Workloadaccesstoken"                  // what all others read
	headerCallback = "Oauth2callbackurl"
	headerMCP      = "Mcp-Session-Id"
	headerEncoding = "Content-Encoding"
	headerType     = "Content-Type"
)

// ours are the headers that say to an agent who asks and for whom. What callers
// send under these names goes no further, whatever an allow-list says.
var ours = set(headerSession, headerUser, headerRequest, headerToken, headerOldToken, headerCallback)

// What goes through whoever calls: what a body is, the protocols' own headers,
// and traces. Content-Encoding is of them because bodies are passed on as they are.
var (
	passedIn = []string{headerType, headerEncoding, "Accept", headerMCP, "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name",
		"X-Amzn-Trace-Id", "Traceparent", "Tracestate", "Baggage"}
	passedOut = []string{headerType, headerEncoding, headerMCP, "Mcp-Protocol-Version", "X-Amzn-Trace-Id", "Traceparent", "Tracestate", "Baggage"}
)

// forwardedOf is the allow-list of a runtime's settings.
func forwardedOf(settings *api.UpdateAgentRuntimeRequest) (names []string) {
	if settings.RequestHeaderConfiguration == nil {
		return nil
	}
	for _, name := range settings.RequestHeaderConfiguration.RequestHeaderAllowlist {
		if read := asRead(name); !ours[read] && !restricted[read] {
			names = append(names, http.CanonicalHeaderKey(name))
		}
	}
	return names
}

// incoming are the caller's headers that go on to the agent.
func incoming(forwarded []string, from http.Header) (http.Header, error) {
	out := make(http.Header, 12)
	for _, name := range passedIn {
		if values := from[name]; len(values) > 0 {
			out[name] = values
		}
	}
	for _, name := range forwarded {
		values := from[name]
		for _, value := range values {
			if len(value) > longestHeader && name != "Authorization" {
				return nil, fault.InvalidField(name, "The header %s is longer than %d bytes.", name, longestHeader)
			}
		}
		if len(values) > 0 {
			out[name] = values
		}
	}
	if _, said := from["User-Agent"]; !said || out["User-Agent"] == nil {
		out["User-Agent"] = nothing // else net/http sends its own
	}
	return out, nil
}

var nothing = []string{""}

// nameSession reads the session's id, or mints one, and puts it into the answer,
// whatever that becomes.
func (c *call) nameSession() error {
	id, present := c.r.Header[headerSession]
	switch {
	case len(id) > 1:
		return fault.InvalidField("runtimeSessionId", "The request names more than one session.")
	case present && id[0] != "":
		if err := checkSession(id[0]); err != nil {
			return err
		}
		c.useSession(id[0])
	case c.op.begins:
		c.useSession(api.NewUUID())
	}
	return nil
}

func (c *call) useSession(id string) {
	c.session = id
	c.w.Header()[headerSession] = []string{id}
}

// checkSession is AWS's constraint, in its words.
func checkSession(id string) error {
	const failed = "Value at 'runtimeSessionId' failed to satisfy constraint: Member must "
	switch {
	case len(id) < 33:
		return fault.InvalidField("runtimeSessionId", failed+"have length greater than or equal to 33")
	case len(id) > 256:
		return fault.InvalidField("runtimeSessionId", failed+"have length less than or equal to 256")
	case !plainName(id, 256) || id[0] == '-' || id[0] == '_':
		return fault.InvalidField("runtimeSessionId", failed+"satisfy regular expression pattern: [a-zA-Z0-9][a-zA-Z0-9-_]*")
	}
	return nil
}

// payload is what a bearer token says, unverified; nil for what is no JWT.
func payload(r *http.Request) []byte {
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	parts := strings.Split(strings.TrimSpace(token), ".")
	if len(parts) != 3 {
		return nil
	}
	for i, part := range parts[:2] {
		decoded, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || !json.Valid(decoded) {
			return nil
		}
		if i == 1 {
			return decoded
		}
	}
	return nil
}

// holder is the caller as sessions know it. A verified token that names no person
// is a program's: its sessions are told apart by which, so that no two programs share one.
func (c *call) holder() principal.Caller {
	caller := c.caller
	if caller.Kind != principal.Bearer || !caller.User.IsZero() {
		return caller
	}
	var claims struct {
		Issuer   string `json:"iss"`
		Subject  string `json:"sub"`
		Client   string `json:"client_id"`
		Presents string `json:"azp"`
	}
	_ = json.Unmarshal(payload(c.r), &claims) // what cannot be read was refused before
	caller.ARN = "client:" + claims.Issuer + "#" + claims.Client + "#" + claims.Presents + "#" + claims.Subject
	return caller
}
