package wire

import (
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
)

const (
	validation    = "ValidationException"
	internalError = "InternalServerException"
)

// exceptions are AWS's names for the kinds of fault, each with those to use
// instead, in order, where an operation's model does not have it: SDKs make a
// typed error only of what is modelled.
var exceptions = map[fault.Kind][]string{
	fault.Internal:        {internalError},
	fault.Unavailable:     {internalError},
	fault.Invalid:         {validation},
	fault.NotBuilt:        {validation},
	fault.Upstream:        {validation},
	fault.Unauthenticated: {"UnauthorizedException", "AccessDeniedException"},
	fault.Denied:          {"AccessDeniedException"},
	fault.NotFound:        {"ResourceNotFoundException", validation},
	fault.Conflict:        {"ConflictException", validation},
	fault.Concurrent:      {"ConcurrentModificationException", "RetryableConflictException", "ConflictException", validation},
	fault.QuotaExceeded:   {"ServiceQuotaExceededException", "ResourceLimitExceededException", validation},
	fault.Throttled:       {"ThrottlingException"},
	fault.Undecryptable:   {"DecryptionFailure", internalError},
	fault.RuntimeClient:   {"RuntimeClientError", validation},
}

// frontEnd are the errors of AWS's front end. No model has them, and every SDK
// knows them: it mends its clock or fetches new credentials by them.
var frontEnd = map[fault.Kind]string{
	fault.MissingSignature: "MissingAuthenticationTokenException",
	fault.UnknownKey:       "UnrecognizedClientException",
	fault.BadSignature:     "InvalidSignatureException",
	fault.StaleSignature:   "InvalidSignatureException",
	fault.ExpiredToken:     "ExpiredTokenException",
}

// WriteError renders an error that belongs to no operation, as AWS does.
func WriteError(w http.ResponseWriter, r *http.Request, err error) { writeError(w, r, nil, err) }

// WriteErrorOf renders an error of an operation that a raw handler serves.
func WriteErrorOf(w http.ResponseWriter, r *http.Request, op *api.Info, err error) {
	writeError(w, r, op, err)
}

func writeError(w http.ResponseWriter, r *http.Request, op *api.Info, err error) {
	problem := fault.Of(err)
	name, status := exception(op, problem.Kind)
	logError(r, op, status, problem)
	if problem.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(problem.RetryAfter.Seconds()))))
	}
	body := appendError(nil, name, problem)
	writeException(w, r, name, status, body)
}

// exception picks the name and the status of a fault for an operation; a nil operation has every exception.
func exception(op *api.Info, kind fault.Kind) (string, int) {
	if name, is := frontEnd[kind]; is {
		return name, http.StatusForbidden
	}
	names := exceptions[kind]
	if len(names) == 0 {
		names = exceptions[fault.Internal]
	}
	name := names[0]
	if op != nil {
		for _, candidate := range names {
			name = candidate
			if slices.Contains(op.Errors, candidate) {
				break
			}
		}
	}
	return name, api.ExceptionStatus[name]
}

// appendError writes the body. A ValidationException always has a reason.
func appendError(b []byte, name string, problem *fault.Error) []byte {
	b = append(b, `{"__type":"`...)
	b = append(b, name...)
	b = append(b, `","message":`...)
	b = api.AppendString(b, problem.Message)
	if name == validation {
		b = append(b, `,"reason":`...)
		b = api.AppendString(b, reason(problem))
		if len(problem.Fields) > 0 {
			b = append(b, `,"fieldList":[`...)
			for i, field := range problem.Fields {
				if i > 0 {
					b = append(b, ',')
				}
				b = append(b, `{"name":`...)
				b = api.AppendString(b, field.Name)
				b = append(b, `,"message":`...)
				b = api.AppendString(b, field.Message)
				b = append(b, '}')
			}
			b = append(b, ']')
		}
	}
	return append(b, '}')
}

func reason(problem *fault.Error) string {
	switch {
	case problem.Reason != "":
		return problem.Reason
	case problem.Kind == fault.Conflict || problem.Kind == fault.Concurrent:
		return fault.ReasonResourceConflict
	default:
		return fault.ReasonFieldValidation
	}
}

// writeException sends an error with its name in header and body: some clients
// read the one, some the other. The date is what SDKs mend their clock by.
func writeException(w http.ResponseWriter, r *http.Request, name string, status int, body []byte) {
	header := w.Header()
	header.Set("X-Amzn-Requestid", principal.RequestOf(r.Context()).ID)
	header.Set("X-Amzn-Errortype", name)
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	writeJSON(w, status, body)
}

func writeUnknownOperation(w http.ResponseWriter, r *http.Request) {
	const name = "UnknownOperationException"
	problem := &fault.Error{Message: "There is no operation with this method and path."}
	writeException(w, r, name, http.StatusNotFound, appendError(nil, name, problem))
}

// logError tells the log what the caller is not told. A failure of a request
// whose caller has left is no trouble of ours.
func logError(r *http.Request, op *api.Info, status int, problem *fault.Error) {
	level := slog.LevelDebug
	switch {
	case r.Context().Err() != nil:
	case status >= http.StatusInternalServerError:
		level = slog.LevelError
	case problem.Kind == fault.Upstream:
		level = slog.LevelWarn // the operator can do something about a provider that refuses
	}
	name := ""
	if op != nil {
		name = op.Name
	}
	slog.Log(r.Context(), level, "request failed", "request_id", principal.RequestOf(r.Context()).ID,
		"operation", name, "kind", problem.Kind.String(), "error", logged(problem))
}

// logged is the error for the log. Complaints about members quote their values,
// as AWS's do, and a caller may have put a token where a name belongs.
func logged(problem *fault.Error) string {
	if len(problem.Fields) == 0 {
		return problem.Error()
	}
	names := make([]string, len(problem.Fields))
	for i, f := range problem.Fields {
		names[i] = f.Name
	}
	return problem.Kind.String() + ": constraints violated by " + strings.Join(names, ", ")
}
