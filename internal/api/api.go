// Package api holds what the wire carries: the request and response structs of
// every operation, their constraints, and the table of operations.
//
//	body, path, query, headers ─ Decode, BindHTTP ─▶ XRequest ─ Validate ─▶ room ─▶ XResponse ─ AppendJSON ─▶ body
//
// Nearly all of it is generated (see generate) from the service models in
// model, which have the format of botocore's: the public models of the two AWS
// services without their prose, our own operations, and an overlay of constraints
// that those models lack. By hand are ARNs, times, and the few functions that
// generated code calls.
//
// Members that AWS marks sensitive are secret.Text. Required scalars are plain;
// optional ones are pointers. Enums and times are plain in both cases: their
// zero value means absent.
//
// Invariant: a struct and its wire form say the same. What the model does not
// name is not written, and what is absent is left out, never null.
package api

//go:generate go run ./generate

// Info is what the models say about one operation.
type Info struct {
	Name        string
	Service     string   // control, data or onbehalf
	Method      string   // of HTTP
	Path        string   // with {labels}
	Status      int      // of a success
	ClientToken bool     // a repeated clientToken has to give the first result again
	ReadOnly    bool     // changes nothing
	Errors      []string // exceptions that the operation's clients know
}

// Action is the IAM action that allows the operation, "bedrock-agentcore:CreateGateway".
func (i *Info) Action() string {
	if i.Service == "onbehalf" {
		return "onbehalf:" + i.Name
	}
	return "bedrock-agentcore:" + i.Name
}

// Operation ties an operation to its request and response types, so that a
// route with the wrong handler does not compile.
type Operation[Req, Resp any] struct{ *Info }
