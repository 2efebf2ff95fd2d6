package servertest_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// A backup has agents and their code in it: where it is restored they run again,
// and their environment is sealed on the way.
func TestHostedAgentsMove(t *testing.T) {
	source := servertest.Start(t)
	noise := make([]byte, 5<<19) // several parts
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	code, err := archive(map[string][]byte{"agent": []byte("#!/bin/sh\n"), "data": noise})
	if err != nil {
		t.Fatal(err)
	}
	const canary = "canary-of-an-agents-environment"
	h := host(t, source, "moving", code, func(in *bedrockagentcorecontrol.CreateAgentRuntimeInput) {
		in.EnvironmentVariables = map[string]string{"TOKEN": canary}
	})
	ctx, id := t.Context(), &h.id
	was, err := source.Control.GetAgentRuntime(ctx, &bedrockagentcorecontrol.GetAgentRuntimeInput{AgentRuntimeId: id})
	if err != nil {
		t.Fatal(err)
	}
	o, err := server.OpenOperator(ctx, server.Storage{Data: source.Config.Data})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "onbehalf.backup")
	_, err = o.Backup(ctx, path)
	if err := errors.Join(err, o.Close()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || len(content) < len(noise) {
		t.Fatalf("the backup has %d bytes, %v", len(content), err)
	}
	if bytes.Contains(content, []byte(canary)) {
		t.Error("the backup has an agent's environment in clear")
	}

	data := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"key-encryption-key", "credentials"} {
		kept, err := os.ReadFile(filepath.Join(source.Config.Data, name))
		if err := errors.Join(err, os.WriteFile(filepath.Join(data, name), kept, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := server.Restore(ctx, server.Storage{Data: data}, path, false); err != nil {
		t.Fatal(err)
	}
	moved := servertest.Start(t, func(c *server.Config) { c.Data = data })
	got, err := moved.Control.GetAgentRuntime(ctx, &bedrockagentcorecontrol.GetAgentRuntimeInput{AgentRuntimeId: id})
	if err != nil || got.EnvironmentVariables["TOKEN"] != canary || got.Status != control.AgentRuntimeStatusReady {
		t.Fatalf("%+v, %v", got, err)
	}
	updated, err := moved.Control.UpdateAgentRuntime(ctx, &bedrockagentcorecontrol.UpdateAgentRuntimeInput{AgentRuntimeId: id, AgentRuntimeArtifact: was.AgentRuntimeArtifact, RoleArn: was.RoleArn})
	if err != nil {
		t.Fatal(err)
	}
	if updated.Status != control.AgentRuntimeStatusReady {
		got, _ := moved.Control.GetAgentRuntime(ctx, &bedrockagentcorecontrol.GetAgentRuntimeInput{AgentRuntimeId: id})
		t.Errorf("%s: %s", updated.Status, aws.ToString(got.FailureReason))
	}
}
