package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/client"
)

// A session's files are there again when it comes back, after a stop, a crash, and a
// restart of the platform. No other session sees them, and they go with the runtime.
func TestFilesOutliveTheirSession(t *testing.T) {
	t.Parallel()
	h := startHosting(t)
	a := h.host("keeper", goAgent(t, "agents/hostile"), func(r *createRuntime) {
		r.FilesystemConfigurations = []control.FilesystemConfiguration{
			&control.FilesystemConfigurationMemberSessionStorage{Value: control.SessionStorageConfiguration{MountPath: aws.String("/mnt/data")}}}
	})
	mine, other := session("mine"), session("other")
	const empty, notes = `"a folder: "`, `"a file: buy bread"`
	folder, file := map[string]any{"do": "read", "path": "/mnt/data"}, map[string]any{"do": "read", "path": "/mnt/data/notes"}
	if said := a.say(call{session: mine, user: "ada", payload: folder}); said != empty {
		t.Errorf("a new session finds %s", said)
	}
	a.doFor(mine, "ada", map[string]any{"do": "write", "path": "/mnt/data/notes", "text": "buy bread"}, nil)
	if said := a.say(call{session: other, user: "ada", payload: folder}); said != empty {
		t.Errorf("another session finds %s", said)
	}

	stop := &bedrockagentcore.StopRuntimeSessionInput{AgentRuntimeArn: &a.arn, RuntimeSessionId: &mine}
	if _, err := h.client.StopRuntimeSession(t.Context(), stop); err != nil {
		t.Fatal(err)
	}
	if said := a.back(call{session: mine, user: "bob", payload: folder}); said != empty {
		t.Errorf("another user of the same id finds %s", said)
	}
	if _, err := h.client.StopRuntimeSession(t.Context(), stop); err != nil {
		t.Fatal(err)
	}
	if said := a.back(call{session: mine, user: "ada", payload: file}); said != notes {
		t.Errorf("after a stop: %s", said)
	}

	_, _ = a.try(call{session: mine, user: "ada", payload: map[string]any{"do": "crash"}})
	if said := a.back(call{session: mine, user: "ada", payload: file}); said != notes {
		t.Errorf("after a crash: %s", said)
	}

	h.stop()
	h.platform = startPlatformIn(t, h.data, h.flags...)
	h.own = client.New(h.aws)
	if said := a.say(call{session: mine, user: "ada", payload: file}); said != notes {
		t.Errorf("after a restart: %s", said)
	}

	if _, err := h.control.DeleteAgentRuntime(t.Context(), &bedrockagentcorecontrol.DeleteAgentRuntimeInput{AgentRuntimeId: &a.id}); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "what it stored is gone", func() bool {
		left, err := os.ReadDir(filepath.Join(h.data, "agents", "storage"))
		return err == nil && len(left) == 0
	})
}

// back calls a session that has been ended until its next life answers.
func (a *hosted) back(c call) (said string) {
	a.t.Helper()
	eventually(a.t, time.Minute, "the session begins afresh", func() bool {
		var err error
		said, err = a.try(c)
		return err == nil
	})
	return said
}
