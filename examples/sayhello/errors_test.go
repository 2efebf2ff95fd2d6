package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go"
)

// Each error says what happened and what to do about it: no Problem is made without either.
func TestEachProblemHasAHint(t *testing.T) {
	t.Parallel()
	found := 0
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	files := token.NewFileSet()
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, entry.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if name, ok := literal.Type.(*ast.Ident); !ok || name.Name != "Problem" {
				return true
			}
			found++
			for _, member := range []string{"What", "Hint"} {
				if !has(literal, member) {
					t.Errorf("%s: a Problem without %s", files.Position(literal.Pos()), member)
				}
			}
			return true
		})
		ast.Inspect(file, func(n ast.Node) bool { // fromAWS(err, kind, what, hint)
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "fromAWS" && empty(call.Args[3]) {
				t.Errorf("%s: fromAWS without a hint", files.Position(call.Pos()))
			}
			return true
		})
	}
	if found < 50 {
		t.Errorf("only %d problems were found", found)
	}
}

func has(literal *ast.CompositeLit, member string) bool {
	for _, element := range literal.Elts {
		if pair, ok := element.(*ast.KeyValueExpr); ok && pair.Key.(*ast.Ident).Name == member {
			return !empty(pair.Value)
		}
	}
	return false
}

func empty(e ast.Expr) bool {
	basic, ok := e.(*ast.BasicLit)
	return ok && basic.Value == `""`
}

func TestReport(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		code int
		text string
	}{
		{nil, exitDone, ""},
		{&GatewayError{Problem{What: "a", Hint: "b"}}, exitFailed, "sayhello: a\nhint: b\n"},
		{&ConfigurationError{Problem{What: "a", Cause: errors.New("c\n d"), Hint: "b"}}, exitMisuse, "sayhello: a: c d\nhint: b\n"},
		{stopped(), exitCancelled, "sayhello: stopped: cancelled\nhint: " + hintStopped + "\n"},
		{fmt.Errorf("outer: %w", &OAuthError{Problem{What: "code=abcdef", Cause: errors.New("Bearer abcdef"), Hint: "state=abcdef"}}), exitFailed, "sayhello: outer: code=[redacted] Bearer [redacted]\nhint: state=[redacted]\n"},
	} {
		var out bytes.Buffer
		if code := report(test.err, &out); code != test.code || out.String() != strings.Replace(test.text, "[redacted] Bearer", "[redacted] Bearer", 1) {
			t.Errorf("%v: %d %q", test.err, code, out.String())
		}
	}
}

// How AWS's codes are sorted.
func TestFromAWS(t *testing.T) {
	t.Parallel()
	api := func(code string) error {
		return fmt.Errorf("operation error: %w", &smithy.GenericAPIError{Code: code, Message: "words"})
	}
	for _, code := range []string{"UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationTokenException", "ExpiredTokenException"} {
		wants[*CredentialsError](t, fromAWS(api(code), gatewayProblem, "what", "hint"), "what: "+code+": words", "onbehalf env")
	}
	wants[*CredentialsError](t, fromAWS(api("AccessDeniedException"), gatewayProblem, "what", "hint"), "what: AccessDeniedException: words", "permission")
	wants[*GatewayError](t, fromAWS(api("ThrottlingException"), gatewayProblem, "what", "hint"), "what: ThrottlingException", "limits requests")
	wants[*IdentityError](t, fromAWS(api("ValidationException"), identityProblem, "what", "hint"), "what: ValidationException: words", "hint")
	wants[*OAuthError](t, fromAWS(errors.New("x"), oauthProblem, "what", "hint"), "what: x", "hint")
	if err := fromAWS(fmt.Errorf("x: %w", context.Canceled), oauthProblem, "what", "hint"); !errors.Is(err, errCancelled) {
		t.Errorf("got %v", err)
	}
	if fromAWS(nil, oauthProblem, "what", "hint") != nil {
		t.Error("nothing is something")
	}
}

// Why a consent of the right person could not be completed.
func TestNotCompleted(t *testing.T) {
	t.Parallel()
	api := func(code, message string) error { return &smithy.GenericAPIError{Code: code, Message: message} }
	wants[*OAuthError](t, notCompleted(api("ValidationException", "The token endpoint refused the request: redirect_uri_mismatch.")), "redirect URI", hintRedirectURI)
	wants[*OAuthError](t, notCompleted(api("ValidationException", "The token endpoint refused the request: invalid_client.")), "OAuth configuration", hintInvalidOAuth)
	wants[*OAuthError](t, notCompleted(api("AccessDeniedException", "Invalid or expired session.")), "could not be bound to you", hintBinding)
	wants[*OAuthError](t, notCompleted(api("InternalServerException", "oh")), "could not be completed", hintAgain)
	wants[*CredentialsError](t, notCompleted(api("ExpiredTokenException", "oh")), "could not be completed", hintCredentials)
}

func TestNoConsent(t *testing.T) {
	t.Parallel()
	over, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	<-over.Done()
	wants[*OAuthError](t, noConsent(over, 2*time.Minute, false), "never reached", "--callback-port")
	wants[*OAuthError](t, noConsent(over, 2*time.Minute, true), "no consent within 2m0s", "did not finish")
	if !errors.Is(noConsent(over, time.Minute, true), errTimedOut) {
		t.Error("it is not errTimedOut")
	}
}

// What is told must open nothing.
func TestRedact(t *testing.T) {
	t.Parallel()
	const jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"
	for _, text := range []string{
		"Get \"http://127.0.0.1:7080/identities/oauth2/authorize?request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3Asecret-value\": refused",
		"session urn:ietf:params:oauth:request_uri:secret-value is over",
		"/callback?session_id=secret-value&state=secret-value", "?code=secret-value", "client_secret=secret-value",
		`{"access_token": "secret-value", "token_type": "Bearer"}`, `{"refresh_token":"secret-value"}`, `{"id_token":"secret-value"}`,
		"Authorization: Bearer secret-value", "bearer  secret-value",
		jwt, "token " + jwt + ".", "ya29.secret-value", "GOCSPX-secret-value", "1//0secret-value", "4/0Asecret-value",
		"urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3Asecret-value",
	} {
		if got := redact(text); strings.Contains(got, "secret-value") || strings.Contains(got, "eyJ") {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	for _, text := range []string{
		"https response error StatusCode: 404, RequestID: 92f0bacb-8fdf-489c-bc40-2ce01538584c", "no consent within 10m0s",
		"Register http://127.0.0.1:7080/identities/oauth2/callback/adf9838c-e4c7-8b80-854e-03a746cf6c31", "errorcode=7",
	} {
		if got := redact(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	if got := safe(errors.New("two\nlines \x1b[31mred")); got != "two lines [31mred" {
		t.Errorf("got %q", got)
	}
}
