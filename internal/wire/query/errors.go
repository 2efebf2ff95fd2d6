package query

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// code is an error whose code follows from more than its kind.
type code struct {
	name   string
	status int
}

func (c code) Error() string { return c.name }

// coded makes such an error.
func coded(name string, status int, format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).Because(code{name, status})
}

// MalformedPolicy is IAM's answer to a document that it cannot use.
func MalformedPolicy(err error) error {
	return coded("MalformedPolicyDocument", http.StatusBadRequest, "%s", fault.Of(err).Message)
}

// DeleteConflict is IAM's answer to deleting what something hangs on.
func DeleteConflict(message string) error {
	return fault.New(fault.Conflict, "%s", message).Because(code{"DeleteConflict", http.StatusConflict})
}

// LimitExceeded is IAM's answer to more than there may be.
func LimitExceeded(message string) error {
	return fault.New(fault.QuotaExceeded, "%s", message).Because(code{"LimitExceeded", http.StatusConflict})
}

// codes are the names of the kinds of fault in the Query protocol.
var codes = map[fault.Kind]code{
	fault.Internal:         {"ServiceFailure", http.StatusInternalServerError},
	fault.Unavailable:      {"ServiceUnavailable", http.StatusServiceUnavailable},
	fault.Invalid:          {"ValidationError", http.StatusBadRequest},
	fault.NotBuilt:         {"ValidationError", http.StatusBadRequest},
	fault.Denied:           {"AccessDenied", http.StatusForbidden},
	fault.NotFound:         {"NoSuchEntity", http.StatusNotFound},
	fault.Conflict:         {"EntityAlreadyExists", http.StatusConflict},
	fault.Concurrent:       {"ConcurrentModification", http.StatusConflict},
	fault.QuotaExceeded:    {"LimitExceeded", http.StatusConflict},
	fault.Throttled:        {"Throttling", http.StatusBadRequest},
	fault.MissingSignature: {"MissingAuthenticationToken", http.StatusForbidden},
	fault.UnknownKey:       {"InvalidClientTokenId", http.StatusForbidden},
	fault.BadSignature:     {"SignatureDoesNotMatch", http.StatusForbidden},
	fault.StaleSignature:   {"SignatureDoesNotMatch", http.StatusForbidden}, // SDKs mend their clock by its text
	fault.ExpiredToken:     {"ExpiredToken", http.StatusForbidden},
}

type errorBody struct {
	Type    string
	Code    string
	Message string
}

func writeError(w http.ResponseWriter, r *http.Request, service string, err error) {
	problem := fault.Of(err)
	c, known := codes[problem.Kind]
	if !known {
		c = codes[fault.Internal]
	}
	_ = errors.As(problem.Cause, &c)
	level, side := slog.LevelDebug, "Sender"
	if c.status >= http.StatusInternalServerError {
		level, side = slog.LevelError, "Receiver"
	}
	slog.Log(r.Context(), level, "request failed", "request_id", principal.RequestOf(r.Context()).ID, "service", service, "code", c.name, "error", problem)
	if problem.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(problem.RetryAfter.Seconds()))))
	}
	write(w, r, c.status, service, "ErrorResponse", func(e *xml.Encoder) error {
		return e.EncodeElement(errorBody{side, c.name, problem.Message}, element("Error"))
	})
}

func element(name string) xml.StartElement { return xml.StartElement{Name: xml.Name{Local: name}} }

// write sends one element of the service's namespace: what inner says, and the request's id.
func write(w http.ResponseWriter, r *http.Request, status int, service, name string, inner func(*xml.Encoder) error) {
	id := principal.RequestOf(r.Context()).ID
	var out bytes.Buffer
	e := xml.NewEncoder(&out)
	e.Indent("", "  ")
	start := element(name)
	start.Attr = []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: dialects[service].namespace}}
	err := e.EncodeToken(start)
	if err == nil {
		err = inner(e)
	}
	if err == nil && name == "ErrorResponse" {
		err = e.EncodeElement(id, element("RequestId"))
	} else if err == nil {
		err = e.EncodeElement(struct{ RequestId string }{id}, element("ResponseMetadata"))
	}
	if err == nil {
		err = errors.Join(e.EncodeToken(start.End()), e.Flush())
	}
	if err != nil {
		slog.ErrorContext(r.Context(), "an answer could not be encoded", "request_id", id, "error", fmt.Errorf("%s: %w", name, err))
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	out.WriteByte('\n')
	header := w.Header()
	header.Set("X-Amzn-Requestid", id)
	header.Set("Content-Type", "text/xml")
	header.Set("Content-Length", strconv.Itoa(out.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes())
}
