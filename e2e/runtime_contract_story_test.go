package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/onbehalf/onbehalf/client"
)

// echoAgents are the agents of TestAgentContract, as code for the runtime.
var echoAgents = map[string]func(t *testing.T) code{
	"Python": func(t *testing.T) code {
		c := pythonAgent(t)
		c.archive = zipped(t, map[string]string{"": filepath.Join(filepath.Dir(onbehalfBinary), "strands"), "echo_agent.py": "clients/echo_agent.py"})
		c.entry = []string{"echo_agent.py", "8080"}
		return c
	},
	"TypeScript": func(t *testing.T) code {
		c := typescriptAgent(t)
		c.archive = zipped(t, map[string]string{"": filepath.Join(filepath.Dir(onbehalfBinary), "typescript"), "echo_agent.mjs": "clients/echo_agent.mjs"})
		c.entry = []string{"echo_agent.mjs", "8080"}
		return c
	},
	"Go": func(t *testing.T) code { return goAgent(t, "agents/echo") },
}

// TestAgentContractOnTheRuntime holds the three servers to the contract of
// TestAgentContract as callers see it through the runtime.
func TestAgentContractOnTheRuntime(t *testing.T) {
	t.Parallel()
	for language, agent := range echoAgents {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			c := agent(t)
			h := startHosting(t)
			a := h.host("echo", c, func(r *createRuntime) {
				r.RequestHeaderConfiguration = &control.RequestHeaderConfigurationMemberRequestHeaderAllowlist{Value: []string{"X-Amzn-Bedrock-AgentCore-Runtime-Custom-Team"}}
			})
			one := session("contract")
			a.checkEcho(t, one)

			if said := a.refused(call{session: one, user: "ada", payload: map[string]string{"do": "fail"}, accept: "application/json"}, "RuntimeClientError"); !strings.Contains(said, "no luck") || !strings.Contains(said, "500") {
				t.Errorf("an agent that fails: %q", said)
			}
			a.checkHostedStream(t, one)
			if text, err := a.try(call{session: one, user: "ada", payload: map[string]string{"do": "break"}}); err != nil || !strings.Contains(text, "number") || !strings.Contains(text, "no luck") {
				t.Errorf("a stream that breaks: %q %v", text, err)
			}
			a.checkHostedTask(t, one)
		})
	}
}

// checkEcho: the agent knows its session and its user's token, and gets the header
// that is allowed, but none that the caller made up.
func (a *hosted) checkEcho(t *testing.T, one string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	body, _ := json.Marshal(map[string]string{"do": "echo", "text": "größe <1>"})
	kind, accept, user := "application/json", "application/json", "ada"
	answer, err := a.client.InvokeAgentRuntime(ctx, &bedrockagentcore.InvokeAgentRuntimeInput{
		AgentRuntimeArn: &a.arn, Payload: body, ContentType: &kind, Accept: &accept, RuntimeSessionId: &one, RuntimeUserId: &user,
	}, func(o *bedrockagentcore.Options) {
		for name, value := range map[string]string{
			"X-Amzn-Bedrock-AgentCore-Runtime-Custom-Team": "red", "WorkloadAccessToken": "forged", "OAuth2CallbackUrl": "https://forged.example",
			"X-Amzn-Bedrock-AgentCore-Runtime-Request-Id": "forged",
		} {
			o.APIOptions = append(o.APIOptions, smithyhttp.SetHeaderValue(name, value))
		}
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, a.log(one))
	}
	defer answer.Response.Close()
	text, err := io.ReadAll(answer.Response)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if got["text"] != "größe <1>" || got["session"] != one || got["custom"] != "red" {
		t.Errorf("the agent knows of its call: %v", got)
	}
	if got["token"] == "" || got["request"] == "" || got["token"] == "forged" || got["request"] == "forged" || strings.Contains(got["callback"], "forged") {
		t.Errorf("what says who asks is the caller's, or missing: request %q, callback %q", got["request"], got["callback"])
	}
}

func (a *hosted) checkHostedStream(t *testing.T, one string) {
	t.Helper()
	answer, err := a.begin(t.Context(), call{session: one, user: "ada", payload: map[string]string{"do": "stream"}})
	if err != nil {
		t.Error(err)
		return
	}
	defer answer.Response.Close()
	count := 0
	for lines := bufio.NewScanner(answer.Response); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "data: ") {
			continue
		}
		if count++; count < 3 { // the next one is made when this one has arrived
			a.next(one)
		}
	}
	if count != 3 {
		t.Errorf("%d events", count)
	}
}

// next lets a stream or a task of the session go on.
func (a *hosted) next(one string) {
	a.t.Helper()
	a.say(call{session: one, user: "ada", payload: map[string]string{"do": "next"}})
}

// checkHostedTask: while work goes on after the answer, the session is active.
func (a *hosted) checkHostedTask(t *testing.T, one string) {
	t.Helper()
	if text := a.say(call{session: one, user: "ada", payload: map[string]string{"do": "task"}}); !strings.Contains(text, "begun") {
		t.Errorf("a task: %s", text)
	}
	status := func() client.AgentRuntimeSessionStatus {
		all := a.sessions()
		if len(all) != 1 {
			t.Fatalf("%d sessions", len(all))
		}
		return all[0].Status
	}
	eventually(t, time.Minute, "the session is active while its task goes on", func() bool { return status() == "ACTIVE" })
	a.next(one)
	eventually(t, time.Minute, "the session is idle when its task has ended", func() bool { return status() == "IDLE" })
}
