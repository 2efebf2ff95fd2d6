package e2e

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/smithy-go"

	"github.com/onbehalf/onbehalf/client"
	"github.com/onbehalf/onbehalf/e2e/chatmodel"
	"github.com/onbehalf/onbehalf/internal/runtime/process"
)

const (
	defaultRole = "arn:aws:iam::000000000000:role/onbehalf-default"
	keyProvider = "openai-apikey-provider"
	modelKey    = "sk-story-4Qm2nX9vT7cK1pR8wZ5yB3hL6jD0fG" // of the model that stands in
)

// hosting is a platform that hosts agents, with a model that stands in for OpenAI's beside it.
type hosting struct {
	*platform
	t        *testing.T
	own      *client.Client // of our own operations
	model    *chatmodel.Server
	modelURL string // as sessions reach it
}

// isolation is why this machine hosts no agents; nil where it does.
var isolation = sync.OnceValue(func() error {
	_, err := process.New(context.Background())
	return err
})

// needHosting skips where the kernel gives no namespaces. No `make deps` mends
// that, so `make test` passes over it as well; deps says so.
func needHosting(t *testing.T) {
	t.Helper()
	if err := isolation(); err != nil {
		t.Skipf("skipped: %v", err)
	}
}

func startHostingWithoutKey(t *testing.T, flags ...string) *hosting {
	t.Helper()
	needHosting(t)
	model := &chatmodel.Server{Key: modelKey}
	served := httptest.NewServer(model)
	t.Cleanup(served.Close)
	where := "host.onbehalf.internal:" + served.URL[strings.LastIndex(served.URL, ":")+1:]
	h := &hosting{
		platform: startPlatform(t, append(flags, "--agent-egress-allow", where)...), t: t, model: model, modelURL: "http://" + where,
	}
	h.own = client.New(h.aws)
	return h
}

// startHosting is startHostingWithoutKey, and the model's key in the vault.
func startHosting(t *testing.T, flags ...string) *hosting {
	t.Helper()
	h := startHostingWithoutKey(t, flags...)
	name, key := keyProvider, modelKey
	if _, err := h.control.CreateApiKeyCredentialProvider(t.Context(), &bedrockagentcorecontrol.CreateApiKeyCredentialProviderInput{Name: &name, ApiKey: &key}); err != nil {
		t.Fatal(err)
	}
	return h
}

// code is what a runtime is made of.
type code struct {
	archive []byte
	runtime control.AgentManagedRuntimeType
	entry   []string
}

// executable is the value of AgentManagedRuntimeType that is this server's own.
const executable control.AgentManagedRuntimeType = "EXECUTABLE"

var built sync.Map // source -> func() (path string, err error)

// binary builds a Go program, once for all stories.
func binary(t testing.TB, source string) string {
	t.Helper()
	build, _ := built.LoadOrStore(source, sync.OnceValues(func() (string, error) {
		path := filepath.Join(filepath.Dir(onbehalfBinary), "agent-"+filepath.Base(source))
		c := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, ".")
		c.Dir, c.Env = source, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s does not build: %w\n%s", source, err, out)
		}
		return path, nil
	}))
	path, err := build.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// goAgent is a Go program as an agent's code.
func goAgent(t testing.TB, source string) code {
	t.Helper()
	return code{archive: zipped(t, map[string]string{"agent": binary(t, source)}), runtime: executable, entry: []string{"agent"}}
}

// zipped is pack that has to succeed.
func zipped(t testing.TB, sources map[string]string) []byte {
	t.Helper()
	archive, err := pack(sources)
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

// pack makes an archive of files and folders; a folder's content goes below the name, or to the top for "".
func pack(sources map[string]string) ([]byte, error) {
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.BestSpeed) })
	put := func(name, path string, info fs.FileInfo) error {
		header, err := zip.FileInfoHeader(info)
		if err != nil {
			return err
		}
		header.Name, header.Method = filepath.ToSlash(name), zip.Deflate
		entry, err := w.CreateHeader(header)
		if err != nil {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(entry, file)
		return err
	}
	for name, source := range sources {
		err := filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := os.Stat(path) // what a link leads to
			if err != nil || !info.Mode().IsRegular() {
				return err
			}
			inside, err := filepath.Rel(source, path)
			if err != nil {
				return err
			}
			return put(filepath.Join(name, inside), path, info)
		})
		if err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return archive.Bytes(), err
}

// hosted is an agent on a platform.
type hosted struct {
	*hosting
	arn, id string
}

type createRuntime = bedrockagentcorecontrol.CreateAgentRuntimeInput

// host puts an agent on the platform and waits until it is READY.
func (h *hosting) host(name string, c code, change ...func(*createRuntime)) *hosted {
	h.t.Helper()
	made := h.create(name, c, change...)
	if status, why := made.settled(); status != control.AgentRuntimeStatusReady {
		h.t.Fatalf("the runtime %s is %s: %s", name, status, why)
	}
	return made
}

// create is host without waiting.
func (h *hosting) create(name string, c code, change ...func(*createRuntime)) *hosted {
	h.t.Helper()
	put, err := h.own.PutAgentCode(h.t.Context(), &client.PutAgentCodeInput{Code: bytes.NewReader(c.archive)})
	if err != nil {
		h.t.Fatalf("PutAgentCode: %v", err)
	}
	request := &createRuntime{
		AgentRuntimeName: &name, RoleArn: aws.String(defaultRole),
		AgentRuntimeArtifact: &control.AgentRuntimeArtifactMemberCodeConfiguration{Value: control.CodeConfiguration{
			Code: &control.CodeMemberS3{Value: control.S3Location{Bucket: put.Bucket, Prefix: put.Prefix}}, Runtime: c.runtime, EntryPoint: c.entry,
		}},
		NetworkConfiguration: &control.NetworkConfiguration{NetworkMode: control.NetworkModePublic},
		EnvironmentVariables: map[string]string{"OPENAI_BASE_URL": h.modelURL + "/v1"},
	}
	for _, f := range change {
		f(request)
	}
	made, err := h.control.CreateAgentRuntime(h.t.Context(), request)
	if err != nil {
		h.t.Fatalf("CreateAgentRuntime: %v", err)
	}
	return &hosted{hosting: h, arn: *made.AgentRuntimeArn, id: *made.AgentRuntimeId}
}

func (a *hosted) settled() (status control.AgentRuntimeStatus, why string) {
	a.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		got, err := a.control.GetAgentRuntime(a.t.Context(), &bedrockagentcorecontrol.GetAgentRuntimeInput{AgentRuntimeId: &a.id})
		if err != nil {
			a.t.Fatal(err)
		}
		if got.Status != control.AgentRuntimeStatusCreating && got.Status != control.AgentRuntimeStatusUpdating || time.Now().After(deadline) {
			return got.Status, aws.ToString(got.FailureReason)
		}
	}
}

// session makes an id as long as the API wants it.
func session(name string) string {
	return name + "-" + strings.Repeat("0", max(0, 40-len(name)-1))
}

// call is an invocation.
type call struct {
	session, user string
	payload       any
	accept        string                   // "" is JSON and events
	client        *bedrockagentcore.Client // nil is the root key's
}

// begin invokes and answers what comes, while it comes.
func (a *hosted) begin(ctx context.Context, c call) (*bedrockagentcore.InvokeAgentRuntimeOutput, error) {
	body, err := json.Marshal(c.payload)
	if err != nil {
		return nil, err
	}
	if c.client == nil {
		c.client = a.client
	}
	if c.accept == "" {
		c.accept = one + ", " + events
	}
	request := &bedrockagentcore.InvokeAgentRuntimeInput{AgentRuntimeArn: &a.arn, Payload: body, ContentType: aws.String(one), Accept: &c.accept}
	if c.session != "" {
		request.RuntimeSessionId = &c.session
	}
	if c.user != "" {
		request.RuntimeUserId = &c.user
	}
	return c.client.InvokeAgentRuntime(ctx, request)
}

// try invokes and reads the answer to its end.
func (a *hosted) try(c call) (string, error) {
	ctx, cancel := context.WithTimeout(a.t.Context(), 2*time.Minute)
	defer cancel()
	answer, err := a.begin(ctx, c)
	if err != nil {
		return "", err
	}
	defer answer.Response.Close()
	content, err := io.ReadAll(answer.Response)
	return string(content), err
}

// say is try that has to succeed.
func (a *hosted) say(c call) string {
	a.t.Helper()
	answer, err := a.try(c)
	if err != nil {
		a.t.Fatalf("invoking with %v: %v\nthe agent's log:\n%s", c.payload, err, a.log(c.session))
	}
	return answer
}

// do tells the agent of agents/hostile what to do, and decodes what it answers.
func (a *hosted) do(session string, payload map[string]any, answer any) {
	a.t.Helper()
	a.doFor(session, "", payload, answer)
}

// doFor is do for a user.
func (a *hosted) doFor(session, user string, payload map[string]any, answer any) {
	a.t.Helper()
	text := a.say(call{session: session, user: user, payload: payload})
	if answer == nil {
		return
	}
	if err := json.Unmarshal([]byte(text), answer); err != nil {
		a.t.Fatalf("%v answered %s: %v", payload, text, err)
	}
}

// refused wants an invocation to end with an error of the name, and answers its message.
func (a *hosted) refused(c call, want string) (message string) {
	a.t.Helper()
	answer, err := a.try(c)
	var problem smithy.APIError
	if !errors.As(err, &problem) || problem.ErrorCode() != want {
		a.t.Errorf("invoking with %v: answer %q, error %v; want %s", c.payload, answer, err, want)
		return ""
	}
	return problem.ErrorMessage()
}

// log is what a session's agent has printed so far; of all sessions for "".
func (a *hosted) log(session string) string {
	request := &client.GetAgentRuntimeLogsInput{AgentRuntimeId: &a.id}
	if session != "" {
		request.RuntimeSessionId = &session
	}
	var text strings.Builder
	for {
		page, err := a.own.GetAgentRuntimeLogs(context.WithoutCancel(a.t.Context()), request)
		if err != nil {
			return text.String() + "(" + err.Error() + ")"
		}
		for _, event := range page.Events {
			text.WriteString(aws.ToString(event.Message) + "\n")
		}
		if len(page.Events) == 0 {
			return text.String()
		}
		request.NextToken = page.NextToken
	}
}

func (a *hosted) stop(session string) error {
	_, err := a.client.StopRuntimeSession(a.t.Context(), &bedrockagentcore.StopRuntimeSessionInput{AgentRuntimeArn: &a.arn, RuntimeSessionId: &session})
	return err
}

// eventually waits for something that others bring about.
func eventually(t testing.TB, within time.Duration, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("not within %v: %s", within, what)
			return
		}
	}
}

// descendants are the processes that the platform has started and that are still
// there, with theirs; by number, with what they run.
func (p *platform) descendants() map[int]string {
	p.t.Helper()
	if p.process == nil {
		return nil
	}
	parents, lines := map[int]int{}, map[int]string{}
	for _, process := range processTable(p.t) {
		parents[process.id], lines[process.id] = process.parent, process.line
	}
	found := map[int]string{}
	for id := range parents {
		for parent := parents[id]; parent > 1; parent = parents[parent] {
			if parent == p.process.Process.Pid {
				found[id] = lines[id]
				break
			}
		}
	}
	return found
}

// noProcesses waits until nothing of any session is left.
func (p *platform) noProcesses() {
	p.t.Helper()
	eventually(p.t, time.Minute, "the sessions' processes have ended", func() bool { return len(p.descendants()) == 0 })
}

type processEntry struct {
	id, parent int
	began      string // in the clock of the machine: a number is used again, a moment is not
	line       string
}

// processTable are the machine's processes; those that have ended and wait for their parent are not among them.
func processTable(t testing.TB) (all []processEntry) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 20 || fields[0] == "Z" {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		line, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		all = append(all, processEntry{id, parent, fields[19], strings.ReplaceAll(string(line), "\x00", " ")})
	}
	return all
}

// sessions are those of the runtime that run now.
func (a *hosted) sessions() []client.AgentRuntimeSession {
	a.t.Helper()
	listed, err := a.own.ListAgentRuntimeSessions(a.t.Context(), &client.ListAgentRuntimeSessionsInput{AgentRuntimeId: &a.id})
	if err != nil {
		a.t.Fatal(err)
	}
	return listed.Sessions
}
