package main

import (
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// The tests of this file set variables that the AWS SDK reads, so they are not parallel.

// --backend aws cannot be run here. What it shares with the others can: the
// SDK's own endpoint variables lead it to a platform of ours, and a stand-in for
// Google's People API is not needed to come as far as the link.
func TestBackendAWSAsFarAsTheLink(t *testing.T) {
	p := servertest.Start(t)
	t.Setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", p.URL())
	t.Setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL", p.URL())
	env := ownSignIn(p)
	env["GATEWAY_ROLE_ARN"] = testRole
	for name, value := range googleEnv {
		env[name] = value
	}
	r := situation{env: env, file: credentialsOf(p)}.play(t, "--backend", "aws")
	if !strings.HasPrefix(r.await(`\[1/7\].*\n`), "[1/7] configuration        Amazon Bedrock AgentCore in us-east-1 at "+p.URL()+", Google\n") {
		t.Error("the first line does not say where it is")
	}
	newBrowser(t, p, demoidp.Ada).arrive(r.await(`Sign in first: (http\S+)\n`))
	r.link()
	r.interrupt()
	r.fails(exitCancelled, "stopped", "")
	if left := inventory(t, p.Control); len(left) != 1 || left[0] != "provider sayhello-google" {
		t.Errorf("there is %v", left)
	}
}

// Who has done eval "$(onbehalf env)" and runs the embedded platform gets the
// embedded one, and its credentials.
func TestEmbeddedIgnoresTheEnvironment(t *testing.T) {
	t.Setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", "http://127.0.0.1:1")
	t.Setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL", "http://127.0.0.1:1")
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "another")
	t.Setenv("AWS_PROFILE", "somebody")
	t.Setenv("AWS_CONFIG_FILE", metadata(t, "not a config file ["))
	situation{file: "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\nAWS_SECRET_ACCESS_KEY=third\n"}.play(t).greets("Ada Lovelace")
}

func TestBackendWithoutCredentials(t *testing.T) {
	p := servertest.Start(t)
	_, args := at(p)
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	situation{}.play(t, args...).fails(exitFailed, "there are no AWS credentials", "onbehalf env")
	for what, test := range map[string]struct{ file, message string }{
		"a key that is not known":       {"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\nAWS_SECRET_ACCESS_KEY=x\n", "UnrecognizedClientException"},
		"a profile that does not fit":   {"AWS_PROFILE=nobody\n", "nobody"},
		"a token that was not issued":   {"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\nAWS_SECRET_ACCESS_KEY=x\nAWS_SESSION_TOKEN=y\n", "Exception"},
		"a file that is somewhere else": {"AWS_SHARED_CREDENTIALS_FILE=/nowhere\nAWS_PROFILE=onbehalf\n", "onbehalf"},
	} {
		t.Run(what, func(t *testing.T) {
			r := situation{file: test.file}.play(t, args...)
			r.fails(exitFailed, test.message, "onbehalf env")
		})
	}
	situation{file: credentialsOf(p)}.play(t, "--backend", "http://127.0.0.1:1", "--demo-provider", p.DemoURL()).fails(exitFailed, "refused", "--backend")
	nothingLeft(t, p)
}
