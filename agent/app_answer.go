package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"runtime/debug"
)

const (
	contentJSON   = "application/json"
	contentEvents = "text/event-stream"
	contentBytes  = "application/octet-stream"
)

// Reply is an answer in full, for what is no JSON. Status 0 is 200. Body is sent
// as it is read, and closed where it is an io.Closer.
type Reply struct {
	Status      int
	ContentType string // "" is application/octet-stream
	Body        io.Reader
}

// HTTPError is an error with a status of its own, for what the caller did wrong.
// The message is told to the caller; a hosting runtime may replace it.
type HTTPError struct {
	Status  int
	Message string
}

func (e *HTTPError) Error() string { return e.Message }

// PanicError is what became of a panic of the agent's function.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// contained turns a panic of the agent's function into an error.
func contained(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if known, ok := p.(error); ok && errors.Is(known, http.ErrAbortHandler) {
				panic(p) // the agent wants the connection cut
			}
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	return fn()
}

// invoke answers POST /invocations.
func (a *App) invoke(w http.ResponseWriter, r *http.Request) {
	ctx := callContext(r)
	r.Body = http.MaxBytesReader(w, r.Body, a.MaxPayload)
	if a.entry == nil {
		a.fail(ctx, w, errors.New("No entrypoint defined")) //lint:ignore ST1005 the other SDKs' words
		return
	}
	result, err := a.entry.call(ctx, r)
	if err != nil {
		a.fail(ctx, w, err)
		return
	}
	a.answer(ctx, w, r, result)
}

// fail answers an error before anything was sent.
func (a *App) fail(ctx context.Context, w http.ResponseWriter, err error) {
	var refused *HTTPError
	var bad *badPayload
	status, told := http.StatusInternalServerError, map[string]string{"error": err.Error()}
	switch {
	case errors.As(err, &bad):
		status, told["details"] = bad.status, bad.cause
	case errors.As(err, &refused) && refused.Status >= 400 && refused.Status < 600:
		status = refused.Status
	}
	if status >= 500 {
		a.failed(ctx, "The invocation failed.", err)
	} else {
		a.log.WarnContext(ctx, "The invocation was refused.", "status", status, "errorMessage", err.Error())
	}
	w.Header().Set("Content-Type", contentJSON)
	w.WriteHeader(status)
	_ = encoder(w).Encode(told)
}

// answer sends what the function returned.
func (a *App) answer(ctx context.Context, w http.ResponseWriter, r *http.Request, result reflect.Value) {
	if !result.IsValid() {
		result = reflect.ValueOf((*any)(nil)) // null
	}
	if result.Kind() == reflect.Interface && !result.IsNil() {
		result = result.Elem() // what the any, or the error-less interface, holds
	}
	if events := eventsOf(ctx, result); events != nil {
		a.stream(ctx, w, events)
		return
	}
	switch v := result.Interface().(type) {
	case Reply:
		a.reply(ctx, w, v)
	case http.Handler:
		if err := contained(func() error { v.ServeHTTP(w, r.WithContext(ctx)); return nil }); err != nil {
			a.fail(ctx, w, err)
		}
	default:
		var body bytes.Buffer
		if err := encoder(&body).Encode(v); err != nil {
			a.fail(ctx, w, fmt.Errorf("the result has no JSON: %w", err))
			return
		}
		w.Header().Set("Content-Type", contentJSON)
		_, _ = w.Write(bytes.TrimSuffix(body.Bytes(), []byte("\n")))
	}
}

func (a *App) reply(ctx context.Context, w http.ResponseWriter, reply Reply) {
	if closer, ok := reply.Body.(io.Closer); ok {
		defer closer.Close()
	}
	if reply.ContentType == "" {
		reply.ContentType = contentBytes
	}
	w.Header().Set("Content-Type", reply.ContentType)
	if reply.Status != 0 {
		w.WriteHeader(reply.Status)
	}
	if reply.Body == nil {
		return
	}
	if _, err := io.Copy(flushing{w, http.NewResponseController(w)}, reply.Body); err != nil {
		a.failed(ctx, "The answer broke off.", err)
		panic(http.ErrAbortHandler) // the caller must not take the half for the whole
	}
}

// flushing sends each write on at once.
type flushing struct {
	w       io.Writer
	control *http.ResponseController
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = f.control.Flush()
	}
	return n, err
}

// encoder writes JSON as it is read by people: no escapes for HTML.
func encoder(w io.Writer) *json.Encoder {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e
}

// failed is the log's line about an error, with what the Python SDK's log calls it.
func (a *App) failed(ctx context.Context, message string, err error) {
	args := []any{"errorType", fmt.Sprintf("%T", err), "errorMessage", err.Error()}
	var panicked *PanicError
	if errors.As(err, &panicked) {
		args = append(args, "stackTrace", string(panicked.Stack))
	}
	a.log.ErrorContext(ctx, message, args...)
}
