//go:build linux

package inside

import (
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// starter is the one thread of the init that starts programs. What a program must
// not have is taken from this thread beforehand, for good, and what it starts has
// it no more: capabilities, set-user-id programs, keys, system calls.
type starter struct{ work chan func() }

func newStarter(p Plan) (*starter, error) {
	if err := limit(p.Limits.Processes); err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	s := &starter{work: make(chan func())}
	ready := make(chan error)
	go func() {
		goruntime.LockOSThread() // and never unlocked: the thread is of no other use
		ready <- shed(p)
		for do := range s.work {
			do()
		}
	}()
	return s, <-ready
}

// limit bounds what each program may take. The init itself has little use for more.
func limit(processes int) error {
	// Queued signals and messages are counted for the platform's user as well.
	// 1, and not 0, keeps a core from a program that the machine pipes cores to, too.
	for resource, most := range map[int]uint64{unix.RLIMIT_CORE: 1, unix.RLIMIT_NPROC: uint64(processes), unix.RLIMIT_MEMLOCK: 8 << 20, unix.RLIMIT_SIGPENDING: 4096, unix.RLIMIT_MSGQUEUE: 128 << 10} {
		var now unix.Rlimit
		if err := unix.Getrlimit(resource, &now); err != nil {
			return err
		}
		most = min(most, now.Max)
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return err
		}
	}
	return nil
}

// fewerFiles lowers this process's bound on open files for the time of a start: a
// program keeps what it is born with, since the filter lets none raise it. Process 1
// has more. Where the platform is not root the kernel counts descriptors that are on
// their way in sockets for all sessions together, and refuses more to whoever has come
// to his own bound: programs come to theirs first.
func fewerFiles() (back func(), err error) {
	var own syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &own); err != nil {
		return nil, err
	}
	fewer := own
	fewer.Cur = min(maxFiles, own.Max/2)
	if !Filters {
		fewer.Max = fewer.Cur
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &fewer); err != nil { // package syscall hands it on to children
		return nil, err
	}
	return func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &own) }, nil
}

// shed gives up what a program could gain by being started from this thread.
func shed(p Plan) error {
	if p.Watch { // nothing shares the processors out: agents come after everybody else
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 10)
	}
	// A new keyring, empty: the one that the platform was started with may hold something.
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("keyring: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("privileges: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("privileges: %w", err)
	}
	// Of its capabilities the thread needs two, to change to the agent's user; no
	// program that it starts gets any.
	for capability := 0; capability <= unix.CAP_LAST_CAP; capability++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("privileges: %w", err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	few := [2]unix.CapUserData{{Permitted: 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID}}
	few[0].Effective = few[0].Permitted
	if err := unix.Capset(&header, &few[0]); err != nil {
		return fmt.Errorf("privileges: %w", err)
	}
	return install(p)
}

// errNoProgram is that there is nothing to start.
var errNoProgram = errors.New("no program")

// start runs a program as the agent's user, in a group of its own.
func (s *supervisor) start(command []string, stdout, stderr *os.File) (pid int, ended <-chan syscall.WaitStatus, err error) {
	path, err := s.look(command)
	if err != nil {
		return 0, nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, nil, err
	}
	defer null.Close()
	attributes := &syscall.ProcAttr{
		Dir: CodeFolder, Env: s.plan.Environment,
		Files: []uintptr{null.Fd(), stdout.Fd(), stderr.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	if s.plan.Agent != 0 {
		id := uint32(s.plan.Agent)
		attributes.Sys.Credential = &syscall.Credential{Uid: id, Gid: id}
	}
	// The reaper must not see the end of a child before it is known here.
	s.starting.Lock()
	defer s.starting.Unlock()
	if s.over {
		return 0, nil, errors.New("the session is ending")
	}
	done := make(chan struct{})
	back, err := fewerFiles() // not by the starter, which may no more
	if err != nil {
		return 0, nil, err
	}
	defer back()
	s.starter.work <- func() {
		defer close(done)
		// A program that has just been written may be open in a process that the platform
		// is starting at this moment, between its beginning and its exec.
		for pause := time.Millisecond; pause < time.Second; pause *= 2 {
			if pid, err = syscall.ForkExec(path, command, attributes); !errors.Is(err, syscall.ETXTBSY) {
				return
			}
			time.Sleep(pause)
		}
	}
	<-done
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %s: %w", errNoProgram, command[0], err)
	}
	c := make(chan syscall.WaitStatus, 1)
	s.children[pid] = c
	return pid, c, nil
}

// look finds a program as a shell would: a name with a slash from the code's folder,
// any other in the agent's PATH.
func (s *supervisor) look(command []string) (string, error) {
	if len(command) == 0 {
		return "", fmt.Errorf("%w: the command is empty", errNoProgram)
	}
	name := command[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	folders := "/usr/local/bin:/usr/bin:/bin"
	for _, variable := range s.plan.Environment {
		if value, is := strings.CutPrefix(variable, "PATH="); is {
			folders = value
		}
	}
	for folder := range strings.SplitSeq(folders, ":") {
		path := folder + "/" + name
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: there is no %s in PATH (%s)", errNoProgram, name, folders)
}

// closeInherited closes what this process was born with besides its two
// descriptors: whoever started the platform may have left something open in it,
// and all that Go opens is closed by the next program anyway.
func closeInherited() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd < 3 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
	return nil
}
