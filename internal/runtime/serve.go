package runtime

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// operation is what one path of the data plane does.
type operation struct {
	info   *api.Info
	method string
	action string
	limit  int64 // bytes of a body
	// begins says that a session is begun where none runs, and its id is minted
	// where the caller names none.
	begins   bool
	upgrades bool // it opens a websocket
	run      func(*Service, context.Context, *call) error
}

const actionPrefix = "bedrock-agentcore:"

// The actions that are asked for. ForUser comes beside the operation's own where
// a signed caller names the person whom it acts for.
const (
	actionInvoke  = actionPrefix + "InvokeAgentRuntime"
	actionForUser = actionPrefix + "InvokeAgentRuntimeForUser"
	actionCommand = actionPrefix + "InvokeAgentRuntimeCommand"
	actionStop    = actionPrefix + "StopRuntimeSession"
	actionCard    = actionPrefix + "GetAgentCard"
	actionSocket  = actionPrefix + "InvokeAgentRuntimeWithWebSocketStream"
	actionLogs    = "onbehalf:GetAgentRuntimeLogs"
)

// operations are the paths, by what comes after the runtime. It is filled at
// start because its functions look into it.
var operations map[string]*operation

func init() {
	invoke := &operation{info: api.InvokeAgentRuntime.Info, method: http.MethodPost, action: actionInvoke, limit: maxPayload, begins: true, run: (*Service).invoke}
	operations = map[string]*operation{
		pathInvocations: invoke, pathRoot: invoke,
		pathCommands: {info: api.InvokeAgentRuntimeCommand.Info, method: http.MethodPost, action: actionCommand, limit: maxCommand, run: (*Service).command},
		pathStop:     {info: api.StopRuntimeSession.Info, method: http.MethodPost, action: actionStop, limit: 64 << 10, run: (*Service).stopSession},
		pathCard:     {info: api.GetAgentCard.Info, method: http.MethodGet, action: actionCard, begins: true, run: (*Service).card},
		pathSocket:   {info: api.InvokeAgentRuntime.Info, method: http.MethodGet, action: actionSocket, begins: true, upgrades: true, run: (*Service).socket},
	}
}

// call is one request of the data plane under way.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	op      *operation
	at      *served // nil until it is found
	caller  principal.Caller
	body    *auth.Body // nil until the caller is known
	session string     // runtimeSessionId
	query   url.Values // of a websocket, for the agent
	browser bool       // the token came as a subprotocol of a websocket
	begun   bool       // the answer's status has left
	counted bool       // Close waits for it: no server knows of a connection that was taken over
}

// serve is the data plane's door: what is called, who calls, may they, and then
// the operation, as one act.
func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	_, rest, _ := split(r.URL.EscapedPath())
	named, err := s.referenced(r.URL)
	if rest == pathMetadata {
		s.serveMetadata(w, r, named)
		return
	}
	c := &call{w: w, r: r, op: operations[rest]}
	if c.op.upgrades {
		c.browser = browserToken(r)
	}
	if err == nil {
		c.at, err = s.shelf.Find(r.Context(), named)
	}
	if c.at != nil && c.at.authorizer != nil {
		shareWithPages(w.Header())
	}
	if r.Method != c.op.method {
		if c.at != nil && c.at.authorizer != nil && r.Method == http.MethodOptions {
			preflight(w, c.op.method+", OPTIONS")
			return
		}
		notAllowed(w, c.op.method)
		return
	}
	defer func() { _ = c.body.Close() }()
	switch {
	case err == nil:
		err = s.perform(c)
	case fault.Is(err, fault.NotFound), fault.Is(err, fault.Invalid):
		err = s.missing(c, named, err)
	}
	if err != nil {
		s.refuse(c, err)
	}
}

// perform authenticates the caller and does the operation behind the gate.
func (s *Service) perform(c *call) error {
	var malformed error
	if !c.op.upgrades {
		malformed = c.nameSession() // first, so that its id is in every answer
	}
	if err := s.authenticate(c); err != nil {
		return err
	}
	if c.op.upgrades {
		c.query = adopt(c.r)
		malformed = c.nameSession()
	}
	if malformed != nil {
		return malformed
	}
	forUser, err := c.asUser()
	if err != nil {
		return err
	}
	at := c.at.runtime
	checks := s.checks(c.op.action, at.account, at.id, c.at.endpoint)
	if forUser {
		checks = append(checks, s.checks(actionForUser, at.account, at.id, c.at.endpoint)...)
	}
	defer func() {
		if c.counted {
			s.work.Done()
		}
	}()
	return s.gate.Do(c.r.Context(), c.caller, checks, func(ctx context.Context) error {
		gate.Detail(ctx, "endpoint", c.at.endpoint)
		gate.Detail(ctx, "version", c.at.number)
		if c.session != "" {
			gate.Detail(ctx, "session", c.session)
		}
		return c.op.run(s, ctx, c)
	})
}

// missing answers for a runtime or endpoint that is not there, or that nothing
// can be called: to who may call it, if it were. Others hear what they hear of
// those that are.
func (s *Service) missing(c *call, named reference, notFound error) error {
	if bearer(c.r) {
		return notFound // a token is good for one runtime, and here is none to ask
	}
	var caller principal.Caller
	var err error
	if c.op.upgrades {
		caller, err = s.gate.Upgrade(c.r)
	} else {
		caller, c.body, err = s.gate.Spooled(c.w, c.r, c.op.limit)
	}
	if err != nil {
		return err
	}
	if named == (reference{}) {
		return notFound // it cannot be the name of one
	}
	checks := s.checks(c.op.action, named.account, named.id, named.endpoint)
	return s.gate.Do(c.r.Context(), caller, checks, func(context.Context) error { return notFound })
}

// authenticate finds out who calls, and takes the body in: whole, so that the
// agent gets no byte that nobody has vouched for.
func (s *Service) authenticate(c *call) (err error) {
	const mismatch = "Authorization method mismatch. The agent is configured for a different authorization method than what was used in your request. " +
		"Check the agent's authorization configuration and ensure your request uses the matching method (OAuth or SigV4)"
	z := c.at.authorizer
	switch {
	case z == nil && bearer(c.r), z != nil && signed(c.r):
		return fault.New(fault.Denied, mismatch)
	case c.op.upgrades:
		err = s.authenticateSocket(c)
	case z == nil:
		c.caller, c.body, err = s.gate.Spooled(c.w, c.r, c.op.limit)
	default:
		c.caller, c.body, err = s.gate.SpooledBearer(c.r.Context(), c.w, c.r, c.op.limit, c.at.runtime.account, c.at.arn, *z)
	}
	switch {
	case z == nil || !fault.Is(err, fault.Unauthenticated):
		return err
	case !bearer(c.r):
		return fault.New(fault.Unauthenticated, "Missing Authentication Token").Because(err)
	case payload(c.r) == nil:
		return fault.New(fault.Denied, "OAuth authorization failed: Failed to parse token").Because(err)
	}
	return err
}

// bearer reports whether a request presents a token.
func bearer(r *http.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer")
}

// signed reports whether a request presents a signature.
func signed(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256") || strings.Contains(r.URL.RawQuery, "X-Amz-Signature=")
}

// maxUser is the longest id of a user that the model has.
const maxUser = 128

// checks are an action's, on the runtime and on the endpoint, as AWS asks: people
// grant both, and both may have a policy.
func (s *Service) checks(action, account, id, endpoint string) []gate.Check {
	arn := s.arn(account, id)
	return []gate.Check{{Action: action, Resource: arn}, {Action: action, Resource: s.endpointARN(account, id, endpoint)}}
}

// asUser adds the person acted for to a signed caller, and reports whether there
// is one: that needs a permission of its own. A token says itself who its user is.
func (c *call) asUser() (bool, error) {
	users, present := c.r.Header[headerUser]
	switch {
	case !present || len(users) == 1 && users[0] == "":
		return false, nil
	case c.at.authorizer != nil:
		return false, fault.InvalidField("runtimeUserId", "The user is the one that the bearer token names: leave %s out.", headerUser)
	case len(users) > 1 || len(users[0]) > maxUser || strings.ContainsFunc(users[0], func(r rune) bool { return r < ' ' || r == '\ufffd' }):
		return false, fault.InvalidField("runtimeUserId", "A user id has 1 to %d printable characters.", maxUser)
	}
	c.caller.User = principal.User{ID: users[0]}
	return true, nil
}

// mayReadLogs reports whether a caller is told what an agent printed.
func (s *Service) mayReadLogs(ctx context.Context, c *call) bool {
	return s.gate.May(ctx, c.caller, gate.Check{Action: actionLogs, Resource: c.at.arn}) == nil
}

// printed is what an agent printed last. As the cause of a fault it is for who may
// read the agent's logs; the fault's message is for every caller.
type printed string

// Error makes it a cause.
func (p printed) Error() string { return "the agent printed:" + string(p) }

// logged tells the log what the caller is not told. An agent's failure is its
// owner's to mend; what is ours is told by the renderer.
func logged(r *http.Request, message string, err error) {
	slog.Log(r.Context(), slog.LevelWarn, "runtime: "+message, "request_id", principal.RequestOf(r.Context()).ID, "error", err)
}
