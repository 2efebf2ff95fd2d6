package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Kinds of failure, for errors.Is.
var (
	ErrNoWorkloadToken = errors.New("there is no workload token")                 // nor a way to make one
	ErrConsentNeeded   = errors.New("the user has to consent")                    // and nobody was there to be told: see AuthorizationURL
	ErrConsentFailed   = errors.New("the user's consent did not come to an end")  // denied, expired, or completed by somebody else
	ErrConsentTimeout  = errors.New("the user did not consent in time")           //
	ErrAccessDenied    = errors.New("access is denied")                           // to whoever signed the call
	ErrCredentials     = errors.New("the AWS credentials are missing or refused") //
	ErrNotFound        = errors.New("it does not exist")                          // the provider, or the workload identity
	ErrInvalid         = errors.New("the request is not valid")                   //
	ErrThrottled       = errors.New("there are too many requests")                //
	ErrUnavailable     = errors.New("the platform does not answer as it should")  //
)

// ErrPending is what polling answers while the user is not done. It never leaves [AccessToken].
var ErrPending = errors.New("agent: the user has not consented yet")

// Error is what every function of this package fails with. Its text holds no
// token, no key and no link; what it wraps (an error of the AWS SDK, the
// context's) is found with errors.As and errors.Is.
type Error struct {
	Op       string // what was wanted: "access token", "API key", "workload token", "configuration"
	Provider string // of which credential provider, if any
	Kind     error  // one of the Err variables of this package; nil where none fits
	Detail   string // what happened, where Kind and Err do not say it
	Hint     string // what can be done about it; may be empty
	Err      error  // the cause; may be nil

	// AuthorizationURL is the link that the user has to open, with
	// ErrConsentNeeded. Show it to that user, then call again.
	AuthorizationURL Secret
}

// Error is one line: what was wanted, what is wrong, why, and the hint.
func (e *Error) Error() string {
	text := "agent: " + e.Op
	if e.Provider != "" {
		text += fmt.Sprintf(" of %q", e.Provider)
	}
	if e.Kind != nil {
		text += ": " + e.Kind.Error()
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Err != nil {
		text += ": " + brief(e.Err)
	}
	if e.Hint != "" {
		text += ". " + e.Hint
	}
	return text
}

// brief is an exception in the platform's own words; the SDK puts a line about the call before them.
func brief(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return err.Error()
	}
	text := api.ErrorCode() + ": " + strings.TrimSuffix(api.ErrorMessage(), ".")
	var request interface{ ServiceRequestID() string }
	if errors.As(err, &request) && request.ServiceRequestID() != "" {
		text += " (request " + request.ServiceRequestID() + ")"
	}
	return text
}

// Is makes errors.Is find the Kind.
func (e *Error) Is(target error) bool { return e.Kind != nil && target == e.Kind }

// Unwrap gives errors.Is and errors.As the cause.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether the same call may succeed in a moment: nobody
// answered, the platform had a problem of its own, or there were too many requests.
func (e *Error) Temporary() bool { return e.Kind == ErrThrottled || e.Kind == ErrUnavailable }

const (
	hintNotHosted     = "A runtime puts it into the context; elsewhere use WithWorkloadToken with what GetWorkloadAccessTokenForJWT or GetWorkloadAccessTokenForUserId answers."
	hintHosted        = "DOCKER_CONTAINER=1 says that a runtime hosts this agent, and no token came with the request. Whoever invokes it with signed requests has to name the user in the header X-Amzn-Bedrock-AgentCore-Runtime-User-Id; code of your own has to pass the request's context on."
	hintRegion        = `Set AWS_REGION; for Onbehalf: eval "$(onbehalf env)".`
	hintCredentials   = `For Onbehalf: eval "$(onbehalf env)". For AWS: AWS_PROFILE, single sign-on or a role, as for any AWS SDK.`
	hintProviderName  = "Name the credential provider."
	hintFlow          = "Use agent.M2M, agent.UserFederation or agent.OnBehalfOf."
	hintConsentNeeded = "Show AuthorizationURL of the error to the user and call again afterwards, or set OnAuthURL and the call waits."
	hintConsentFailed = "Call again to ask the user again, with a new link."
	hintWaiting       = "Call again to ask the user again. A link lives for 10 minutes, and your page at CallbackURL has to call CompleteResourceTokenAuth."
	hintDenied        = "The credentials that signed the call may not do this: add the action that the message names to their policy."
	hintProvider      = "List the providers: aws bedrock-agentcore-control list-oauth2-credential-providers, or list-api-key-credential-providers."
	hintWorkloadToken = "A workload token lives for an hour and belongs to one account and region: get a new one."
	hintThrottled     = "Call again a little later."
	hintUnavailable   = "Does the platform run, and do AWS_ENDPOINT_URL_BEDROCK_AGENTCORE and AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL name it?"
	hintLocalFile     = "Local development remembers the agent's identity in " + localFile + ": mend the file or delete it. Deleting it makes a new workload and a new user, who has consented to nothing."
)

// explain sorts an error of an AWS call. The secrets are taken out of its text.
func explain(op, provider string, me workload, callbackURL string, err error, secrets ...string) *Error {
	e := &Error{Op: op, Provider: provider, Err: err}
	var api smithy.APIError
	var response *smithyhttp.ResponseError
	var unsent *smithyhttp.RequestSendError
	var refused *smithy.InvalidParamsError
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		// the cause says it
	case errors.As(err, &api):
		status := 0
		if errors.As(err, &response) {
			status = response.HTTPStatusCode()
		}
		e.Hint, e.Kind = kindOf(api, status)
		switch {
		case e.Kind == ErrNotFound && me.local.Workload != "" && (provider == "" || strings.Contains(strings.ToLower(api.ErrorMessage()), "workload")):
			e.Detail, e.Hint = "the workload identity "+me.local.Workload, "It is the one that "+localFile+" names. "+hintLocalFile
		case e.Kind == ErrInvalid && strings.Contains(strings.ToLower(api.ErrorMessage()), "returnurl"):
			e.Hint = "CallbackURL must be set, and registered: aws bedrock-agentcore-control update-workload-identity --name " + or(me.local.Workload, "WORKLOAD") + " --allowed-resource-oauth2-return-urls " + or(callbackURL, "URL")
		}
		e.Err = hideInAPI(err, api, secrets)
		return e
	case errors.As(err, &unsent):
		e.Kind, e.Hint = ErrUnavailable, hintUnavailable
	case errors.As(err, &response): // an answer that nobody modelled: a proxy's, say
		e.Kind, e.Hint = ErrUnavailable, hintUnavailable
		if response.HTTPStatusCode() < 500 {
			e.Kind = ErrInvalid
		}
	case errors.As(err, &refused): // by the SDK itself
		e.Kind = ErrInvalid
	case strings.Contains(err.Error(), "get credentials"):
		e.Kind, e.Hint = ErrCredentials, hintCredentials
	}
	e.Err = hideIn(err, secrets...)
	return e
}

// kindOf sorts an exception, and finds the hint that goes with it.
func kindOf(api smithy.APIError, status int) (hint string, kind error) {
	switch api.ErrorCode() {
	case "AccessDeniedException":
		if strings.HasPrefix(api.ErrorMessage(), "Invalid or expired session") {
			return hintConsentFailed, ErrConsentFailed
		}
		return hintDenied, ErrAccessDenied
	case "ResourceNotFoundException":
		return hintProvider, ErrNotFound
	case "UnauthorizedException":
		return hintWorkloadToken, ErrAccessDenied
	case "ThrottlingException", "ThrottledException", "TooManyRequestsException":
		return hintThrottled, ErrThrottled
	case "UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationTokenException", "ExpiredTokenException", "IncompleteSignatureException":
		return hintCredentials, ErrCredentials
	}
	switch {
	case status == http.StatusTooManyRequests:
		return hintThrottled, ErrThrottled
	case status >= 500 || status == 0 && api.ErrorFault() == smithy.FaultServer:
		return hintUnavailable, ErrUnavailable
	}
	return "", ErrInvalid
}

// waitingKind is the kind of an error that a poller returned and that is none of ours.
func waitingKind(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrConsentTimeout
	}
	return nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
