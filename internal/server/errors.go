package server

import (
	"errors"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// PortTakenError says that somebody else listens on the address that was asked
// for, and which flag changes it.
type PortTakenError struct{ Addr, Flag string }

func (e *PortTakenError) Error() string {
	return "the address " + e.Addr + " is taken: another program, perhaps another onbehalf, listens there"
}

// startError is a room's error as whoever starts the server reads it. There is
// no caller to hide the cause from, and nobody to act on the kind.
type startError struct{ known *fault.Error }

func (e startError) Error() string {
	switch {
	case e.known.Cause == nil:
		return e.known.Message
	case e.known.Kind == fault.Internal:
		return e.known.Cause.Error() // the message points to the log, and this is it
	}
	return strings.TrimSuffix(e.known.Message, ".") + ": " + e.known.Cause.Error()
}

func (e startError) Unwrap() error { return e.known }

// forOperator words why a server does not start.
func forOperator(err error) error {
	var known *fault.Error
	if errors.As(err, &known) {
		return startError{known}
	}
	return err
}
