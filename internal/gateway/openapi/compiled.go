package openapi

import "encoding/json"

// format is the version of the stored form. Raise it when a release compiles
// documents to something else: targets stored before are then compiled anew
// from their documents when they are first used.
const format = 1

// compiled is a document in the form that is stored and served: only what a
// call needs, every default applied, every name decided.
type compiled struct {
	Format     int         `json:"format"`
	Server     string      `json:"server"` // https://host/base, without a trailing slash
	Operations []operation `json:"operations"`
}

type operation struct {
	Name        string          `json:"name"` // operationId
	Description string          `json:"description,omitempty"`
	Method      string          `json:"method"`
	Path        []segment       `json:"path"`
	Query       string          `json:"query,omitempty"` // fixed part, encoded
	Arguments   []argument      `json:"arguments,omitempty"`
	Body        *body           `json:"body,omitempty"`
	Schema      json.RawMessage `json:"schema"`

	byName map[string]int // argument's name to its place in Arguments
}

// segment is what stands between two slashes of the path.
type segment []piece

// piece is encoded text, or an argument by its place in operation.Arguments.
type piece struct {
	Text     string `json:"text,omitempty"`
	Argument *int   `json:"argument,omitempty"`
}

// place is where an argument goes.
type place string

const (
	inPath   place = "path"
	inQuery  place = "query"
	inHeader place = "header"
	inBody   place = "body"  // one property of the body
	asBody   place = "whole" // the body itself
)

// argument is one member of the flat arguments object.
type argument struct {
	Name     string          `json:"name"` // as the client sends it
	Wire     string          `json:"wire"` // as the target knows it
	Place    place           `json:"place"`
	Required bool            `json:"required,omitempty"` // of a body property: when there is a body
	Type     string          `json:"type,omitempty"`     // JSON type; empty when any will do
	Explode  bool            `json:"explode,omitempty"`  // an array in the query: a=1&a=2, not a=1,2
	JSON     bool            `json:"json,omitempty"`     // a parameter that carries JSON text
	Default  json.RawMessage `json:"default,omitempty"`  // sent when a required parameter is not given
}

type body struct {
	Media    string `json:"media"`
	Required bool   `json:"required,omitempty"` // sent even when no argument is for it
	Open     bool   `json:"open,omitempty"`     // arguments without a place of their own go here
}

const (
	mediaJSON = "application/json"
	mediaForm = "application/x-www-form-urlencoded"
)

func (o *operation) index() {
	o.byName = make(map[string]int, len(o.Arguments))
	for i, a := range o.Arguments {
		o.byName[a.Name] = i
	}
}
