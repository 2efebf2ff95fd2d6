// Package fault holds the one error type of the house: a kind for machines, a
// message for people, a cause for the log.
//
//	room  ── fault.Error ──▶  door (wire, gateway, consent) ──▶ one of four renderers
//
// Invariant: Message is safe to show to whoever made the request. Whatever is
// not safe (a driver's text, a provider's answer, a file's path) goes in Cause,
// which only the log sees.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what went wrong, in the terms a machine acts on. The zero kind is
// Internal, so that an error nobody classified is never shown to a caller.
type Kind uint8

// The kinds, each with the AWS exception that wire renders it as.
const (
	Internal         Kind = iota // InternalServerException, 500: ours to mend
	Invalid                      // ValidationException, 400: the request is malformed
	NotBuilt                     // ValidationException, 400: in the API, not in this server yet
	Unauthenticated              // UnauthorizedException, 401: no or bad bearer token
	Denied                       // AccessDeniedException, 403: known, and not allowed
	NotFound                     // ResourceNotFoundException, 404
	Conflict                     // ConflictException, 409: a name is taken, a thing is in use
	Concurrent                   // ConcurrentModificationException, 409: changed underneath
	QuotaExceeded                // ServiceQuotaExceededException, 402
	Throttled                    // ThrottlingException, 429: slow down, then try again
	Undecryptable                // DecryptionFailure, 400: a sealed value does not open
	Upstream                     // ValidationException, 400: a provider or target refused or misbehaved
	Unavailable                  // InternalServerException, 500: a passing failure, trying again may help
	MissingSignature             // MissingAuthenticationTokenException, 403
	UnknownKey                   // UnrecognizedClientException, 403
	BadSignature                 // InvalidSignatureException, 403
	StaleSignature               // InvalidSignatureException, 403, "Signature expired" or "not yet current": SDKs mend their clock by it
	ExpiredToken                 // ExpiredTokenException, 403: temporary credentials have run out
	RuntimeClient                // RuntimeClientError, 424: the caller's agent failed
)

var kindNames = [...]string{
	"internal", "invalid", "not-built", "unauthenticated", "denied", "not-found", "conflict", "concurrent",
	"quota-exceeded", "throttled", "undecryptable", "upstream", "unavailable",
	"missing-signature", "unknown-key", "bad-signature", "stale-signature", "expired-token", "runtime-client",
}

// String is the kind's name in logs, audit records and metric labels.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "internal"
}

// Reasons of a ValidationException, as AWS spells them.
const (
	ReasonCannotParse         = "CannotParse"
	ReasonFieldValidation     = "FieldValidationFailed"
	ReasonIdempotentMismatch  = "IdempotentParameterMismatchException"
	ReasonEventInOtherSession = "EventInOtherSession"
	ReasonResourceConflict    = "ResourceConflict"
)

// Field names one request member that broke a constraint, and how.
type Field struct {
	Name    string
	Message string
}

// Error is what every room returns when it does not return a result.
type Error struct {
	Kind       Kind
	Message    string        // safe for the caller; says what to do where something can be done
	Reason     string        // of an Invalid: one of the Reason constants, or empty for FieldValidationFailed
	Fields     []Field       // of an Invalid: the members at fault
	RetryAfter time.Duration // of a Throttled or Unavailable: when to try again, 0 if unknown
	Cause      error         // for the log only
}

// Error includes the cause: it is for logs and tests. Doors show Message.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Kind.String() + ": " + e.Message + ": " + e.Cause.Error()
	}
	return e.Kind.String() + ": " + e.Message
}

// Unwrap gives errors.Is and errors.As the cause.
func (e *Error) Unwrap() error { return e.Cause }

// New makes an error of a kind whose message is shown to the caller. Never
// format a foreign error or a secret into it; attach the former with Because.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Because attaches the cause that the log, and nobody else, gets to see.
func (e *Error) Because(cause error) *Error {
	e.Cause = cause
	return e
}

// InvalidField is the everyday ValidationException: one member, one complaint.
func InvalidField(name, format string, args ...any) *Error {
	message := fmt.Sprintf(format, args...)
	return &Error{Kind: Invalid, Message: message, Fields: []Field{{Name: name, Message: message}}}
}

// Wrap keeps a *Error as it is and turns anything else into an Internal one
// with the given doing ("storing the grant") in its cause.
func Wrap(err error, doing string) error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	return &Error{Kind: Internal, Message: internalMessage, Cause: fmt.Errorf("%s: %w", doing, err)}
}

const internalMessage = "An internal error occurred. The server's log has the cause under this request's id."

// Of finds the *Error in a chain, or wraps err as Internal. Of(nil) is nil.
func Of(err error) *Error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	return Wrap(err, "unclassified").(*Error)
}

// KindOf is the kind of an error; Internal for errors that have none.
func KindOf(err error) Kind {
	if e := Of(err); e != nil {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is of the kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }
