//go:build linux

package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/onbehalf/onbehalf/internal/runtime/process/inside"
)

// A platform that is not root isolates as well: the same tests, run by nobody. They
// have bombs in them, and no control groups: a group of ours is around the whole.
func TestWithoutRoot(t *testing.T) {
	t.Parallel()
	d, err := shared()
	if err != nil || os.Geteuid() != 0 || d.groups == nil {
		t.Skip("skipped: this needs root, namespaces and control groups")
	}
	const nobody = 65534
	folder, err := os.MkdirTemp("", "without-root-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	program := filepath.Join(folder, "process.test")
	place(t, program)
	if err := os.Chown(folder, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	// It begins when it is in its group.
	command := exec.Command("sh", "-c", `read go; exec "$0" -test.v -test.run '^(TestASession|TestAttacks|TestIsolation|TestBombs|TestLimits|TestDaemon|TestStop|TestStorage|TestStorageThatIsFull|TestShares)$'`, program)
	command.Dir, command.Env = folder, []string{"TMPDIR=" + folder, "HOME=" + folder, "PATH=" + os.Getenv("PATH")}
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out := &output{}
	command.Stdout, command.Stderr = out, out
	begin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	g, err := d.groups.add("without-root", command.Process.Pid, inside.Limits{Memory: 2 << 30, Processes: 2000, CPU: 2})
	if err != nil {
		_ = command.Process.Kill()
		t.Fatal(err)
	}
	_, _ = begin.Write([]byte("go\n"))
	err = command.Wait()
	g.remove()
	said := out.String()
	if err != nil || !strings.HasSuffix(said, "PASS\n") || strings.Contains(said, "SKIP") {
		t.Errorf("%v %s", err, said)
	}
}
