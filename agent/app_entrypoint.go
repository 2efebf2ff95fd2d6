package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"unicode/utf8"
)

// entrypoint is a function of any of the shapes that Entrypoint takes.
type entrypoint struct {
	fn      reflect.Value
	context bool         // whether it takes one
	payload reflect.Type // nil where it takes none
	value   bool         // whether it returns something besides an error
	err     bool
}

var (
	typeContext = reflect.TypeFor[context.Context]()
	typeError   = reflect.TypeFor[error]()
	typeReader  = reflect.TypeFor[io.Reader]()
	typeRequest = reflect.TypeFor[*http.Request]()
)

// Entrypoint sets the function that answers POST /invocations:
//
//	func(ctx context.Context, payload In) (Out, error)
//
// Context, payload, result and error may each be left out. In is what the JSON of
// the payload is decoded into; []byte and io.Reader get it as it came, and
// *http.Request the whole request. Out is
//
//   - any value: its JSON
//   - json.RawMessage: as it is
//   - iter.Seq, iter.Seq2 with an error, or a channel: server-sent events, one for
//     each element, sent when it comes
//   - [Reply], or an http.Handler: the answer as you make it
//
// An error is answered with status 500 and its text; with the status of an
// [HTTPError] where it wraps one. A panic is answered in the same way, and the
// agent goes on. The stack goes to the log.
//
// Entrypoint panics where fn is no such function.
func (a *App) Entrypoint(fn any) *App {
	entry, err := entrypointOf(fn)
	if err != nil {
		panic("agent: Entrypoint: " + err.Error())
	}
	a.entry = entry
	return a
}

func entrypointOf(fn any) (*entrypoint, error) {
	v := reflect.ValueOf(fn)
	if v.Kind() != reflect.Func || v.IsNil() {
		return nil, fmt.Errorf("%T is no function", fn)
	}
	t, e := v.Type(), &entrypoint{fn: v}
	if t.IsVariadic() {
		return nil, fmt.Errorf("%v is variadic", t)
	}
	in := 0
	if in < t.NumIn() && t.In(in) == typeContext {
		e.context = true
		in++
	}
	if in < t.NumIn() {
		e.payload = t.In(in)
		in++
	}
	if in < t.NumIn() {
		return nil, fmt.Errorf("%v takes more than a context and a payload", t)
	}
	out := 0
	if out < t.NumOut() && t.Out(out) != typeError {
		e.value = true
		out++
	}
	if out < t.NumOut() && t.Out(out) == typeError {
		e.err = true
		out++
	}
	if out < t.NumOut() {
		return nil, fmt.Errorf("%v returns more than a result and an error", t)
	}
	return e, nil
}

// badPayload is a request that cannot be handed to the function.
type badPayload struct {
	status      int
	text, cause string
}

func (e *badPayload) Error() string { return e.text }

// argument makes the function's payload of the request's body.
func (e *entrypoint) argument(r *http.Request) (reflect.Value, error) {
	switch e.payload {
	case typeReader:
		return reflect.ValueOf(r.Body), nil
	case typeRequest:
		return reflect.ValueOf(r), nil
	}
	body, err := io.ReadAll(r.Body)
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return reflect.Value{}, &badPayload{http.StatusRequestEntityTooLarge, "The payload is too large", fmt.Sprintf("more than %d bytes", long.Limit)}
	case err != nil:
		return reflect.Value{}, &badPayload{http.StatusBadRequest, "The payload did not arrive", err.Error()}
	}
	if e.payload.Kind() == reflect.Slice && e.payload.Elem().Kind() == reflect.Uint8 && e.payload != reflect.TypeFor[json.RawMessage]() {
		return reflect.ValueOf(body).Convert(e.payload), nil
	}
	if !utf8.Valid(body) { // encoding/json would put other characters in the place of those
		return reflect.Value{}, &badPayload{http.StatusBadRequest, "Invalid encoding", "the payload is not UTF-8"}
	}
	into := reflect.New(e.payload)
	if err := json.Unmarshal(body, into.Interface()); err != nil {
		return reflect.Value{}, &badPayload{http.StatusBadRequest, "Invalid JSON", err.Error()}
	}
	return into.Elem(), nil
}

// call runs the function; the result is invalid where it returns none.
func (e *entrypoint) call(ctx context.Context, r *http.Request) (result reflect.Value, err error) {
	var in []reflect.Value
	if e.context {
		in = append(in, reflect.ValueOf(ctx))
	}
	if e.payload != nil {
		payload, err := e.argument(r.WithContext(ctx))
		if err != nil {
			return reflect.Value{}, err
		}
		in = append(in, payload)
	}
	err = contained(func() error {
		out := e.fn.Call(in)
		if e.value {
			result = out[0]
		}
		if e.err && !out[len(out)-1].IsNil() {
			return out[len(out)-1].Interface().(error)
		}
		return nil
	})
	return result, err
}
