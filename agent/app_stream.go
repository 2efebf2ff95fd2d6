package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
)

// events calls send for each element of a stream, until send says false.
type events func(send func(element any, err error) bool)

// eventsOf is the stream that a result is, or nil.
func eventsOf(ctx context.Context, result reflect.Value) events {
	t := result.Type()
	switch {
	case t.Kind() == reflect.Chan && t.ChanDir()&reflect.RecvDir != 0:
		return func(send func(any, error) bool) { receive(ctx, result, send) }
	case t.CanSeq2() && t.Kind() == reflect.Func && t.In(0).In(1) == typeError:
		return func(send func(any, error) bool) {
			for element, err := range result.Seq2() {
				failure, _ := err.Interface().(error)
				if !send(element.Interface(), failure) {
					return
				}
			}
		}
	case t.CanSeq() && t.Kind() == reflect.Func:
		return func(send func(any, error) bool) {
			for element := range result.Seq() {
				if !send(element.Interface(), nil) {
					return
				}
			}
		}
	}
	return nil
}

// receive sends on what a channel gives. An error among the elements is one: it
// ends the stream.
func receive(ctx context.Context, channel reflect.Value, send func(any, error) bool) {
	cases := []reflect.SelectCase{
		{Dir: reflect.SelectRecv, Chan: channel},
		{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ctx.Done())},
	}
	for {
		chosen, element, ok := reflect.Select(cases)
		if chosen == 1 {
			send(nil, context.Cause(ctx))
			return
		}
		if !ok {
			return
		}
		value := element.Interface()
		failure, _ := value.(error)
		if !send(value, failure) || failure != nil {
			return
		}
	}
}

// stream sends server-sent events, each when it comes. An error after the first
// bytes is an event of its own, as the caller has its status already.
func (a *App) stream(ctx context.Context, w http.ResponseWriter, all events) {
	w.Header().Set("Content-Type", contentEvents)
	w.Header().Set("Cache-Control", "no-store")
	control := http.NewResponseController(w)
	_ = control.Flush() // the caller learns at once that it is being answered
	gone := false
	event := func(value any) bool {
		var data bytes.Buffer
		if err := encoder(&data).Encode(value); err != nil {
			data.Reset()
			_ = encoder(&data).Encode(streamError(fmt.Errorf("an element has no JSON: %w", err)))
		}
		// Encode ends with one newline, and JSON has none within: one event is one line.
		if _, err := fmt.Fprintf(w, "data: %s\n", data.Bytes()); err != nil {
			gone = true
		} else if err := control.Flush(); err != nil {
			gone = true
		}
		return !gone && ctx.Err() == nil
	}
	err := contained(func() (failure error) {
		all(func(element any, err error) bool {
			if err != nil {
				failure = err
				return false
			}
			return event(element)
		})
		return failure
	})
	switch {
	case gone || ctx.Err() != nil:
		a.log.DebugContext(ctx, "The caller has left.")
	case err != nil:
		a.failed(ctx, "The stream failed.", err)
		event(streamError(err))
	}
}

func streamError(err error) map[string]string {
	var panicked *PanicError
	kind := fmt.Sprintf("%T", err)
	if errors.As(err, &panicked) {
		kind = "panic"
	}
	return map[string]string{"error": err.Error(), "error_type": kind, "message": "An error occurred during streaming"}
}
