package servertest_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/client"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// build makes an archive with a program of the repository, once for all tests.
func build(t *testing.T, source string) []byte {
	t.Helper()
	made, _ := builds.LoadOrStore(source, sync.OnceValues(func() ([]byte, error) {
		folder, err := os.MkdirTemp("", "onbehalf-agent-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(folder)
		command := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(folder, "agent"), source)
		command.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := command.CombinedOutput(); err != nil {
			return out, err
		}
		program, err := os.ReadFile(filepath.Join(folder, "agent"))
		if err != nil {
			return nil, err
		}
		return archive(map[string][]byte{"agent": program})
	}))
	content, err := made.(func() ([]byte, error))()
	if err != nil {
		t.Fatalf("%s: %v\n%s", source, err, content)
	}
	return content
}

var builds sync.Map

func archive(files map[string][]byte) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range files {
		header := &zip.FileHeader{Name: name, Method: zip.Store}
		header.SetMode(0o755)
		w, err := z.CreateHeader(header)
		if err == nil {
			_, err = w.Write(content)
		}
		if err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return b.Bytes(), err
}

// hosted is a platform that hosts one agent.
type hosted struct {
	*servertest.Platform
	id, arn string
}

// host makes a runtime of the code, which is READY.
func host(t *testing.T, p *servertest.Platform, name string, code []byte, change ...func(*bedrockagentcorecontrol.CreateAgentRuntimeInput)) hosted {
	t.Helper()
	put, err := client.New(p.AWS).PutAgentCode(t.Context(), &client.PutAgentCodeInput{Code: bytes.NewReader(code)})
	if err != nil {
		t.Fatal(err)
	}
	in := &bedrockagentcorecontrol.CreateAgentRuntimeInput{
		AgentRuntimeName: &name, RoleArn: aws.String("arn:aws:iam::" + server.DefaultAccount + ":role/onbehalf-default"),
		NetworkConfiguration: &control.NetworkConfiguration{NetworkMode: control.NetworkModePublic},
		AgentRuntimeArtifact: &control.AgentRuntimeArtifactMemberCodeConfiguration{Value: control.CodeConfiguration{
			Code: &control.CodeMemberS3{Value: control.S3Location{Bucket: put.Bucket, Prefix: put.Prefix}}, EntryPoint: []string{"agent"}, Runtime: "EXECUTABLE",
		}},
	}
	for _, f := range change {
		f(in)
	}
	made, err := p.Control.CreateAgentRuntime(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if made.Status != control.AgentRuntimeStatusReady {
		got, _ := p.Control.GetAgentRuntime(t.Context(), &bedrockagentcorecontrol.GetAgentRuntimeInput{AgentRuntimeId: made.AgentRuntimeId})
		if why := aws.ToString(got.FailureReason); strings.Contains(why, "cannot be isolated") {
			t.Skip(why) // make deps does not mend a kernel; it says so
		}
		t.Fatalf("%s: %s", made.Status, aws.ToString(got.FailureReason))
	}
	return hosted{p, *made.AgentRuntimeId, *made.AgentRuntimeArn}
}

// session is a session id of the length that is asked for.
func session(name string) *string {
	return aws.String(name + strings.Repeat("-", 1) + strings.Repeat("0123456789", 4))
}

func (h hosted) invoke(t *testing.T, session *string, payload string, change ...func(*bedrockagentcore.InvokeAgentRuntimeInput)) (string, error) {
	t.Helper()
	in := &bedrockagentcore.InvokeAgentRuntimeInput{AgentRuntimeArn: &h.arn, RuntimeSessionId: session, Payload: []byte(payload), ContentType: aws.String("application/json")}
	for _, f := range change {
		f(in)
	}
	out, err := h.Data.InvokeAgentRuntime(t.Context(), in)
	if err != nil {
		return "", err
	}
	defer out.Response.Close()
	body, err := io.ReadAll(out.Response)
	return string(body), err
}

func asUser(user string) func(*bedrockagentcore.InvokeAgentRuntimeInput) {
	return func(in *bedrockagentcore.InvokeAgentRuntimeInput) { in.RuntimeUserId = &user }
}

// An agent is put, made, and answers: it knows its session and has a token for its user.
func TestHostedAgentAnswers(t *testing.T) {
	p := servertest.Start(t)
	h := host(t, p, "echo", build(t, "../../e2e/agents/echo"))
	body, err := h.invoke(t, session("first"), `{"do":"echo","text":"hello"}`, asUser("ada"))
	if err != nil {
		t.Fatal(err)
	}
	var said map[string]string
	if err := json.Unmarshal([]byte(body), &said); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if said["text"] != "hello" || said["session"] != *session("first") || said["token"] == "" {
		t.Errorf("%v", said)
	}
}
