package wire

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
)

// lastKind is the highest fault.Kind there is.
const lastKind = fault.RuntimeClient

// Whatever goes wrong in whatever operation, the client gets an exception that
// its model has, or one of the front end's that every SDK knows.
func TestEveryFaultOfEveryOperationIsModelled(t *testing.T) {
	t.Parallel()
	for _, op := range api.Operations {
		for kind := fault.Internal; kind <= lastKind; kind++ {
			name, status := exception(op, kind)
			if _, front := frontEnd[kind]; front {
				if status != http.StatusForbidden {
					t.Errorf("%s of %s is answered with %d", kind, op.Name, status)
				}
				continue
			}
			modelled := slices.Contains(op.Errors, name) || name == validation // which two of AWS's models forget
			if !modelled || status != api.ExceptionStatus[name] || status < 400 {
				t.Errorf("%s of %s becomes %s, %d: not in its model (%v)", kind, op.Name, name, status, op.Errors)
			}
		}
	}
}

func TestFolding(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		op     *api.Info
		kind   fault.Kind
		want   string
		status int
	}{
		{api.CreateWorkloadIdentity.Info, fault.Conflict, "ValidationException", 400},
		{api.CreateGateway.Info, fault.Conflict, "ConflictException", 409},
		{api.CreateOauth2CredentialProvider.Info, fault.QuotaExceeded, "ServiceQuotaExceededException", 402},
		{api.CreateWorkloadIdentity.Info, fault.QuotaExceeded, "ValidationException", 400},
		{api.SetTokenVaultCMK.Info, fault.Concurrent, "ConcurrentModificationException", 409},
		{api.InvokeAgentRuntime.Info, fault.Concurrent, "RetryableConflictException", 409},
		{api.UpdateGateway.Info, fault.Concurrent, "ConflictException", 409},
		{api.GetGateway.Info, fault.Unauthenticated, "AccessDeniedException", 403},
		{api.GetResourceOauth2Token.Info, fault.Unauthenticated, "UnauthorizedException", 401},
		{api.GetOauth2CredentialProvider.Info, fault.Undecryptable, "DecryptionFailure", 400},
		{api.GetResourceOauth2Token.Info, fault.Undecryptable, "InternalServerException", 500},
		{api.CreateGateway.Info, fault.NotFound, "ValidationException", 400},
		{nil, fault.Conflict, "ConflictException", 409},
		{api.InvokeAgentRuntime.Info, fault.RuntimeClient, "RuntimeClientError", 424},
		{nil, fault.Undecryptable, "DecryptionFailure", 400},
		{nil, lastKind + 1, "InternalServerException", 500},
	} {
		if name, status := exception(test.op, test.kind); name != test.want || status != test.status {
			t.Errorf("%s of %v becomes %s, %d; want %s, %d", test.kind, test.op, name, status, test.want, test.status)
		}
	}
}

// The cause is for the log: it is in no header and in no body.
func TestWriteErrorHidesTheCause(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		errors.New("canary-7f3a"),
		fault.New(fault.Upstream, "The provider refused.").Because(errors.New("canary-7f3a")),
	} {
		recorder := httptest.NewRecorder()
		WriteError(recorder, httptest.NewRequest("POST", "/x", nil), err)
		if strings.Contains(recorder.Body.String(), "canary") || !json.Valid(recorder.Body.Bytes()) {
			t.Errorf("%s", recorder.Body)
		}
	}
}

// A complaint quotes the value to the caller, whose own it is, and not to the log:
// a token may stand where a name belongs.
func TestComplaintsAreLoggedWithoutTheValue(t *testing.T) {
	t.Parallel()
	recorder := httptest.NewRecorder()
	WriteError(recorder, httptest.NewRequest("POST", "/x", nil), api.Invalid([]fault.Field{{Name: "misplaced-b41c", Message: "Value 'canary-b41c' at 'misplaced-b41c' failed."}}))
	if !strings.Contains(recorder.Body.String(), "canary-b41c") {
		t.Errorf("the caller is not told what is wrong: %s", recorder.Body)
	}
	if text := logs.String(); !strings.Contains(text, "misplaced-b41c") || strings.Contains(text, "canary-b41c") {
		t.Error("the log does not name the member, or quotes its value")
	}
}

func TestRetryAfterIsRoundedUp(t *testing.T) {
	t.Parallel()
	recorder := httptest.NewRecorder()
	WriteError(recorder, httptest.NewRequest("POST", "/x", nil), &fault.Error{Kind: fault.Throttled, Message: "Slow down.", RetryAfter: 1200 * time.Millisecond})
	if got := recorder.Header().Get("Retry-After"); got != "2" || recorder.Code != http.StatusTooManyRequests {
		t.Errorf("%d, Retry-After %q", recorder.Code, got)
	}
}
