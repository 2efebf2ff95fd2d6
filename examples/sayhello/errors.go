package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/aws/smithy-go"
)

// Problem is what all errors of the example have: what happened, why, and what
// the person at the terminal can do about it. Hint is never empty.
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
	// CredentialsError: the AWS calls cannot be signed, or their signer may not make them.
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
	errThrottled = errors.New("too many requests (429)")
)

// The hints of the README's troubleshooting table.
const (
	hintRedirectURI  = "Register the redirect URIs that sayhello prints at the provider, character by character: scheme, host, port and path count."
	hintCallback     = "The browser never came back. Did the provider show redirect_uri_mismatch? Then register the redirect URI. Is the link opened on this machine, and is the callback server reachable there (--callback-port)?"
	hintNoGateway    = "List what there is: aws bedrock-agentcore-control list-gateways. With --keep the gateway of an earlier run is used; without it a new one is made."
	hintInvalidOAuth = "Check client id, client secret and discovery URL of the credential provider: aws bedrock-agentcore-control get-oauth2-credential-provider --name NAME."
	hintNoIdentifier = "The callback server does not know whom to wait for. Run the steps in their order, or set USER_TOKEN to a fresh ID token."
	hintBinding      = "The link must be opened by the person who asked, within 10 minutes. Sign in as that person, or run again as the other."
	hintElicitation  = "Let the gateway support MCP 2025-11-25 (supportedVersions in its protocolConfiguration), which asks for consent in a form that programs understand."
	hintNoProfile    = "Were the scopes openid and profile granted, and is the People API enabled in the Google project?"
	hintThrottled    = "The provider limits requests for now. Wait as long as it asks, then run again."
	hintCredentials  = "Set the credentials of the platform: eval \"$(onbehalf env)\", or for AWS the usual chain (AWS_PROFILE, SSO, instance role)."
	hintPermission   = "The credentials are good, but may not do this: add the permission that the message names, for bedrock-agentcore and, for the gateway's role, iam:PassRole."
	hintFreshToken   = "Sign in again by running again, or set USER_TOKEN to a fresh ID token. The gateway checks issuer, audience and expiry."
	hintStopped      = "Nothing is left behind; run again when you like."
	hintLeft         = "Run again without --keep: it finds what is left behind and removes it."
	hintUnreachable  = "Does the platform run, and is its URL the one given with --backend?"
	hintAgain        = "Run the command again for a new link; a link lives for 10 minutes."
	hintFlags        = "sayhello --help lists the flags."
)

// stopped is what a run ends with after Ctrl-C, whatever failed because of it.
func stopped() error {
	return &OAuthError{Problem{What: "stopped", Cause: errCancelled, Hint: hintStopped}}
}

// fromAWS sorts an error of an AWS call: a missing or refused signature and a
// missing permission are a matter of credentials, everything else belongs to the
// caller's own kind.
func fromAWS(err error, otherwise func(Problem) error, what, hint string) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return otherwise(Problem{What: what, Cause: errCancelled, Hint: hintStopped})
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		cause := fmt.Errorf("%s: %s", api.ErrorCode(), api.ErrorMessage())
		switch api.ErrorCode() {
		case "UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationTokenException", "ExpiredTokenException":
			return &CredentialsError{Problem{What: what, Cause: cause, Hint: hintCredentials}}
		case "AccessDeniedException":
			return &CredentialsError{Problem{What: what, Cause: cause, Hint: hintPermission}}
		case "ThrottlingException", "ThrottledException":
			return otherwise(Problem{What: what, Cause: cause, Hint: hintThrottled})
		}
		return otherwise(Problem{What: what, Cause: cause, Hint: hint})
	}
	var network *net.OpError
	if errors.As(err, &network) {
		return otherwise(Problem{What: what, Cause: network, Hint: hintUnreachable})
	}
	return otherwise(Problem{What: what, Cause: err, Hint: hint})
}

func gatewayProblem(p Problem) error  { return &GatewayError{p} }
func identityProblem(p Problem) error { return &IdentityError{p} }
func oauthProblem(p Problem) error    { return &OAuthError{p} }

func isNotFound(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == "ResourceNotFoundException"
}

// mayExist reports whether a call that makes something may have made it, though
// it ended with this error: no answer came, or none that says no.
func mayExist(err error) bool {
	var api smithy.APIError
	var network *net.OpError
	return !errors.As(err, &api) && !(errors.As(err, &network) && network.Op == "dial")
}

// noConsent is the end of a wait for consent: the person stopped it, or its time
// is over, and then it matters whether a browser came back at all.
func noConsent(ctx context.Context, waited time.Duration, reached bool) error {
	switch {
	case !errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return stopped()
	case reached:
		return &OAuthError{Problem{What: fmt.Sprintf("no consent within %s", waited), Cause: errTimedOut, Hint: "Somebody opened the link and did not finish. " + hintBinding}}
	}
	return &OAuthError{Problem{What: fmt.Sprintf("no consent within %s, the callback server was never reached", waited), Cause: errTimedOut, Hint: hintAgain + " " + hintCallback}}
}

// notCompleted sorts why a session of the right person could not be completed.
func notCompleted(err error) error {
	const what = "the consent could not be completed"
	var api smithy.APIError
	if errors.As(err, &api) {
		cause, text := fmt.Errorf("%s: %s", api.ErrorCode(), api.ErrorMessage()), api.ErrorMessage()
		switch {
		case strings.Contains(text, "redirect_uri_mismatch"):
			return &OAuthError{Problem{What: "the provider does not know the redirect URI", Cause: cause, Hint: hintRedirectURI}}
		case strings.Contains(text, "invalid_client"), strings.Contains(text, "unauthorized_client"):
			return &OAuthError{Problem{What: "the OAuth configuration is not valid: the provider refuses the client", Cause: cause, Hint: hintInvalidOAuth}}
		case api.ErrorCode() == "AccessDeniedException":
			return &OAuthError{Problem{What: "the session could not be bound to you", Cause: cause, Hint: hintBinding + " " + hintAgain}}
		}
	}
	return fromAWS(err, oauthProblem, what, hintInvalidOAuth+" "+hintAgain)
}

// providerSaidNo is what the provider's error in a callback means for the agent.
func providerSaidNo(code string) error {
	switch code {
	case "access_denied":
		return &OAuthError{Problem{What: "you did not allow it", Cause: errDenied, Hint: "Nothing was shared. " + hintAgain}}
	case "redirect_uri_mismatch":
		return &OAuthError{Problem{What: "the provider does not know the redirect URI", Hint: hintRedirectURI}}
	}
	return &OAuthError{Problem{What: "the provider ended the consent: " + code, Hint: hintInvalidOAuth}}
}
