package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/aws/smithy-go"
)

// Problem is what all errors of the example have: what happened, why, and what
// the person at the terminal can do about it.
type Problem struct {
	What  string
	Cause error
	Hint  string
}

func (p *Problem) Error() string {
	if p.Cause != nil {
		return p.What + ": " + safe(p.Cause)
	}
	return p.What
}

// Unwrap gives errors.Is and errors.As the cause.
func (p *Problem) Unwrap() error { return p.Cause }

// Advice is the hint; main prints it below the error.
func (p *Problem) Advice() string { return p.Hint }

// The five kinds of failure.
type (
	// CredentialsError: the AWS calls cannot be signed, or are refused.
	CredentialsError struct{ Problem }
	// ConfigurationError: a flag, a variable or the .env file does not fit.
	ConfigurationError struct{ Problem }
	// OAuthError: sign-in or consent did not come to a good end.
	OAuthError struct{ Problem }
	// GatewayError: the gateway, its target or the tool call failed.
	GatewayError struct{ Problem }
	// IdentityError: a workload identity or a user token is not what it should be.
	IdentityError struct{ Problem }
)

// Problems that may be recognised with errors.Is, whatever their type.
var (
	errDenied    = errors.New("the person said no")
	errCancelled = errors.New("cancelled")
	errTimedOut  = errors.New("nobody answered in time")
)

// The hints of the README's troubleshooting table.
const (
	hintRedirectURI  = "Register the printed redirect URIs at the provider, character by character: scheme, host, port and path count."
	hintCallback     = "The browser never came back to the callback server. Is the link opened on this machine, and is nothing else on the callback port (--callback-port)?"
	hintNoGateway    = "List what there is: aws bedrock-agentcore-control list-gateways. With --keep the gateway of an earlier run is used; without it a new one is made."
	hintInvalidOAuth = "Check client id, client secret and discovery URL of the credential provider: aws bedrock-agentcore-control get-oauth2-credential-provider --name NAME."
	hintNoIdentifier = "The callback server does not know whom to wait for. Run the steps in their order, or set USER_TOKEN to a fresh ID token."
	hintBinding      = "The link must be opened by the person who asked. Sign in as that person, or run again as the other."
	hintElicitation  = "The gateway did not ask for consent in a form this client knows. Does the gateway support MCP 2025-11-25 (supportedVersions)?"
	hintNoProfile    = "The tool answered without a name. Were the scopes openid and profile granted, and is the People API enabled in the Google project?"
	hintThrottled    = "The provider limits requests for now. Wait as long as it asks, then run again."
	hintCredentials  = "Set the credentials of the platform: eval \"$(onbehalf env)\", or for AWS the usual chain (AWS_PROFILE, SSO, instance role)."
	hintStopped      = "Nothing is left behind; run again when you like."
	hintLeft         = "Run again without --keep: it finds what is left behind and removes it."
	hintUnreachable  = "Does the platform run, and is its URL the one given with --backend?"
	hintAgain        = "Run the command again for a new link; a link lives for 10 minutes."
)

// fromAWS sorts an error of an AWS call: a refused or missing signature is a
// matter of credentials, everything else belongs to the caller's own kind.
func fromAWS(err error, otherwise func(Problem) error, what, hint string) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return otherwise(Problem{What: what, Cause: errCancelled, Hint: hintStopped})
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		case "UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationTokenException", "ExpiredTokenException":
			return &CredentialsError{Problem{What: what, Cause: fmt.Errorf("%s: %s", api.ErrorCode(), api.ErrorMessage()), Hint: hintCredentials}}
		case "ThrottlingException", "ThrottledException":
			return otherwise(Problem{What: what, Cause: fmt.Errorf("%s: %s", api.ErrorCode(), api.ErrorMessage()), Hint: hintThrottled})
		}
		return otherwise(Problem{What: what, Cause: fmt.Errorf("%s: %s", api.ErrorCode(), api.ErrorMessage()), Hint: hint})
	}
	var network *net.OpError
	if errors.As(err, &network) {
		return otherwise(Problem{What: what, Cause: network, Hint: hintUnreachable})
	}
	return otherwise(Problem{What: what, Cause: err, Hint: hint})
}

func gatewayProblem(p Problem) error  { return &GatewayError{p} }
func identityProblem(p Problem) error { return &IdentityError{p} }

// interrupted turns the end of a context into the error that the person caused.
func interrupted(ctx context.Context, waited time.Duration) error {
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return &OAuthError{Problem{What: fmt.Sprintf("no consent within %s", waited), Cause: errTimedOut, Hint: hintAgain + " " + hintCallback}}
	}
	return &OAuthError{Problem{What: "stopped while waiting for consent", Cause: errCancelled, Hint: hintAgain}}
}
