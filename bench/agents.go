package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/client"
)

const sessionHeader = "X-Amzn-Bedrock-Agentcore-Runtime-Session-Id"

// hostedAgent is the agent of the measurements, on the platform and bare.
type hostedAgent struct {
	*stage
	binary string
	path   string // of its invocations
}

func newHostedAgent(ctx context.Context) (*hostedAgent, error) {
	s, err := newStage(ctx)
	if err != nil {
		return nil, err
	}
	a := &hostedAgent{stage: s}
	if a.binary, err = build(ctx, s.dir, "agent", "./bench/agent"); err == nil {
		err = a.put(ctx)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return a, nil
}

// put makes a runtime of the agent.
func (a *hostedAgent) put(ctx context.Context) error {
	program, err := os.ReadFile(a.binary)
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	header := &zip.FileHeader{Name: "agent", Method: zip.Deflate}
	header.SetMode(0o755)
	entry, err := z.CreateHeader(header)
	if err == nil {
		_, err = entry.Write(program)
	}
	if err = errors.Join(err, z.Close()); err != nil {
		return err
	}
	loaded, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"), config.WithBaseEndpoint(a.platform.url),
		config.WithSharedCredentialsFiles([]string{filepath.Join(a.dir, "data", "credentials")}), config.WithSharedConfigFiles(nil), config.WithSharedConfigProfile("onbehalf"))
	if err != nil {
		return err
	}
	code, err := client.New(loaded).PutAgentCode(ctx, &client.PutAgentCodeInput{Code: bytes.NewReader(archive.Bytes())})
	if err != nil {
		return err
	}
	made, err := a.control.CreateAgentRuntime(ctx, &bedrockagentcorecontrol.CreateAgentRuntimeInput{
		AgentRuntimeName: aws.String("bench"), RoleArn: aws.String("arn:aws:iam::000000000000:role/onbehalf-default"),
		NetworkConfiguration: &types.NetworkConfiguration{NetworkMode: types.NetworkModePublic},
		AgentRuntimeArtifact: &types.AgentRuntimeArtifactMemberCodeConfiguration{Value: types.CodeConfiguration{
			Code: &types.CodeMemberS3{Value: types.S3Location{Bucket: code.Bucket, Prefix: code.Prefix}}, Runtime: "EXECUTABLE", EntryPoint: []string{"agent"},
		}},
	})
	if err != nil {
		return err
	}
	a.path = "/runtimes/" + url.QueryEscape(*made.AgentRuntimeArn) + "/invocations"
	for range 500 {
		got, err := a.control.GetAgentRuntime(ctx, &bedrockagentcorecontrol.GetAgentRuntimeInput{AgentRuntimeId: made.AgentRuntimeId})
		switch {
		case err != nil:
			return err
		case got.Status == types.AgentRuntimeStatusReady:
			return nil
		case got.Status != types.AgentRuntimeStatusCreating:
			return fmt.Errorf("the runtime is %s: %s", got.Status, aws.ToString(got.FailureReason))
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("the runtime is not ready after 10 s")
}

// invocation is a call of a session, signed for whichever side it goes to.
func (a *hostedAgent) invocation(base, session string, body []byte) func(context.Context) (*http.Request, error) {
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	return func(ctx context.Context) (*http.Request, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+a.path, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(sessionHeader, session)
		return r, signer.SignHTTP(ctx, a.credentials, r, hash, "bedrock-agentcore", "us-east-1", time.Now())
	}
}

// sessionID makes an id as long as the API wants it.
func sessionID(number int) string { return fmt.Sprintf("bench-session-%026d", number) }

// bare starts the agent by itself, as a process of this machine, and tells how long it took until it answered.
func (a *hostedAgent) bare(ctx context.Context) (base string, took time.Duration, stop func(), err error) {
	address, err := freeAddress()
	if err != nil {
		return "", 0, nil, err
	}
	began := time.Now()
	c := exec.CommandContext(ctx, a.binary)
	c.Env = append(os.Environ(), "PORT="+address[strings.LastIndex(address, ":")+1:])
	if err := c.Start(); err != nil {
		return "", 0, nil, err
	}
	stop = func() { _ = c.Process.Kill(); _ = c.Wait() }
	for time.Since(began) < 10*time.Second {
		if response, err := http.Get("http://" + address + "/ping"); err == nil {
			_ = response.Body.Close()
			return "http://" + address, time.Since(began), stop, nil
		}
		time.Sleep(200 * time.Microsecond)
	}
	stop()
	return "", 0, nil, fmt.Errorf("the agent does not answer")
}

// benchAgents is InvokeAgentRuntime on a warm session, beside a reverse proxy before the same agent.
func benchAgents(ctx context.Context, s settings) ([]result, error) {
	a, err := newHostedAgent(ctx)
	if err != nil {
		return nil, err
	}
	defer a.close()
	base, _, stop, err := a.bare(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	proxy, err := startChild(ctx, "child-proxy", base)
	if err != nil {
		return nil, err
	}
	defer proxy.stop()
	body := []byte(`{"prompt":"What is the weather now?"}`)
	sunny := func(body []byte) error {
		if !bytes.Contains(body, []byte("sunny")) {
			return fmt.Errorf("not the answer: %.300s", body)
		}
		return nil
	}
	client := newClient(s.connections)
	ours := &load{client: client, make: a.invocation(a.platform.url, sessionID(0), body), check: sunny}
	theirs := &load{client: client, make: a.invocation(proxy.url, sessionID(0), body), check: sunny}
	many, proxied, err := compare(ctx, s, s.connections, ours, theirs)
	if err != nil {
		return nil, err
	}
	stages, err := a.profiled(ctx, s, "agents", ours)
	if err != nil {
		return nil, err
	}
	direct := &load{client: client, make: a.invocation(base, sessionID(0), body), check: sunny}
	single, alone, err := compare(ctx, s, 1, ours, direct)
	if err != nil {
		return nil, err
	}
	ratio, added := many.rate/proxied.rate, single.p50-alone.p50
	rows := []result{{
		what: fmt.Sprintf("InvokeAgentRuntime on a warm session, %d connections", s.connections), aim: "0.6 of the reverse proxy's requests/s",
		measured: fmt.Sprintf("%.2f (%.0f of %.0f requests/s; p50 %s, p99 %s)", ratio, many.rate, proxied.rate, many.p50.Round(time.Microsecond), many.p99.Round(time.Microsecond)),
		met:      ratio >= 0.6, notes: stages,
	}, {
		what: "InvokeAgentRuntime, added p50 over a direct call, 1 connection", aim: "at most 0.3 ms",
		measured: fmt.Sprintf("%s (%s through the platform, %s directly)", added.Round(time.Microsecond), single.p50.Round(time.Microsecond), alone.p50.Round(time.Microsecond)),
		met:      added <= 300*time.Microsecond,
	}}
	for _, further := range []func(context.Context) (result, error){a.benchFirst, a.benchStream, a.benchLaunch} {
		row, err := further(ctx)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

const firstCalls = 21 // and launches a third of it

// benchFirst is a session's first call, beside the agent's own start.
func (a *hostedAgent) benchFirst(ctx context.Context) (result, error) {
	var first, own []time.Duration
	for number := range firstCalls {
		l := &load{client: newClient(1), make: a.invocation(a.platform.url, sessionID(1+number), []byte(`{}`))}
		began := time.Now()
		if err := l.once(ctx); err != nil {
			return result{}, err
		}
		first = append(first, time.Since(began))
		_, took, stop, err := a.bare(ctx)
		if err != nil {
			return result{}, err
		}
		stop()
		own = append(own, took)
	}
	slices.Sort(first)
	slices.Sort(own)
	one, start := first[len(first)/2], own[len(own)/2]
	return result{
		what: "first invocation of a new session", aim: "the agent's own start plus at most 100 ms",
		measured: fmt.Sprintf("%s more (%s, worst of %d %s; the agent by itself %s)", (one - start).Round(100*time.Microsecond), one.Round(100*time.Microsecond), len(first), first[len(first)-1].Round(100*time.Microsecond), start.Round(100*time.Microsecond)),
		met:      one-start <= 100*time.Millisecond,
	}, nil
}

// benchStream is how much memory of a platform that has just started an answer of 100 MB takes.
func (a *hostedAgent) benchStream(ctx context.Context) (result, error) {
	a.platform.stop() // so that no room is left from the load before
	if err := a.start(ctx); err != nil {
		return result{}, err
	}
	warm := &load{client: newClient(1), make: a.invocation(a.platform.url, sessionID(0), []byte(`{}`))}
	for range 100 {
		if err := warm.once(ctx); err != nil {
			return result{}, err
		}
	}
	before, err := residentMemory(a.platform.Process.Pid)
	if err != nil {
		return result{}, err
	}
	// 5 sets the highest resident memory so far to what it is now.
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", a.platform.Process.Pid), []byte("5"), 0o200); err != nil {
		return result{}, err
	}
	r, err := a.invocation(a.platform.url, sessionID(0), []byte(`{"megabytes":100}`))(ctx)
	if err != nil {
		return result{}, err
	}
	began := time.Now()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return result{}, err
	}
	defer response.Body.Close()
	size, err := io.Copy(io.Discard, response.Body)
	if err != nil || size != 100<<20 {
		return result{}, fmt.Errorf("%d bytes of a stream of 100 MB: %w", size, err)
	}
	took := time.Since(began)
	highest, err := memoryOf(a.platform.Process.Pid, "VmHWM:")
	if err != nil {
		return result{}, err
	}
	growth := float64(highest-before) / 1000
	return result{
		what: "streaming 100 MB: growth of the platform's memory (RSS)", aim: "at most 10 MB",
		measured: fmt.Sprintf("%.1f MB (from %.1f; %.0f MB/s)", growth, float64(before)/1000, 104.8576/took.Seconds()), met: growth <= 10,
	}, nil
}

// benchLaunch is `onbehalf agent launch` of a small Go program that has changed, its packages compiled before.
func (a *hostedAgent) benchLaunch(ctx context.Context) (result, error) {
	binary, err := build(ctx, a.dir, "onbehalf", "./cmd/onbehalf")
	if err != nil {
		return result{}, err
	}
	folder := filepath.Join(a.dir, "launched")
	source, err := os.ReadFile("bench/agent/main.go")
	if err == nil {
		err = errors.Join(os.Mkdir(folder, 0o700), os.WriteFile(filepath.Join(folder, "main.go"), source, 0o600),
			os.WriteFile(filepath.Join(folder, "go.mod"), []byte("module launched\n\ngo 1.26\n"), 0o600))
	}
	if err != nil {
		return result{}, err
	}
	run := func(args ...string) error {
		c := exec.CommandContext(ctx, binary, append(args, "--data", filepath.Join(a.dir, "data"), "--output", "json")...)
		c.Dir = folder
		out, err := c.CombinedOutput()
		var told struct{ Status string }
		if err == nil && args[1] == "launch" && (json.Unmarshal(out, &told) != nil || told.Status != "READY") {
			err = errors.New("not READY")
		}
		if err != nil {
			return fmt.Errorf("onbehalf %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	if err := run("agent", "configure", "--non-interactive", "--name", "launched"); err != nil {
		return result{}, err
	}
	var times []time.Duration
	for number := range 1 + firstCalls/3 {
		if err := os.WriteFile(filepath.Join(folder, "version.go"), fmt.Appendf(nil, "package main\n\nconst version = %d\n\nfunc init() { println(version) }\n", number), 0o600); err != nil {
			return result{}, err
		}
		began := time.Now()
		if err := run("agent", "launch"); err != nil {
			return result{}, err
		}
		if number > 0 { // that one compiled the packages
			times = append(times, time.Since(began))
		}
	}
	slices.Sort(times)
	took := times[len(times)/2]
	return result{what: "agent launch of a Go program, build included", aim: "at most 2 s to READY", measured: took.Round(time.Millisecond).String(), met: took <= 2*time.Second}, nil
}
