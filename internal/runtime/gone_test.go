package runtime

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
)

func ended(t *testing.T, p *inProcess) bool {
	t.Helper()
	select {
	case <-p.ended:
		return true
	case <-time.After(time.Minute):
		return false
	}
}

// Sessions end with what they were opened through: an endpoint, a version, the
// runtime. Those that were opened through something else go on.
func TestSessionsEndWithWhatTheyAreOf(t *testing.T) {
	t.Parallel()
	h := serving(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	made := h.create(t, "clerk", nil)
	id, ctx := made.AgentRuntimeId, t.Context()
	if _, err := h.CreateAgentRuntimeEndpoint(ctx, h.admin(), &api.CreateAgentRuntimeEndpointRequest{AgentRuntimeId: id, Name: secret.New("prod")}); err != nil {
		t.Fatal(err)
	}
	call := func(session, qualifier string) int {
		t.Helper()
		response, _ := answer(t, h.sign(t, h.request(t, http.MethodPost, invocationsPath(made.AgentRuntimeArn)+"?qualifier="+qualifier, "{}", headerSession, session+strings.Repeat("0", 40)), "{}"))
		return response.StatusCode
	}
	of := func(i int) *inProcess {
		h.agents.mu.Lock()
		defer h.agents.mu.Unlock()
		return h.agents.living[i]
	}
	if a, b := call("default", "DEFAULT"), call("prod", "prod"); a != http.StatusOK || b != http.StatusOK {
		t.Fatalf("%d and %d", a, b)
	}
	if _, err := h.DeleteAgentRuntimeEndpoint(ctx, h.admin(), &api.DeleteAgentRuntimeEndpointRequest{AgentRuntimeId: id, EndpointName: secret.New("prod")}); err != nil {
		t.Fatal(err)
	}
	if !ended(t, of(1)) {
		t.Error("a session goes on whose endpoint is deleted")
	}
	if status := call("prod", "prod"); status != http.StatusNotFound {
		t.Errorf("a deleted endpoint answers %d", status)
	}
	if status := call("default", "DEFAULT"); status != http.StatusOK || h.agents.count() != 2 {
		t.Errorf("the other endpoint's session: %d, %d were started", status, h.agents.count())
	}

	h.update(t, id, nil)
	one := "1"
	if _, err := h.DeleteAgentRuntime(ctx, h.admin(), &api.DeleteAgentRuntimeRequest{AgentRuntimeId: id, AgentRuntimeVersion: &one}); err != nil {
		t.Fatal(err)
	}
	if !ended(t, of(0)) {
		t.Error("a session goes on whose version is deleted")
	}
	if status := call("second", "DEFAULT"); status != http.StatusOK {
		t.Fatal(status)
	}
	if _, err := h.DeleteAgentRuntime(ctx, h.admin(), &api.DeleteAgentRuntimeRequest{AgentRuntimeId: id}); err != nil {
		t.Fatal(err)
	}
	if !ended(t, of(2)) {
		t.Error("a session goes on whose runtime is deleted")
	}
	if status := call("second", "DEFAULT"); status != http.StatusNotFound {
		t.Errorf("a deleted runtime answers %d", status)
	}
}

// Code that is lost, of the database and of this machine, is told of where a
// session is to begin with it; putting it again mends it.
func TestLostCode(t *testing.T) {
	t.Parallel()
	h := serving(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	made := h.create(t, "clerk", nil)
	if err := h.db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec("DELETE FROM agent_code")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(h.codeFolder()); err != nil {
		t.Fatal(err)
	}
	response, body := h.invokes(t, made.AgentRuntimeArn, "{}")
	if response.StatusCode != http.StatusFailedDependency || !strings.Contains(body, "Put it again") {
		t.Errorf("%d %s", response.StatusCode, body)
	}
	h.artifact(t)
	if response, body := h.invokes(t, made.AgentRuntimeArn, "{}"); response.StatusCode != http.StatusOK {
		t.Errorf("after it was put again: %d %s", response.StatusCode, body)
	}
}
