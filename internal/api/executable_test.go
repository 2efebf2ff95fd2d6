package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/internal/api"
)

// Of a runtime's interpreters AWS's SDK knows all but one, which is ours: a
// program that is in the archive. When AWS takes the name, this test says so.
func TestRuntimesOfCode(t *testing.T) {
	t.Parallel()
	var theirs []string
	for _, value := range control.AgentManagedRuntimeType("").Values() {
		theirs = append(theirs, string(value))
	}
	if slices.Contains(theirs, string(api.AgentManagedRuntimeTypeExecutable)) || len(theirs) < 6 {
		t.Errorf("the SDK has %v", theirs)
	}
	bucket, prefix := "onbehalf-code-000000000000", "sha256/"+strings.Repeat("0f", 32)+".zip"
	complaints := func(runtime string) []string {
		request := new(api.CreateAgentRuntimeRequest)
		body := fmt.Sprintf(`{"agentRuntimeName":"a","roleArn":"arn:aws:iam::000000000000:role/r","agentRuntimeArtifact":{"codeConfiguration":{
			"code":{"s3":{"bucket":%q,"prefix":%q}},"runtime":%q,"entryPoint":["./agent"]}}}`, bucket, prefix, runtime)
		if absent, err := api.Decode([]byte(body), request); err != nil || len(absent) > 0 {
			t.Fatal(err, absent)
		}
		var names []string
		for _, field := range request.Validate() {
			names = append(names, field.Name)
		}
		return names
	}
	for _, runtime := range append(theirs, "EXECUTABLE") {
		if got := complaints(runtime); len(got) > 0 {
			t.Errorf("%s is complained of: %v", runtime, got)
		}
	}
	if got := complaints("EXECUTABLES"); !slices.Equal(got, []string{"agentRuntimeArtifact.codeConfiguration.runtime"}) {
		t.Errorf("an unknown runtime: %v", got)
	}
}

// What PutAgentCode answers keeps the patterns of its own model, and those of
// the members that it is put into.
func TestWhatPutAgentCodeAnswers(t *testing.T) {
	t.Parallel()
	if !strings.Contains(string(api.ServiceModel), fmt.Sprintf(`"max": %d,`, api.AgentCodeLimit)) {
		t.Errorf("the model has another limit than %d", api.AgentCodeLimit)
	}
	answer := api.PutAgentCodeResponse{Bucket: "onbehalf-code-000000000000", Prefix: "sha256/" + strings.Repeat("0", 64) + ".zip", Sha256: strings.Repeat("0", 64), Size: api.AgentCodeLimit}
	want := `{"bucket":"onbehalf-code-000000000000","prefix":"` + answer.Prefix + `","sha256":"` + answer.Sha256 + `","size":262144000}`
	if got := string(answer.AppendJSON(nil)); got != want {
		t.Errorf("got %s", got)
	}
}
