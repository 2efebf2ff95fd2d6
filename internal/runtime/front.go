package runtime

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Headers of the data plane.
const (
	headerSession = "X-Amzn-Bedrock-Agentcore-Runtime-Session-Id"
	headerUser    = "X-Amzn-Bedrock-Agentcore-Runtime-User-Id"
	headerRequest = "X-Amzn-Bedrock-Agentcore-Runtime-Request-Id"
)

// What comes after /runtimes/{agentRuntimeArn}.
const (
	pathInvocations = "/invocations"
	pathCommands    = "/commands"
	pathStop        = "/stopruntimesession"
	pathCard        = "/invocations/.well-known/agent-card.json"
	pathMetadata    = "/invocations/.well-known/oauth-protected-resource"
	pathSocket      = "/ws"
)

// Serves reports whether a path is of the data plane; the control plane's begin
// with /runtimes/ as well.
func Serves(escapedPath string) bool {
	_, rest, ok := split(escapedPath)
	if !ok {
		return false
	}
	switch rest {
	case pathInvocations, pathCommands, pathStop, pathCard, pathMetadata, pathSocket:
		return true
	}
	return false
}

// Front serves the data plane.
func (s *Service) Front() http.Handler { return http.HandlerFunc(s.serve) }

// split takes a path apart: the runtime's ARN or id, still escaped, is one segment.
func split(escapedPath string) (runtime, rest string, ok bool) {
	after, ok := strings.CutPrefix(escapedPath, "/runtimes/")
	if !ok {
		return "", "", false
	}
	runtime, rest, ok = strings.Cut(after, "/")
	return runtime, "/" + rest, ok && runtime != ""
}

// served is a runtime as a call finds it: by ARN or id, and qualifier.
type served struct {
	runtime    *runtimeRow
	arn        string
	endpoint   string
	version    *versionRow
	authorizer *auth.Authorizer // nil: signed requests
}

// target finds what a call names. A bare id needs accountId beside it; both are
// looked for before anybody is authenticated, since how to authenticate is the runtime's setting.
func (s *Service) target(ctx context.Context, r *http.Request) (*served, error) {
	segment, _, _ := split(r.URL.EscapedPath())
	named, err := url.PathUnescape(segment)
	if err != nil {
		return nil, fault.InvalidField("agentRuntimeArn", "The path names no agent runtime.")
	}
	query := r.URL.Query()
	account, id := query.Get("accountId"), named
	if strings.HasPrefix(named, "arn:") {
		parsed, err := api.ParseARN(named)
		if err != nil {
			return nil, fault.InvalidField("agentRuntimeArn", "%s", fault.Of(err).Message)
		}
		account, id = parsed.Account, parsed.Name()
		if s.arn(account, id) != named {
			return nil, noRuntime(named)
		}
	} else if account == "" {
		return nil, fault.InvalidField("accountId", "The id of an agent runtime needs accountId beside it; its ARN does not.")
	}
	qualifier := query.Get("qualifier")
	if qualifier == "" {
		qualifier = DefaultEndpoint
	}
	at := &served{endpoint: qualifier, arn: s.arn(account, id)}
	err = s.db.View(ctx, func(tx *store.Tx) error {
		if at.runtime, err = findRuntime(tx, account, id); err != nil {
			return err
		}
		e, err := findEndpoint(tx, account, id, qualifier)
		if err != nil {
			return err
		}
		at.version, err = s.findVersion(tx, account, id, e.version)
		return err
	})
	if err != nil {
		return nil, err
	}
	at.authorizer, err = checkSettings(&at.version.settings)
	return at, err
}

// bearer reports whether a request presents a token instead of a signature.
func bearer(r *http.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer")
}

// asUser adds the person acted for to a signed caller, and says which action that needs.
func asUser(caller principal.Caller, r *http.Request, action string) (principal.Caller, string, error) {
	user := r.Header.Get(headerUser)
	if user == "" {
		return caller, action, nil
	}
	if len(user) > 128 || strings.ContainsRune(user, 0) {
		return caller, action, fault.InvalidField("runtimeUserId", "A user id has 1 to 128 characters.")
	}
	caller.User = principal.User{ID: user}
	return caller, actionInvokeForUser, nil
}

const (
	actionInvoke        = "bedrock-agentcore:InvokeAgentRuntime"
	actionInvokeForUser = "bedrock-agentcore:InvokeAgentRuntimeForUser"
)

// sessionID is the caller's, or a new one.
func sessionID(r *http.Request) (string, error) {
	id := r.Header.Get(headerSession)
	if id == "" {
		return newSessionID(), nil
	}
	if len(id) < 33 || len(id) > 256 {
		return "", fault.InvalidField("runtimeSessionId", "Value at 'runtimeSessionId' failed to satisfy constraint: Member must have length greater than or equal to 33 and less than or equal to 256")
	}
	for i := range len(id) {
		if c := id[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || i > 0 && (c == '-' || c == '_')) {
			return "", fault.InvalidField("runtimeSessionId", "A session id has letters, digits, hyphens and underscores, and begins with a letter or digit.")
		}
	}
	return id, nil
}
