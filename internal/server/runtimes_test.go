package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/smithy-go"

	"github.com/onbehalf/onbehalf/internal/servertest"
	"github.com/onbehalf/onbehalf/internal/store"
)

// image is an artifact that needs nothing, and that nothing here can run.
var image = &types.AgentRuntimeArtifactMemberContainerConfiguration{Value: types.ContainerConfiguration{ContainerUri: aws.String("000000000000.dkr.ecr.us-east-1.amazonaws.com/agent:1")}}

func makeRuntime(t *testing.T, c *bedrockagentcorecontrol.Client, name string, with ...func(*bedrockagentcorecontrol.CreateAgentRuntimeInput)) *bedrockagentcorecontrol.CreateAgentRuntimeOutput {
	t.Helper()
	in := &bedrockagentcorecontrol.CreateAgentRuntimeInput{AgentRuntimeName: &name, RoleArn: aws.String(defaultRole), AgentRuntimeArtifact: image}
	for _, change := range with {
		change(in)
	}
	made, err := c.CreateAgentRuntime(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func codeOf(err error) string {
	var problem smithy.APIError
	if errors.As(err, &problem) {
		return problem.ErrorCode()
	}
	return fmt.Sprint(err)
}

// A runtime and its endpoints have tags, by their ARNs, and nothing between them has.
func TestTagsOfRuntimes(t *testing.T) {
	p := servertest.Start(t)
	ctx := t.Context()
	made := makeRuntime(t, p.Control, "tagged", func(in *bedrockagentcorecontrol.CreateAgentRuntimeInput) { in.Tags = map[string]string{"team": "blue"} })
	endpoint := *made.AgentRuntimeArn + "/runtime-endpoint/DEFAULT"
	tagsOf := func(arn string) string {
		got, err := p.Control.ListTagsForResource(ctx, &bedrockagentcorecontrol.ListTagsForResourceInput{ResourceArn: &arn})
		if err != nil {
			return codeOf(err)
		}
		return fmt.Sprint(got.Tags)
	}
	if got := tagsOf(*made.AgentRuntimeArn); got != "map[team:blue]" {
		t.Error(got)
	}
	if got := tagsOf(endpoint); got != "map[]" {
		t.Error(got)
	}
	for _, arn := range []string{*made.AgentRuntimeArn, endpoint} {
		if _, err := p.Control.TagResource(ctx, &bedrockagentcorecontrol.TagResourceInput{ResourceArn: &arn, Tags: map[string]string{"stage": "test", "of": arn[len(arn)-7:]}}); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Control.UntagResource(ctx, &bedrockagentcorecontrol.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{"stage"}}); err != nil {
			t.Fatal(err)
		}
	}
	if got := tagsOf(endpoint); got != "map[of:DEFAULT]" {
		t.Error(got)
	}
	for _, arn := range []string{
		*made.AgentRuntimeArn + "x", *made.AgentRuntimeArn + "/runtime-endpoint/other", *made.AgentRuntimeArn + "/DEFAULT",
		strings.Replace(*made.AgentRuntimeArn, "us-east-1", "us-west-2", 1),
	} {
		if got := tagsOf(arn); got != "ResourceNotFoundException" && got != "ValidationException" {
			t.Errorf("%s: %s", arn, got)
		}
	}
	if got := tagsOf(strings.Replace(endpoint, "000000000000", tenant, 1)); got != "AccessDeniedException" {
		t.Errorf("another account's: %s", got)
	}
}

// Policies of a runtime and of its endpoint are kept apart, and go with it.
func TestResourcePoliciesOfRuntimes(t *testing.T) {
	p := servertest.Start(t)
	ctx := t.Context()
	made := makeRuntime(t, p.Control, "guarded")
	arn := *made.AgentRuntimeArn
	endpoint := arn + "/runtime-endpoint/DEFAULT"
	document := func(arn string) (string, error) {
		got, err := p.Control.GetResourcePolicy(ctx, &bedrockagentcorecontrol.GetResourcePolicyInput{ResourceArn: &arn})
		if err != nil {
			return "", err
		}
		return *got.Policy, nil
	}
	for _, on := range []string{arn, endpoint} {
		if err := putResourcePolicy(ctx, p.Control, on, `{"Effect":"Allow","Principal":"*","Action":"bedrock-agentcore:InvokeAgentRuntime","Resource":"`+on+`"}`); err != nil {
			t.Fatalf("%s: %v", on, err)
		}
		if got, err := document(on); err != nil || !strings.Contains(got, on) {
			t.Errorf("%s: %q, %v", on, got, err)
		}
	}
	refusedWith(t, "an action that endpoints have not", putResourcePolicy(ctx, p.Control, endpoint, `{"Effect":"Allow","Principal":"*","Action":"bedrock-agentcore:InvokeGateway","Resource":"`+endpoint+`"}`), "none that a runtime-endpoint has")
	for _, on := range []string{arn + "x", arn + "/runtime-endpoint/other", arn + "/runtime-endpoint/DEFAULT/x"} {
		if err := putResourcePolicy(ctx, p.Control, on, `{"Effect":"Allow","Principal":"*","Action":"bedrock-agentcore:InvokeAgentRuntime","Resource":"`+on+`"}`); err == nil {
			t.Errorf("%s got a policy", on)
		}
	}
	if _, err := p.Control.DeleteAgentRuntime(ctx, &bedrockagentcorecontrol.DeleteAgentRuntimeInput{AgentRuntimeId: made.AgentRuntimeId}); err != nil {
		t.Fatal(err)
	}
	for _, on := range []string{arn, endpoint} {
		if _, err := document(on); codeOf(err) != "ResourceNotFoundException" {
			t.Errorf("%s: %v", on, err)
		}
	}
	if rows := resourcePolicyRows(t, p); rows != 0 {
		t.Errorf("%d policies are left of a runtime that is gone", rows)
	}
}

func resourcePolicyRows(t *testing.T, p *servertest.Platform) (rows int64) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Path: filepath.Join(p.Config.Data, "onbehalf.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(t.Context(), func(tx *store.Tx) error {
		return tx.QueryRow("SELECT count(*) FROM resource_policies").Scan(&rows)
	}); err != nil {
		t.Fatal(err)
	}
	return rows
}

// Whoever names a role needs the right to pass it, to the service and for runtimes.
func TestPassingARoleToARuntime(t *testing.T) {
	p := servertest.Start(t)
	o := operator(t, p)
	document := func(condition string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"bedrock-agentcore:*","Resource":"*"},
			{"Effect":"Allow","Action":"iam:PassRole","Resource":"` + defaultRole + `","Condition":` + condition + `}]}`
	}
	try := func(name, document string) error {
		in := &bedrockagentcorecontrol.CreateAgentRuntimeInput{AgentRuntimeName: &name, RoleArn: aws.String(defaultRole), AgentRuntimeArtifact: image}
		_, err := with(p, user(t, o, "000000000000", name, document)).CreateAgentRuntime(t.Context(), in)
		return err
	}
	refusedWith(t, "without the right", try("none", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"bedrock-agentcore:*","Resource":"*"}]}`), "iam:PassRole")
	refusedWith(t, "for another service", try("lambda", document(`{"StringEquals":{"iam:PassedToService":"lambda.amazonaws.com"}}`)), "iam:PassRole")
	refusedWith(t, "for gateways", try("gate", document(`{"ArnLike":{"iam:AssociatedResourceArn":"arn:aws:bedrock-agentcore:us-east-1:000000000000:gateway/*"}}`)), "iam:PassRole")
	if err := try("right", document(`{"StringEquals":{"iam:PassedToService":"bedrock-agentcore.amazonaws.com"},"ArnLike":{"iam:AssociatedResourceArn":"arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/*"}}`)); err != nil {
		t.Error(err)
	}
	name, role := "unknown", "arn:aws:iam::000000000000:role/nobody"
	_, err := p.Control.CreateAgentRuntime(t.Context(), &bedrockagentcorecontrol.CreateAgentRuntimeInput{AgentRuntimeName: &name, RoleArn: &role, AgentRuntimeArtifact: image})
	refusedWith(t, "a role that is not there", err, "does not exist")
}

// The identity of a runtime is seen where identities are listed, and belongs to
// the runtime: nobody else gets tokens for it, changes it or deletes it.
func TestIdentityOfARuntimeIsItsOwn(t *testing.T) {
	p := servertest.Start(t)
	ctx := t.Context()
	made := makeRuntime(t, p.Control, "own")
	if got, want := *made.WorkloadIdentityDetails.WorkloadIdentityArn, "workload-identity-directory/default/workload-identity/"+*made.AgentRuntimeId; !strings.HasSuffix(got, want) {
		t.Errorf("%s, want …%s", got, want)
	}
	seen := func() (names []string) {
		listed, err := p.Control.ListWorkloadIdentities(ctx, &bedrockagentcorecontrol.ListWorkloadIdentitiesInput{})
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range listed.WorkloadIdentities {
			names = append(names, *one.Name)
		}
		return names
	}
	if got := seen(); len(got) != 1 || got[0] != *made.AgentRuntimeId {
		t.Errorf("listed: %v", got)
	}
	for what, act := range map[string]func(context.Context) error{
		"GetWorkloadAccessToken": func(ctx context.Context) error {
			_, err := p.Data.GetWorkloadAccessToken(ctx, &bedrockagentcore.GetWorkloadAccessTokenInput{WorkloadName: made.AgentRuntimeId})
			return err
		},
		"GetWorkloadAccessTokenForUserId": func(ctx context.Context) error {
			_, err := p.Data.GetWorkloadAccessTokenForUserId(ctx, &bedrockagentcore.GetWorkloadAccessTokenForUserIdInput{WorkloadName: made.AgentRuntimeId, UserId: aws.String("ada")})
			return err
		},
		"DeleteWorkloadIdentity": func(ctx context.Context) error {
			_, err := p.Control.DeleteWorkloadIdentity(ctx, &bedrockagentcorecontrol.DeleteWorkloadIdentityInput{Name: made.AgentRuntimeId})
			return err
		},
	} {
		if err := act(ctx); err == nil || !strings.Contains(err.Error(), "linked to a service") {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Where its users come back to is said here, and only here.
	back := []string{"https://app.example.com/back"}
	if updated, err := p.Control.UpdateWorkloadIdentity(ctx, &bedrockagentcorecontrol.UpdateWorkloadIdentityInput{Name: made.AgentRuntimeId, AllowedResourceOauth2ReturnUrls: back}); err != nil ||
		!slices.Equal(updated.AllowedResourceOauth2ReturnUrls, back) {
		t.Errorf("UpdateWorkloadIdentity: %v", err)
	}
	if _, err := p.Control.DeleteAgentRuntime(ctx, &bedrockagentcorecontrol.DeleteAgentRuntimeInput{AgentRuntimeId: made.AgentRuntimeId}); err != nil {
		t.Fatal(err)
	}
	if got := seen(); len(got) != 0 {
		t.Errorf("left of a runtime that is gone: %v", got)
	}
}

// What a runtime's environment holds is in no record of the audit, and not in the
// database in clear.
func TestEnvironmentOfARuntimeIsNowhereInClear(t *testing.T) {
	p := servertest.Start(t)
	ctx := t.Context()
	const canary = "canary-5d1c9a7e40"
	made := makeRuntime(t, p.Control, "sealed", func(in *bedrockagentcorecontrol.CreateAgentRuntimeInput) {
		in.EnvironmentVariables = map[string]string{"TOKEN": canary}
		in.ClientToken = aws.String(strings.Repeat("token", 8))
	})
	if _, err := p.Control.UpdateAgentRuntime(ctx, &bedrockagentcorecontrol.UpdateAgentRuntimeInput{AgentRuntimeId: made.AgentRuntimeId, AgentRuntimeArtifact: image, RoleArn: aws.String(defaultRole),
		EnvironmentVariables: map[string]string{"TOKEN": canary, "AWS_ACCESS_KEY_ID": canary}}); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("a refused update says %v", err)
	}
	got, err := p.Control.GetAgentRuntime(ctx, &bedrockagentcorecontrol.GetAgentRuntimeInput{AgentRuntimeId: made.AgentRuntimeId})
	if err != nil || got.EnvironmentVariables["TOKEN"] != canary {
		t.Errorf("its owner reads %v, %v", got, err)
	}
	for _, action := range []string{"bedrock-agentcore:CreateAgentRuntime", "bedrock-agentcore:UpdateAgentRuntime", "bedrock-agentcore:GetAgentRuntime"} {
		records := recorded(t, p, action)
		if len(records) == 0 {
			t.Errorf("%s is not recorded", action)
		}
		for _, record := range records {
			if !json.Valid([]byte(record)) || strings.Contains(record, canary) {
				t.Errorf("%s: %s", action, record)
			}
		}
	}
	if err := filepath.WalkDir(p.Config.Data, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(canary)) {
			t.Errorf("the environment is in clear in %s", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
