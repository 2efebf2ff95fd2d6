//go:build linux

package process_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/runtime/process"
)

// A kernel that gives no namespaces is named, with what it said, to whoever makes a runtime.
func TestWithoutNamespaces(t *testing.T) {
	const within = "ONBEHALF_TEST_WITHOUT_NAMESPACES"
	if os.Getenv(within) != "" {
		_, err := process.New(t.Context())
		if err == nil {
			t.Fatal("sessions can be isolated where no namespace can be made")
		}
		for _, part := range []string{"sessions cannot be isolated on this machine: ", "no space left on device", "user.max_user_namespaces"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q lacks %q", err, part)
			}
		}
		return
	}
	t.Parallel()
	// Within a user namespace of its own, the limit can be set by whoever made it.
	inside := exec.Command("unshare", "--user", "--map-root-user", "sh", "-c", `echo 0 >/proc/sys/user/max_user_namespaces || exit 42; exec "$0" -test.run='^TestWithoutNamespaces$' -test.count=1`, os.Args[0])
	inside.Env = append(os.Environ(), within+"=1")
	said, err := inside.CombinedOutput()
	if inside.ProcessState == nil || inside.ProcessState.ExitCode() == 42 || !strings.Contains(string(said), "PASS") && !strings.Contains(string(said), "FAIL") {
		t.Skipf("skipped: no user namespace can be made here: %v %s", err, said)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}
