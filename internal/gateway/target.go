package gateway

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// Target is one target as it is served: compiled, immutable, safe for
// concurrent use.
type Target interface {
	// Tools are the target's tools in the order in which they are listed, named
	// without the target's prefix.
	Tools() []Tool

	// Call calls one tool. What the target answers, a refusal included, is an
	// Answer; an error is a *fault.Error that says why there is no answer
	// (Upstream, Unavailable), or that the arguments do not fit (Invalid).
	Call(ctx context.Context, call Call) (*Answer, error)
}

// Kind makes the targets of one kind; each kind has a folder of its own.
type Kind struct {
	Type api.TargetType

	// Accepts reports whether a configuration is of this kind.
	Accepts func(*api.TargetConfiguration) bool

	// Compile checks a configuration and brings it into the form that is stored
	// beside it. A *fault.Error of kind Invalid or NotBuilt says where it fails.
	Compile func(*api.TargetConfiguration) (compiled []byte, err error)

	// Open makes a Target of what Compile made. ErrStale means that another
	// release compiled it: the gateway then compiles the configuration anew.
	Open func(compiled []byte) (Target, error)
}

// Tool is one tool as a target describes it.
type Tool struct {
	Name        string          // without the target's prefix
	Description string          // for the model; may be empty
	InputSchema json.RawMessage // a JSON Schema 2020-12 object
}

// Call is one call of a tool.
type Call struct {
	Tool       string      // as in Tool.Name
	Arguments  []Argument  // in the order of the request; names are unique
	Credential secret.Text // for the target; empty when it needs none
	Carrier    Carrier     // what carries it
	ForUser    bool        // it is the user's: the user may be able to mend what is wrong with it
}

// Carrier says where in a request a credential travels. The zero Carrier is a
// bearer token's: Authorization: Bearer. An argument never takes its place.
type Carrier struct {
	Header string // its name; or
	Query  string // that of a query parameter
	Prefix string // before the credential, with a space
}

// Argument is one member of a call's arguments object. Value is the JSON text
// as the client wrote it, so that large numbers and key order survive.
type Argument struct {
	Name  string
	Value json.RawMessage
}

// Answer is what a tool answered.
type Answer struct {
	Text    []byte // the text content; replaced where it is not valid UTF-8
	Object  []byte // the answer as JSON object text, where it is one; may alias Text
	IsError bool   // the tool, not the protocol, failed; Text says how
	Status  int    // HTTP status of the target, for the audit record; 0 without one
}

// ErrStale is what Kind.Open answers to a form that another release stored.
var ErrStale = errors.New("compiled by another release")
