// Package openapi makes the operations of an OpenAPI document into tools: the
// first kind of gateway target.
//
//	document ─ load ─▶ operations ─ place, schema ─▶ compiled form (stored)
//	arguments ─ request ─▶ one HTTP request ─ egress ─▶ target ─ answer ─▶ text
//
// An operation's parameters and the properties of its JSON body become one flat
// arguments object; docs/design/2026-11-22-openapi-arguments.md says where each
// argument goes and what happens when two want the same name.
//
// Invariant: an argument fills the place it was given and nothing else. It
// cannot change the host, the path's structure, another parameter or a header's
// framing; what it carries is the JSON text of the client, not a re-encoding.
package openapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gateway"
)

// New makes the kind. Servers of documents are judged by the egress client when
// the target is stored, and reached through it when a tool is called.
func New(e *egress.Client) gateway.Kind {
	return gateway.Kind{
		Type: api.TargetTypeOpenApiSchema,
		Accepts: func(c *api.TargetConfiguration) bool {
			return c != nil && c.Mcp != nil && c.Mcp.OpenApiSchema != nil
		},
		Compile: func(c *api.TargetConfiguration) ([]byte, error) {
			schema := c.Mcp.OpenApiSchema
			if schema.InlinePayload == nil {
				return nil, fault.New(fault.NotBuilt, "OpenAPI documents in S3 are not built yet; give the document as targetConfiguration.mcp.openApiSchema.inlinePayload.")
			}
			form, err := compile(schema.InlinePayload.Reveal(), e.CheckURL)
			if err != nil {
				return nil, err
			}
			encoded, err := json.Marshal(form)
			return encoded, fault.Wrap(err, "encoding the compiled document")
		},
		Open: func(compiled []byte) (gateway.Target, error) { return open(compiled, e.Relay()) },
	}
}

// target is a compiled document, ready to be called.
type target struct {
	client     *http.Client
	server     string
	tools      []gateway.Tool
	operations map[string]*operation
}

func open(encoded []byte, client *http.Client) (gateway.Target, error) {
	var form compiled
	if err := json.Unmarshal(encoded, &form); err != nil {
		return nil, fault.Wrap(err, "reading a compiled document")
	}
	if form.Format != format {
		return nil, gateway.ErrStale
	}
	t := &target{client: client, server: form.Server, operations: make(map[string]*operation, len(form.Operations))}
	for i := range form.Operations {
		o := &form.Operations[i]
		o.index()
		t.operations[o.Name] = o
		t.tools = append(t.tools, gateway.Tool{Name: o.Name, Description: o.Description, InputSchema: o.Schema})
	}
	return t, nil
}

// Tools are the document's operations, by path and method.
func (t *target) Tools() []gateway.Tool { return t.tools }

// Call makes the one request that the arguments describe.
func (t *target) Call(ctx context.Context, call gateway.Call) (*gateway.Answer, error) {
	o, ok := t.operations[call.Tool]
	if !ok {
		return nil, fault.New(fault.NotFound, "The target has no tool %q.", call.Tool)
	}
	request, err := o.request(ctx, t.server, call.Arguments)
	if err != nil {
		return nil, err
	}
	if err := carry(request, call); err != nil {
		return nil, err
	}
	response, err := t.client.Do(request)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	return answer(response, call)
}

// carry puts the call's credential into its request. What an argument has put
// there already is no argument's to say.
func carry(request *http.Request, call gateway.Call) error {
	if call.Credential.Empty() {
		return nil
	}
	c, value := call.Carrier, call.Credential.Reveal()
	if c == (gateway.Carrier{}) {
		c = gateway.Carrier{Header: "Authorization", Prefix: "Bearer"}
	}
	if c.Prefix != "" {
		value = c.Prefix + " " + value
	}
	if c.Query != "" {
		if request.URL.Query().Has(c.Query) {
			return mistake("The query parameter %q carries the gateway's own key: leave it out.", c.Query)
		}
		pair := url.QueryEscape(c.Query) + "=" + url.QueryEscape(value)
		if request.URL.RawQuery != "" {
			pair = request.URL.RawQuery + "&" + pair
		}
		request.URL.RawQuery = pair
		return nil
	}
	if _, taken := request.Header[http.CanonicalHeaderKey(c.Header)]; taken {
		return mistake("The header %q carries the gateway's own key: leave it out.", c.Header)
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return fault.New(fault.Upstream, "The key of this target's provider cannot travel in a header: it is not one line of text.")
	}
	request.Header[http.CanonicalHeaderKey(c.Header)] = []string{value}
	return nil
}
