// Package wire is the door of the AWS SDKs: it speaks REST-JSON.
//
//	request ─ match (raw path) ─▶ gate.Signed ─▶ bind, decode, validate ─▶ open page token ─▶ gate.Act ─▶ room
//	reply   ◀─ AppendJSON, or errors.go: fault ─▶ AWS exception ◀─ seal page token ◀─────────────────────┘
//
// Every operation of the models answers. One without a route is signed for
// and then says that it is not built yet; a path that no model has is unknown.
//
// Invariant: no room sees a request that was not signed, bound, decoded and
// found to keep every constraint of its model, and no act happens but through
// the gate. Only a fault's Message leaves the house; its cause goes to the log.
package wire

import (
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
)

// Options of the door. The zero value is good.
type Options struct {
	Region    string // of the server; no operation needs it so far
	BodyLimit int64  // bytes of a request body, for operations that need no more; 0 is 1 MiB
}

// defaultBodyLimit leaves room for what the models allow most operations: two
// tokens of 128 KiB each, and lists around them.
const defaultBodyLimit = 1 << 20

// bodyLimits are the operations whose model allows more. An inline schema may
// have 1 MB, which JSON escaping makes up to six times as long (each control
// character becomes \u00XX); a batch has up to 50 limits with 1000 entries each.
var bodyLimits = map[string]int64{
	api.CreateGatewayTarget.Name:       6<<20 + defaultBodyLimit,
	api.UpdateGatewayTarget.Name:       6<<20 + defaultBodyLimit,
	api.BatchPutGatewayRateLimits.Name: 6<<20 + defaultBodyLimit,
}

// handler is the door.
type handler struct {
	gate   *gate.Gate
	keeper *seal.Keeper
	router *router
	limit  int64
}

// New makes the door. Two routes for one operation are a mistake of ours, found at start.
func New(g *gate.Gate, k *seal.Keeper, o Options, routes []Route) http.Handler {
	if o.BodyLimit <= 0 {
		o.BodyLimit = defaultBodyLimit
	}
	built := map[string]Route{}
	for _, route := range routes {
		if _, twice := built[route.op.Name]; twice {
			panic("wire: two routes for " + route.op.Name)
		}
		built[route.op.Name] = route
	}
	h := &handler{gate: g, keeper: k, router: newRouter(), limit: o.BodyLimit}
	for _, op := range api.Operations {
		route, found := built[op.Name]
		if !found {
			route = Route{op: op, serve: notBuilt}
		}
		delete(built, op.Name)
		h.router.add(route)
	}
	for name := range built {
		panic("wire: a route for " + name + ", which is no operation of the models")
	}
	return h
}

// ServeHTTP answers one request, whatever happens inside.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", principal.RequestOf(r.Context()).ID)
	reply := &reply{ResponseWriter: w}
	defer reply.mend(r)
	route, labels, known := h.router.match(r.Method, r.URL.EscapedPath())
	if !known {
		writeUnknownOperation(reply, r)
		return
	}
	if err := h.answer(reply, r, route, labels); err != nil {
		writeError(reply, r, route.op, err)
	}
}

func (h *handler) answer(w http.ResponseWriter, r *http.Request, route Route, labels labels) error {
	caller, body, err := h.gate.Signed(w, r, h.bodyLimit(route.op))
	if err != nil {
		return err
	}
	defer clear(body) // it may hold secrets, and what was decoded from it is copied
	return route.serve(&call{handler: h, op: route.op, w: w, r: r, caller: caller, body: body, labels: labels})
}

func (h *handler) bodyLimit(op *api.Info) int64 {
	if limit := bodyLimits[op.Name]; limit > h.limit {
		return limit
	}
	return h.limit
}

func notBuilt(c *call) error {
	return fault.New(fault.NotBuilt, "%s is part of the API, but this server does not have it yet.", c.op.Name)
}

// reply remembers whether anything went out, so that a failure after that ends
// the connection instead of mixing two replies.
type reply struct {
	http.ResponseWriter
	begun bool
}

// WriteHeader sends the status.
func (w *reply) WriteHeader(status int) {
	w.begun = true
	w.ResponseWriter.WriteHeader(status)
}

// Write sends a part of the body.
func (w *reply) Write(p []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *reply) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// mend turns a panic into a 500 and a log line: one request's bug is not another's.
func (w *reply) mend(r *http.Request) {
	problem := recover()
	if problem == nil {
		return
	}
	if problem == http.ErrAbortHandler {
		panic(problem)
	}
	slog.ErrorContext(r.Context(), "a handler panicked", "request_id", principal.RequestOf(r.Context()).ID,
		"method", r.Method, "path", r.URL.EscapedPath(), "panic", problem, "stack", string(debug.Stack()))
	if w.begun {
		panic(http.ErrAbortHandler)
	}
	WriteError(w, r, fault.New(fault.Internal, "An internal error occurred. The server's log has the cause under this request's id."))
}
