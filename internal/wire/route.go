package wire

import (
	"context"
	"net/http"
	"net/url"
	"reflect"
	"slices"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// Route is an operation with the method that does it. It can be made only with
// a scope: there is no unguarded operation.
type Route struct {
	op    *api.Info
	serve func(*call) error
}

// call is one request on its way through the door.
type call struct {
	*handler
	op     *api.Info
	w      http.ResponseWriter
	r      *http.Request
	caller principal.Caller
	body   []byte
	labels labels
}

// Handle makes the route of an operation: scope yields what the gate has to
// check, fn does it.
func Handle[Req, Resp any](op api.Operation[Req, Resp], scope gate.Scope[Req], fn func(context.Context, principal.Caller, *Req) (*Resp, error)) Route {
	if scope == nil || fn == nil {
		panic("wire: a route of " + op.Name + " without scope or method")
	}
	if _, fits := any(new(Req)).(api.Request); !fits {
		panic("wire: the request of " + op.Name + " is not a generated one")
	}
	action := op.Action()
	bodiless := op.Status == http.StatusNoContent || reflect.TypeFor[Resp]().NumField() == 0
	return Route{op: op.Info, serve: func(c *call) error {
		input := new(Req)
		if err := c.read(any(input).(api.Request)); err != nil {
			return err
		}
		if err := c.openPageToken(input); err != nil {
			return err
		}
		output, err := gate.Act(c.r.Context(), c.gate, c.caller, action, scope, input, fn)
		if err != nil {
			return err
		}
		if bodiless {
			c.w.WriteHeader(op.Status)
			return nil
		}
		if output == nil {
			return fault.New(fault.Internal, "An internal error occurred: %s gave no answer.", op.Name)
		}
		if err := c.sealPageToken(output); err != nil {
			return err
		}
		return c.write(output)
	}}
}

// read fills a request from the wire and checks its constraints. Members that
// are absent are named together with those that are wrong.
func (c *call) read(input api.Request) error {
	absent, err := api.Decode(c.body, input)
	if err != nil {
		return err
	}
	var query url.Values
	if c.r.URL.RawQuery != "" {
		if query, err = url.ParseQuery(c.r.URL.RawQuery); err != nil {
			return &fault.Error{Kind: fault.Invalid, Reason: fault.ReasonCannotParse, Message: "The query string could not be parsed."}
		}
	}
	if err := input.BindHTTP(c.labels.get, query, c.r.Header); err != nil {
		return err
	}
	fields := absent
	for _, field := range input.Validate() {
		if !slices.ContainsFunc(absent, func(a fault.Field) bool { return a.Name == field.Name }) {
			fields = append(fields, field)
		}
	}
	return api.Invalid(fields)
}
