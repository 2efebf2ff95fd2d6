//go:build linux

package inside

import (
	"fmt"
	goruntime "runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// denied are system calls that no agent needs and that lead far into the kernel:
// capabilities refuse most of them anyway, and this refuses them before the kernel
// has looked at an argument.
var denied = []uintptr{
	// keys of the kernel
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
	// programs and rings within the kernel
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	// namespaces and mounts
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT,
	unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_FANOTIFY_INIT,
	// other processes
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	// the machine
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_REBOOT, unix.SYS_SWAPON,
	unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_SYSLOG, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
}

// unseen are ways to memory that no process shows and no folder holds. Where only a
// watch bounds a session, they are closed as well.
var unseen = []uintptr{unix.SYS_MEMFD_CREATE, unix.SYS_MEMFD_SECRET, unix.SYS_SHMGET, unix.SYS_MQ_OPEN}

// ofOthers are ways to slow another process down, by its number as the first argument.
// Where only a watch bounds a session, and is to the kernel who its agent is, they are
// for a program's own pace alone.
var ofOthers = []uint32{unix.SYS_SCHED_SETAFFINITY, unix.SYS_SCHED_SETSCHEDULER, unix.SYS_SCHED_SETPARAM, unix.SYS_SCHED_SETATTR}

// Filters is whether there is a filter of system calls on this architecture.
const Filters = auditArchitecture != 0

// families are the kinds of socket that agents have. The rest is refused, among it
// AF_VSOCK, which leads out of a virtual machine past every network namespace.
var families = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}

const newNamespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// Places in what the kernel shows a filter: struct seccomp_data.
const (
	atNumber       = 0
	atArchitecture = 4
	atArgument     = 16 // the lower half of the first; eight bytes each
)

// filter is the program that the kernel asks about each system call; watched is for a
// session that only a watch bounds.
func filter(watched bool) []unix.SockFilter {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		least  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		some   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		answer = unix.BPF_RET | unix.BPF_K
	)
	var f []unix.SockFilter
	add := func(code uint16, yes, no uint8, k uint32) {
		f = append(f, unix.SockFilter{Code: code, Jt: yes, Jf: no, K: k})
	}
	refuse := func(errno unix.Errno) { add(answer, 0, 0, unix.SECCOMP_RET_ERRNO|uint32(errno)) }
	allow := func() { add(answer, 0, 0, unix.SECCOMP_RET_ALLOW) }

	// Another architecture's numbers, as 32-bit programs have them, mean other calls.
	add(load, 0, 0, atArchitecture)
	add(equal, 1, 0, auditArchitecture)
	refuse(unix.ENOSYS)
	add(load, 0, 0, atNumber)
	add(least, 0, 1, 0x40000000) // x32
	refuse(unix.ENOSYS)
	numbers := denied
	if watched {
		numbers = slices.Concat(denied, unseen)
		for _, number := range ofOthers {
			add(equal, 0, 4, number)
			add(load, 0, 0, atArgument)
			add(equal, 0, 1, 0)
			allow()
			refuse(unix.EPERM)
		}
		add(equal, 0, 6, unix.SYS_SETPRIORITY)
		add(load, 0, 0, atArgument)
		add(equal, 0, 3, unix.PRIO_PROCESS)
		add(load, 0, 0, atArgument+8)
		add(equal, 0, 1, 0)
		allow()
		refuse(unix.EPERM)
	}
	for _, number := range numbers {
		add(equal, 0, 1, uint32(number))
		refuse(unix.EPERM)
	}
	// clone3's flags are in memory, where a filter cannot look: without it the libraries use clone.
	add(equal, 0, 1, unix.SYS_CLONE3)
	refuse(unix.ENOSYS)
	add(equal, 0, 4, unix.SYS_CLONE)
	add(load, 0, 0, atArgument)
	add(some, 0, 1, newNamespaces)
	refuse(unix.EPERM)
	allow()
	// Of netlink what libraries ask for addresses, and not the way to firewalls and tunnels.
	add(equal, 0, 6, unix.SYS_SOCKET)
	add(load, 0, 0, atArgument)
	add(equal, 0, 3, unix.AF_NETLINK)
	add(load, 0, 0, atArgument+16)
	add(equal, 1, 0, unix.NETLINK_ROUTE)
	refuse(unix.EPROTONOSUPPORT)
	add(load, 0, 0, atNumber)
	for _, number := range []uint32{unix.SYS_SOCKET, unix.SYS_SOCKETPAIR} {
		add(equal, 0, uint8(3+len(families)), number)
		add(load, 0, 0, atArgument)
		for i, family := range families {
			add(equal, uint8(len(families)-i), 0, family)
		}
		refuse(unix.EAFNOSUPPORT)
		allow()
	}
	// A core dump that is piped to a program of the machine is stopped by a limit of 1
	// alone, and that of open files keeps programs below process 1 (fewerFiles). Programs that set
	// these are told that it worked.
	add(equal, 0, 5, unix.SYS_SETRLIMIT)
	add(load, 0, 0, atArgument)
	add(equal, 1, 0, unix.RLIMIT_CORE)
	add(equal, 0, 1, unix.RLIMIT_NOFILE)
	refuse(0)
	allow()
	add(equal, 1, 0, unix.SYS_PRLIMIT64)
	allow()                        // all else
	add(load, 0, 0, atArgument+16) // where the new limit lies; nowhere, if it is only asked for
	add(equal, 0, 3, 0)
	add(load, 0, 0, atArgument+20)
	add(equal, 0, 1, 0)
	allow()
	if watched {
		add(load, 0, 0, atArgument)
		add(equal, 1, 0, 0)
		refuse(unix.EPERM) // process 1, who watches, is another
	}
	add(load, 0, 0, atArgument+8)
	add(equal, 1, 0, unix.RLIMIT_CORE)
	add(equal, 0, 1, unix.RLIMIT_NOFILE)
	refuse(0)
	allow()
	return f
}

// install puts the filter on the calling thread, and on what it starts.
func install(p Plan) error {
	if auditArchitecture == 0 {
		return nil
	}
	program := filter(p.Watch)
	header := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&header)))
	goruntime.KeepAlive(program)
	if errno == unix.ENOSYS {
		return nil // a kernel without seccomp: the capabilities and namespaces hold
	}
	if errno != 0 {
		return fmt.Errorf("the filter of system calls: %w", errno)
	}
	return nil
}
