package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"syscall"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/onbehalf/onbehalf/internal/server"
)

// usageError is a command line that makes no sense, found out late: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// advised is how a call's error is told: what the platform said, without the
// SDK's frame around it, and what to do about it. missing is the command that
// lists what is there.
func (c *connection) advised(err error, missing string) error {
	var own hinted
	var usage usageError
	var said smithy.APIError
	switch {
	case err == nil || errors.As(err, &own) || errors.As(err, &usage):
		return err
	case errors.Is(err, context.Canceled): // Ctrl-C
		return errStopped
	case errors.As(err, &said):
		return c.answered(err, said, missing)
	case errors.Is(err, syscall.ECONNREFUSED):
		return hinted{fmt.Errorf("nobody answers at %s", c.endpoint), "start the platform: onbehalf serve; or say where it is with --endpoint"}
	case isTimeout(err):
		return hinted{fmt.Errorf("%s does not answer in time", c.endpoint), "is the address right, and the platform well? " + c.endpoint + "/ping answers 200"}
	}
	var transport *url.Error
	if errors.As(err, &transport) {
		return hinted{fmt.Errorf("%s cannot be reached: %w", c.endpoint, transport.Err), "is the address right? --endpoint says another"}
	}
	if errors.Is(err, errNoCredentials) || strings.Contains(err.Error(), "get credentials") || strings.Contains(err.Error(), "credentials cannot be had") {
		return hinted{errNoCredentials, `on the platform's own machine: eval "$(onbehalf env)"; elsewhere name a profile: --profile`}
	}
	var operation *smithy.OperationError
	if errors.As(err, &operation) {
		return operation.Err
	}
	return err
}

func isTimeout(err error) bool {
	var slow net.Error
	return errors.As(err, &slow) && slow.Timeout()
}

// answered words the platform's own errors.
func (c *connection) answered(err error, said smithy.APIError, missing string) error {
	message := said.ErrorMessage()
	if message == "" {
		message = said.ErrorCode()
	}
	switch said.ErrorCode() {
	case "AccessDeniedException", "AccessDenied":
		return hinted{errors.New(message), explainHint(message)}
	case "ResourceNotFoundException":
		return hinted{errors.New(message), missing + " shows what there is"}
	case "UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationTokenException", "ExpiredTokenException", "InvalidClientTokenId":
		return hinted{errors.New(message), `the key is not one of ` + c.endpoint + `: eval "$(onbehalf env)" on its machine, or --profile, names one`}
	case "ThrottlingException":
		return hinted{errors.New(message), "wait a little, then try again"}
	case "UnknownError", "":
		return hinted{fmt.Errorf("%s does not answer as the platform does%s", c.endpoint, statusOf(err)), "is --endpoint, or " + controlVariable + ", the platform's URL?"}
	}
	if said.ErrorFault() == smithy.FaultServer {
		return hinted{fmt.Errorf("%s%s", message, requestOf(err)), "the platform's log has the reason under that request id"}
	}
	return errors.New(message)
}

func statusOf(err error) string {
	var said *answerError
	if errors.As(err, &said) && said.status != 0 {
		return fmt.Sprintf(" (HTTP status %d)", said.status)
	}
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		return fmt.Sprintf(" (HTTP status %d)", response.HTTPStatusCode())
	}
	return ""
}

func requestOf(err error) string {
	var said *answerError
	if errors.As(err, &said) && said.request != "" {
		return " (request " + said.request + ")"
	}
	var response *awshttp.ResponseError
	if errors.As(err, &response) && response.RequestID != "" {
		return " (request " + response.RequestID + ")"
	}
	return ""
}

// Of a refusal: who, what and on what. Nothing else is taken into a command line that is made to be pasted.
var refusal = regexp.MustCompile(`^User: ([A-Za-z0-9:/+=,.@_-]+) is not authorized to perform: ([A-Za-z0-9:-]+) on resource: ([A-Za-z0-9:/+=,.@_*-]+)( |$)`)

// explainHint is the command line that says why, for whoever has the data folder.
func explainHint(message string) string {
	found := refusal.FindStringSubmatch(message)
	if found == nil {
		return ""
	}
	who := found[1]
	if role, assumed := assumedRole(who); assumed {
		who = role
	}
	return fmt.Sprintf("on the platform's machine this says why:\n  onbehalf explain --principal %s --action %s --resource %s",
		server.ShellQuoted(who), server.ShellQuoted(found[2]), server.ShellQuoted(found[3]))
}

// assumedRole turns arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION into the role's own ARN.
func assumedRole(arn string) (string, bool) {
	front, rest, ok := strings.Cut(arn, ":assumed-role/")
	if !ok {
		return "", false
	}
	role, _, _ := strings.Cut(rest, "/")
	return strings.Replace(front, ":sts:", ":iam:", 1) + ":role/" + role, true
}

// exists is advised, for what can be there already.
func (c *connection) exists(err error, hint, missing string) error {
	var said smithy.APIError
	if errors.As(err, &said) && (said.ErrorCode() == "ConflictException" || strings.Contains(said.ErrorMessage(), "already exists")) {
		return hinted{errors.New(said.ErrorMessage()), hint}
	}
	return c.advised(err, missing)
}

// told is text for a terminal, line by line: an error may quote what somebody else chose.
func told(text string) string {
	shown := strings.Split(text, "\n")
	for i, line := range shown {
		shown[i] = tabbed(line)
	}
	return strings.Join(shown, "\n")
}

// tabbed is plain, for what is in no table: tabs stay, as stack traces have them.
func tabbed(line string) string { return strings.ReplaceAll(plain(line), `\x09`, "\t") }
