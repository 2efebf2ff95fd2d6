//go:build linux

package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onbehalf/onbehalf/internal/runtime"
	"github.com/onbehalf/onbehalf/internal/runtime/process/inside"
)

// attacks are what a hostile agent tries. Each returns what it got: nil is success.
var attacks = map[string]func(about string) error{
	"environment of process 1": func(string) error { return readAll("/proc/1/environ") },
	"memory of process 1":      func(string) error { return readAll("/proc/1/mem") },
	"map of process 1":         func(string) error { return readAll("/proc/1/maps") },
	"files of process 1": func(string) error {
		_, err := os.ReadDir("/proc/1/fd")
		return err
	},
	"a descriptor of process 1": func(string) error {
		_, err := os.Readlink("/proc/1/fd/0")
		return err
	},
	"a file of process 1": func(string) error { return readAll("/proc/1/root/etc/passwd") },
	"killing process 1":   func(string) error { return syscall.Kill(1, syscall.SIGKILL) },
	// Process 1 watches over the session's memory where nothing else does.
	"limits of process 1":             func(string) error { return unix.Prlimit(1, unix.RLIMIT_AS, &unix.Rlimit{}, nil) },
	"limits of a thread of process 1": func(string) error { return unix.Prlimit(3, unix.RLIMIT_AS, &unix.Rlimit{}, nil) },
	"pace of process 1":               func(string) error { return unix.Setpriority(unix.PRIO_PROCESS, 1, 19) },
	"pace of all": func(string) error {
		if err := unix.Setpriority(unix.PRIO_USER, 0, 19); err != nil {
			return err
		}
		if nice, err := unix.Getpriority(unix.PRIO_PROCESS, 1); err != nil || nice != 1 { // as the system call has it: 20 less the pace
			return fmt.Errorf("process 1 has its own: %d %w", nice, err)
		}
		return nil
	},
	"processors of process 1": func(string) error {
		var one unix.CPUSet
		one.Set(0)
		return unix.SchedSetaffinity(1, &one)
	},
	"scheduling of process 1": func(string) error {
		return unix.SchedSetAttr(1, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
	},
	"more open files": func(string) error {
		var now unix.Rlimit
		_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &now)
		before := now.Cur
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: now.Max, Max: now.Max})
		_ = unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: now.Max, Max: now.Max}, nil)
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil || now.Cur <= before {
			return fmt.Errorf("still %d: %w", now.Cur, err)
		}
		return nil
	},
	"firewalls":            func(string) error { return socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER) },
	"ptrace":               func(string) error { return syscall.PtraceAttach(1) },
	"memory of another":    func(string) error { return call(unix.SYS_PROCESS_VM_READV, 1) },
	"a descriptor's theft": func(string) error { return call(unix.SYS_PIDFD_GETFD, 1) },
	"mount":                func(string) error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") },
	"remount":              func(string) error { return unix.Mount("", "/app", "", unix.MS_REMOUNT|unix.MS_BIND, "") },
	"unmount":              func(string) error { return unix.Unmount("/proc/sys", unix.MNT_DETACH) },
	"a tree of mounts": func(string) error {
		_, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE)
		return err
	},
	"chroot":           func(string) error { return unix.Chroot("/tmp") },
	"a user namespace": func(string) error { return unix.Unshare(unix.CLONE_NEWUSER) },
	"a user namespace by clone": func(string) error {
		c := exec.Command("/bin/true")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
		return c.Run()
	},
	"a namespace by clone3": func(string) error { return call(unix.SYS_CLONE3, 0) },
	"another's namespace":   func(string) error { return call(unix.SYS_SETNS, 0) },
	"raw socket":            func(string) error { return socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) },
	"packet socket":         func(string) error { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0) },
	"ping socket":           func(string) error { return socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP) },
	"the hypervisor":        func(string) error { return socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0) },
	"the kernel's ciphers":  func(string) error { return socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0) },
	"a key of the kernel": func(string) error {
		_, err := unix.AddKey("user", "x", []byte("x"), unix.KEY_SPEC_SESSION_KEYRING)
		return err
	},
	"reading a keyring": func(string) error {
		_, err := unix.KeyctlInt(unix.KEYCTL_DESCRIBE, unix.KEY_SPEC_SESSION_KEYRING, 0, 0, 0)
		return err
	},
	"bpf":             func(string) error { return call(unix.SYS_BPF, 0) },
	"perf":            func(string) error { return call(unix.SYS_PERF_EVENT_OPEN, 0) },
	"userfaultfd":     func(string) error { return call(unix.SYS_USERFAULTFD, 0) },
	"io_uring":        func(string) error { return call(unix.SYS_IO_URING_SETUP, 1) },
	"a kernel module": func(string) error { return call(unix.SYS_INIT_MODULE, 0) },
	"kexec":           func(string) error { return call(unix.SYS_KEXEC_LOAD, 0) },
	"reboot":          func(string) error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) },
	"the clock":       func(string) error { return unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: 1}) },
	"the kernel's log": func(string) error {
		_, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 100))
		return err
	},
	"becoming root":              func(string) error { return syscall.Setuid(0) },
	"a program that is root":     func(string) error { return setuidProgram() },
	"another group":              func(string) error { return syscall.Setgid(0) },
	"a device":                   func(string) error { return unix.Mknod("/tmp/disk", unix.S_IFBLK|0o600, 8<<8) },
	"/proc/sys":                  func(string) error { return os.WriteFile("/proc/sys/kernel/core_pattern", []byte("|/tmp/x"), 0) },
	"/proc/sys of the network":   func(string) error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) },
	"more user namespaces":       func(string) error { return os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("9"), 0) },
	"sysrq":                      func(string) error { return os.WriteFile("/proc/sysrq-trigger", []byte("b"), 0) },
	"the machine's memory":       func(string) error { return readAll("/proc/kcore") },
	"its own code":               func(string) error { return os.WriteFile("/app/agent", nil, 0o755) },
	"a file beside its code":     func(string) error { return os.WriteFile("/app/new", nil, 0o644) },
	"its code's times":           func(string) error { return os.Chtimes("/app/agent", time.Now(), time.Now()) },
	"the system":                 func(string) error { return os.WriteFile("/usr/bin/true", nil, 0o755) },
	"names of hosts":             func(string) error { return os.WriteFile("/etc/hosts", nil, 0o644) },
	"control groups":             func(string) error { _, err := os.ReadDir("/sys/fs/cgroup"); return err },
	"a file of the platform":     readAll,
	"a port of this machine":     dial("tcp"),
	"an abstract socket":         func(name string) error { return dial("unix")("@" + name) },
	"metadata":                   func(string) error { return dial("tcp")("169.254.169.254:80") },
	"the world":                  func(string) error { return dial("tcp")("192.0.2.1:443") },
	"the world, by the old way":  func(string) error { return dial("udp")("192.0.2.1:53") },
	"names in the world":         func(string) error { _, err := net.LookupHost("example.com"); return err },
	"a higher limit":             func(string) error { return unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}) },
	"being first in the machine": func(string) error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -5) },
}

func readAll(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buffer := make([]byte, 64)
	n, err := f.Read(buffer)
	if n > 0 {
		return nil
	}
	return fmt.Errorf("nothing there: %w", err)
}

func call(number, argument uintptr) error {
	if _, _, errno := unix.Syscall6(number, argument, 0, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func socket(family, kind, protocol int) error {
	_, err := unix.Socket(family, kind, protocol)
	return err
}

func dial(network string) func(string) error {
	return func(address string) error {
		c, err := net.DialTimeout(network, address, 2*time.Second)
		if err == nil {
			c.Close()
		}
		return err
	}
}

// setuidProgram runs one that would be root anywhere else.
func setuidProgram() error {
	for _, program := range []string{"/usr/bin/su", "/usr/bin/passwd", "/usr/bin/mount"} {
		info, err := os.Stat(program)
		if err != nil || info.Mode()&os.ModeSetuid == 0 {
			continue
		}
		c := exec.Command(program, "--help")
		if err := c.Start(); err != nil {
			return err
		}
		// It has not ended as long as nobody waits: its status can still be read.
		status, err := os.ReadFile("/proc/" + strconv.Itoa(c.Process.Pid) + "/status")
		_ = c.Wait()
		if err != nil || !strings.Contains(string(status), "\t1000\t1000\t1000\t1000") {
			return nil
		}
		return errors.New("it runs as the agent")
	}
	return errors.New("no such program here")
}

// emptySuccess are attacks that the system lets whoever is called root in a namespace
// carry out, without any effect: where the platform is not root, its agents are.
var emptySuccess = map[string]bool{
	"killing process 1":      true, // process 1 gets no signals from within
	"files of process 1":     true, // their numbers, and not what they are
	"becoming root":          true, // without a capability
	"another group":          true,
	"a program that is root": true,
}

// attack is an agent's handler.
func attack(w http.ResponseWriter, r *http.Request) {
	if err := attacks[r.FormValue("name")](r.FormValue("about")); err != nil {
		fmt.Fprint(w, "refused: ", err)
		return
	}
	fmt.Fprint(w, "DONE")
}

// What a hostile agent tries leads nowhere, and it is told so by the system's own words.
func TestAttacks(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "onbehalf.db")
	if err := os.WriteFile(secret, []byte("of the platform"), 0o644); err != nil {
		t.Fatal(err)
	}
	var listen net.ListenConfig
	port, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	abstract := "onbehalf-test-" + strconv.Itoa(os.Getpid())
	unixSocket, err := listen.Listen(t.Context(), "unix", "@"+abstract)
	if err != nil {
		t.Fatal(err)
	}
	defer unixSocket.Close()
	// What somebody left open in the platform is not handed on.
	left, err := unix.Open(secret, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(left)

	r := start(t)
	about := map[string]string{"a file of the platform": secret, "a port of this machine": port.Addr().String(), "an abstract socket": abstract}
	for name := range attacks {
		got := r.Ask(t, "/attack?"+query("name", name, "about", about[name]))
		if !strings.HasPrefix(got, "refused: ") && (ownUsers() || !emptySuccess[name]) {
			t.Errorf("%s: %s", name, got)
		}
	}
	out := &output{}
	line := `ls -l /proc/self/fd | grep -v pipe: | grep -v /dev/null | grep -v /proc/; ulimit -c; grep -E 'Seccomp:|CapPrm|CapInh|CapAmb' /proc/self/status; ulimit -c 0; ulimit -c; cat /proc/self/oom_score_adj`
	if _, err := r.Run(t.Context(), runtime.Command{Line: line, Timeout: time.Minute, Stdout: out, Stderr: out}); err != nil {
		t.Error(err)
	}
	said := out.String()
	t.Log(said)
	if strings.Contains(said, "onbehalf.db") || strings.Contains(said, "socket:") {
		t.Error("it was handed something that is not its own")
	}
	for _, want := range []string{"Seccomp:\t2", "CapPrm:\t0000000000000000", "CapInh:\t0000000000000000", "CapAmb:\t0000000000000000"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q", want)
		}
	}
}

// A core is written nowhere, however the agent sets its limit.
func TestNoCore(t *testing.T) {
	t.Parallel()
	var limit unix.Rlimit
	r := start(t)
	if _, err := fmt.Sscan(r.Ask(t, "/core"), &limit.Cur, &limit.Max); err != nil || limit.Cur != 1 || limit.Max != 1 {
		t.Errorf("%v %v", limit, err)
	}
}

func core(w http.ResponseWriter, _ *http.Request) {
	var limit unix.Rlimit
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Getrlimit(unix.RLIMIT_CORE, &limit)
	fmt.Fprint(w, limit.Cur, " ", limit.Max)
}

// ceiling is where a bomb gives up: a test must not take the machine when a limit fails.
const ceiling = 1 << 30

// bomb is a program that takes what there is of something.
func bomb(kind string) {
	switch kind {
	case "processes":
		for range 5000 {
			_ = exec.Command("/proc/self/exe", "bomb", "processes").Start()
		}
	case "shared memory":
		for taken := 0; taken < ceiling; taken += 16 << 20 {
			memory, err := unix.Mmap(-1, 0, 16<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
			if err != nil {
				return
			}
			for i := 0; i < len(memory); i += 4096 {
				memory[i] = 1
			}
		}
	case "memory without a place":
		fd, err := unix.MemfdCreate("x", 0)
		for taken := 0; err == nil && taken < ceiling; taken += 16 << 20 {
			_, err = unix.Write(fd, make([]byte, 16<<20))
		}
		if err == nil {
			os.Exit(9)
		}
	}
}

// Bombs hurt the session that has them. Its neighbour answers.
func TestBombs(t *testing.T) {
	t.Parallel()
	small := func(l *runtime.Launch) { l.Limits = runtime.Limits{Memory: 200 << 20, Processes: 100, Disk: 8 << 20} }
	neighbour := start(t, small, func(l *runtime.Launch) { l.Name += "-neighbour" })
	neighbour.Ask(t, "/hello")
	answers := func(t *testing.T) {
		t.Helper()
		begun := time.Now()
		if got := neighbour.Ask(t, "/hello"); !strings.HasPrefix(got, "hello") || time.Since(begun) > 20*time.Second {
			t.Errorf("its neighbour answers %q after %v", got, time.Since(begun))
		}
	}
	t.Run("processes", func(t *testing.T) {
		r := start(t, small, func(l *runtime.Launch) { l.Command = []string{"./agent", "bomb", "processes"} })
		time.Sleep(200 * time.Millisecond)
		answers(t)
		begun := time.Now()
		r.Stop(100 * time.Millisecond)
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("a fork bomb was ended after %v", took)
		}
	})
	for _, kind := range []string{"shared memory", "memory without a place"} {
		t.Run(kind, func(t *testing.T) {
			r := start(t, small, func(l *runtime.Launch) { l.Command = []string{"./agent", "bomb", kind} })
			select {
			case <-r.Ended():
			case <-time.After(time.Minute):
				t.Error("it goes on")
			}
			refused := kind == "memory without a place" && watched(t) && strings.Contains(r.End(), "exit code 0")
			if !refused && !strings.Contains(r.End(), "took more memory than its limit") {
				t.Error(r.End())
			}
			answers(t)
		})
	}
	t.Run("every folder", func(t *testing.T) {
		r := start(t, small, func(l *runtime.Launch) { l.Mounts = []string{"/mnt/data"} })
		r.Ask(t, "/hello")
		for _, folder := range []string{"/tmp", "/dev/shm", inside.HomeFolder, "/mnt/data"} {
			out := &output{}
			_, err := r.Run(t.Context(), runtime.Command{Line: "cat /dev/zero > " + folder + "/full; rm " + folder + "/full", Timeout: time.Minute, Stdout: out, Stderr: out})
			if err != nil || !strings.Contains(out.String(), "No space left") {
				t.Errorf("%s: %v %s", folder, err, out)
			}
		}
		answers(t)
		if got := r.Ask(t, "/hello"); !strings.HasPrefix(got, "hello") {
			t.Error(got)
		}
	})
}

// Whoever prints without end is read at a pace, and stops like anybody.
func TestOutputIsPaced(t *testing.T) {
	t.Parallel()
	counted := &counter{}
	printed := time.Now()
	r := start(t, func(l *runtime.Launch) { l.Command, l.Output = []string{"cat", "/dev/zero"}, counted })
	for counted.n.Load() < mostOutput { // as much as it may at once
		time.Sleep(10 * time.Millisecond)
	}
	begun := time.Now()
	r.Stop(0)
	took := time.Since(begun)
	if n, most := counted.n.Load(), int64((time.Since(printed).Seconds()+2)*mostOutput); n > most || took > 30*time.Second {
		t.Errorf("%d bytes, %d are allowed, and %v to stop", n, most, took)
	}
}

type counter struct{ n atomic.Int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}

// watched is whether sessions are bounded without control groups.
func watched(t *testing.T) bool {
	d, err := shared()
	return err == nil && d.groups == nil
}

// A daemon that has left its parents, its group and its terminal ends with the session.
func TestDaemon(t *testing.T) {
	t.Parallel()
	marker := "31" + strconv.Itoa(os.Getpid())
	r := start(t, func(l *runtime.Launch) {
		l.Command = []string{"sh", "-c", "trap '' TERM HUP; (setsid sh -c 'trap \"\" TERM HUP; setsid sleep " + marker + " & echo up; wait' &) ; while :; do sleep 0.1; done"}
	})
	sleeps := "sleep\x00" + marker + "\x00"
	for !strings.Contains(r.Said.String(), "up") || len(commandsWith(t, sleeps)) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	r.Stop(100 * time.Millisecond)
	if left := commandsWith(t, sleeps); len(left) > 0 {
		t.Errorf("%v go on", left)
	}
}

// commandsWith are the processes of this machine with a word in their command line.
func commandsWith(t *testing.T, word string) (pids []string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte(word)) && !bytes.Contains(text, []byte("process.test")) {
			pids = append(pids, path)
		}
	}
	return pids
}

// Two sessions use one port, and neither reaches the other's.
func TestPortsAreApart(t *testing.T) {
	t.Parallel()
	a := start(t, func(l *runtime.Launch) { l.Environment = []string{"GREETING=a"} })
	b := start(t, func(l *runtime.Launch) { l.Environment = []string{"GREETING=b"}; l.Name += "-b" })
	for r, want := range map[*running]string{a: " a", b: " b"} {
		if got := r.Ask(t, "/hello"); !strings.HasSuffix(got, want) {
			t.Error(got)
		}
		if got := r.Ask(t, "/get?url=http://127.0.0.1:8080/hello"); !strings.HasSuffix(got, want) {
			t.Error(got)
		}
	}
}

// A session that has all its connections to the platform open waits with the next,
// and nobody else does.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	arrived := make(chan struct{}, 2*maxConnections)
	r := start(t, func(l *runtime.Launch) {
		l.Platform = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { arrived <- struct{}{}; <-release })
	})
	r.Ask(t, "/hello")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_, _ = r.HTTP.Get("http://agent/flood?" + query("count", strconv.Itoa(maxConnections+20)))
	}()
	for range maxConnections {
		select {
		case <-arrived:
		case <-time.After(20 * time.Second):
			t.Fatal("they did not arrive")
		}
	}
	select {
	case <-arrived:
		t.Error("one too many arrived")
	case <-time.After(100 * time.Millisecond):
	}
	if got := r.Ask(t, "/hello"); !strings.HasPrefix(got, "hello") {
		t.Error(got)
	}
	close(release)
	for range 20 {
		select {
		case <-arrived:
		case <-ctx.Done():
		case <-time.After(20 * time.Second):
			t.Fatal("those who waited did not arrive")
		}
	}
}

func flood(w http.ResponseWriter, r *http.Request) {
	count, _ := strconv.Atoi(r.FormValue("count"))
	done := make(chan struct{})
	for range count {
		go func() {
			if response, err := http.Get("http://127.0.0.1:7079/"); err == nil {
				response.Body.Close()
			}
			done <- struct{}{}
		}()
	}
	for range count {
		<-done
	}
}

// ownUsers is whether sessions are users of their own to the kernel.
func ownUsers() bool {
	_, own := hostUsers()
	return own
}

// What a command leaves behind, even out of its process group and with its output
// open, holds the command's caller for no longer than the command.
func TestCommandWithADaemon(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.Ask(t, "/hello")
	for name, line := range map[string]string{
		"silent": "seq 20000; setsid sleep 60 & sleep 0.3; exit 3",
		"loud":   "seq 20000; setsid sh -c 'while :; do echo loud; done' & sleep 0.3; exit 3",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second) // the sleep, and the command's own time, are longer
		defer cancel()
		done := make(chan struct{})
		out := &output{}
		go func() {
			defer close(done)
			if code, err := r.Run(ctx, runtime.Command{Line: line, Timeout: time.Minute, Stdout: out, Stderr: out}); err != nil || code != 3 {
				t.Errorf("%s: %d %v", name, code, err)
			}
		}()
		select {
		case <-done:
		case <-time.After(55 * time.Second):
			t.Fatalf("%s: the command is held", name)
		}
		if !strings.Contains(out.String(), "\n20000\n") {
			t.Errorf("%s: what it printed is not whole", name)
		}
	}
}
