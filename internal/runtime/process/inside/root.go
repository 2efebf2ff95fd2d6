//go:build linux

package inside

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// System is what every program needs of the machine: shown as it is, read-only.
// Of /etc only what has neither secrets nor names.
var System = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
	"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
	"/etc/localtime", "/etc/mime.types",
}

var devices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}

// made are the files that a session has of its own.
func made(p Plan) map[string]string {
	return map[string]string{
		"/etc/passwd":        fmt.Sprintf("agent:x:%d:%d::%s:/bin/sh\n", p.Agent, p.Agent, HomeFolder),
		"/etc/group":         fmt.Sprintf("agent:x:%d:\n", p.Agent),
		"/etc/hosts":         "127.0.0.1 localhost agent\n",
		"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
		"/etc/resolv.conf":   "# names are resolved by the proxy\n",
	}
}

// writable are the folders that are the agent's own.
func writable(p Plan) []string {
	return append([]string{"/tmp", "/dev/shm", HomeFolder}, p.Mounts...)
}

// tree is a folder or file of the machine, on its way to its place in the session.
type tree struct {
	place   string
	fd      int
	link    string // instead, where it is a symbolic link
	isFile  bool
	devices bool
}

// buildRoot makes the session's file system and moves into it. It collects first, by
// descriptor, what it shows of the machine, since the new root hides where that was.
// passed are the trees that the platform took hold of.
func buildRoot(p Plan, passed []*os.File) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("separating the mounts: %w", err)
	}
	trees, err := collect()
	if err != nil {
		return err
	}
	more, err := collectShown(p, passed)
	if err != nil {
		return err
	}
	const root = "/tmp" // any folder that every machine has
	if err := unix.Mount("session", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=1m,mode=755"); err != nil {
		return fmt.Errorf("the root: %w", err)
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	for _, t := range trees {
		if err := t.put(); err != nil {
			return fmt.Errorf("showing %s: %w", t.place, err)
		}
	}
	for path, content := range made(p) {
		if err := os.MkdirAll("."+filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile("."+path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	for _, folder := range writable(p) {
		if err := ownFolder(p, folder); err != nil {
			return fmt.Errorf("the folder %s: %w", folder, err)
		}
	}
	for _, t := range more { // an interpreter may lie in /tmp
		if err := t.put(); err != nil {
			return fmt.Errorf("showing %s: %w", t.place, err)
		}
	}
	if err := os.MkdirAll("./proc", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("proc", "./proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, "./dev/"+name); err != nil {
			return err
		}
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("sealing the root: %w", err)
	}
	return nil
}

// collect takes hold of what every session is shown of the machine.
func collect() (trees []tree, err error) {
	for i, path := range slices.Concat(System, devices) {
		t := tree{place: path, devices: i >= len(System)}
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, err
		case info.Mode()&fs.ModeSymlink != 0:
			t.link, err = os.Readlink(path)
		default:
			t.isFile = !info.IsDir()
			t.fd, err = Take(path)
		}
		if err != nil {
			return nil, err
		}
		trees = append(trees, t)
	}
	return trees, nil
}

// collectShown does so with what this session is shown.
func collectShown(p Plan, passed []*os.File) (trees []tree, err error) {
	for _, s := range p.Shown {
		t := tree{place: s.Place}
		if s.Passed {
			if len(passed) == 0 {
				return nil, errors.New("fewer folders came along than were announced")
			}
			t.fd, err = unix.Dup(int(passed[0].Fd()))
			passed = passed[1:]
		} else {
			t.fd, err = Take(s.From)
		}
		if err != nil {
			return nil, err
		}
		unix.CloseOnExec(t.fd)
		var info unix.Stat_t
		if err := unix.Fstat(t.fd, &info); err != nil {
			return nil, fmt.Errorf("looking at %s: %w", s.Place, err)
		}
		t.isFile = info.Mode&unix.S_IFMT == unix.S_IFREG // Node is one file, where Python is a folder
		trees = append(trees, t)
	}
	return trees, nil
}

// put shows a tree at its place below the current folder, read-only.
func (t tree) put() error {
	to := "." + t.place
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if t.link != "" {
		return os.Symlink(t.link, to)
	}
	defer unix.Close(t.fd)
	if t.isFile {
		if err := os.WriteFile(to, nil, 0o644); err != nil {
			return err
		}
	} else if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	attributes := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV}
	if t.devices {
		attributes.Attr_set = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
	}
	if err := unix.MountSetattr(t.fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attributes); err != nil {
		return err
	}
	return unix.MoveMount(t.fd, "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// ownFolder makes an empty folder in memory that the agent may write to.
func ownFolder(p Plan, folder string) error {
	if err := os.MkdirAll("."+folder, 0o755); err != nil {
		return err
	}
	id := strconv.Itoa(p.Agent)
	options := "size=" + strconv.FormatInt(p.Limits.Disk, 10) + ",nr_inodes=100k,mode=700,uid=" + id + ",gid=" + id
	return unix.Mount("session", "."+folder, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options)
}

// What of /proc a session can see and not change, and what it cannot see: they are
// about the whole machine.
var (
	sealedProc = []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"}
	hiddenProc = []string{"/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/key-users", "/proc/timer_list", "/proc/sched_debug", "/proc/kallsyms", "/proc/acpi", "/proc/scsi", "/proc/asound"}
)

// sealProc closes what /proc has of the machine.
func sealProc() error {
	for _, path := range sealedProc {
		if err := cover(path, path, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC); err != nil {
			return err
		}
	}
	for _, path := range hiddenProc {
		info, err := os.Lstat(path)
		if err != nil {
			continue // another kernel
		}
		if info.IsDir() {
			err = unix.Mount("nothing", path, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=4k")
		} else {
			err = cover("/dev/null", path, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
		}
		if err != nil {
			return fmt.Errorf("hiding %s: %w", path, err)
		}
	}
	return nil
}

func cover(from, place string, attributes uint64) error {
	fd, err := Take(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attributes}); err != nil {
		return fmt.Errorf("sealing %s: %w", place, err)
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("sealing %s: %w", place, err)
	}
	return nil
}

// Take is a tree of mounts as it is now, on its way to another place.
func Take(path string) (fd int, err error) {
	fd, err = unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("taking %s: %w", path, err)
	}
	return fd, nil
}
