package runtime

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
)

// What comes after /runtimes/{agentRuntimeArn}.
const (
	pathInvocations = "/invocations"
	pathRoot        = "/invocations/" // the same, as A2A clients write it who take it for a base
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
	return ok && (operations[rest] != nil || rest == pathMetadata)
}

// Front serves the data plane.
func (s *Service) Front() http.Handler { return http.HandlerFunc(s.serve) }

// split takes a path apart: the runtime's ARN or id, still escaped, is one segment.
func split(escapedPath string) (segment, rest string, ok bool) {
	after, ok := strings.CutPrefix(escapedPath, "/runtimes/")
	if !ok {
		return "", "", false
	}
	slash := strings.IndexByte(after, '/')
	if slash <= 0 {
		return "", "", false
	}
	return after[:slash], after[slash:], true
}

// reference is what a call names: a runtime of an account, and one of its endpoints.
type reference struct{ account, id, endpoint string }

// referenced reads a call's URL. An ARN says whose the runtime is; a bare id
// needs accountId beside it. The qualifier is an endpoint's name or ARN.
func (s *Service) referenced(u *url.URL) (reference, error) {
	segment, _, _ := split(u.EscapedPath())
	named, err := url.PathUnescape(segment)
	if err != nil {
		return reference{}, fault.InvalidField("agentRuntimeArn", "The path names no agent runtime.")
	}
	account, qualifier := "", ""
	if u.RawQuery != "" {
		query := u.Query()
		account, qualifier = query.Get("accountId"), query.Get("qualifier")
	}
	at := reference{account: account, id: named, endpoint: DefaultEndpoint}
	switch {
	case strings.HasPrefix(named, "arn:"):
		parsed, err := api.ParseARN(named)
		if err != nil {
			return reference{}, fault.InvalidField("agentRuntimeArn", "%s", fault.Of(err).Message)
		}
		at.account, at.id = parsed.Account, parsed.Name()
		if account != "" && account != at.account {
			return reference{}, fault.InvalidField("accountId", "The account %s is not the one that the ARN names.", account)
		}
		if s.arn(at.account, at.id) != named {
			return reference{}, noRuntime(named)
		}
	case account == "":
		return reference{}, fault.InvalidField("accountId", "The id of an agent runtime needs accountId beside it; its ARN does not.")
	case !isAccount(account):
		return reference{}, fault.InvalidField("accountId", "An account has 12 digits.")
	}
	if !plainName(at.id, 128) {
		return reference{}, noRuntime(named)
	}
	if qualifier != "" {
		at.endpoint = strings.TrimPrefix(qualifier, s.endpointARN(at.account, at.id, ""))
		if !plainName(at.endpoint, 64) {
			return reference{}, noEndpoint(at.id, at.endpoint)
		}
	}
	return at, nil
}

func isAccount(text string) bool {
	return len(text) == 12 && strings.Trim(text, "0123456789") == ""
}

// plainName is what ids and endpoints' names are made of: it goes into messages and ARNs.
func plainName(text string, longest int) bool {
	for i := range len(text) {
		if c := text[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return text != "" && len(text) <= longest
}
