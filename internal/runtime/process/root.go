//go:build linux

package process

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

// system is what every program needs of the machine: shown as it is, read-only.
// Of /etc only what has neither secrets nor names.
var system = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
	"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
	"/etc/localtime", "/etc/mime.types",
}

var devices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}

// made are the files that a session has of its own.
func made(p plan) map[string]string {
	return map[string]string{
		"/etc/passwd":        fmt.Sprintf("agent:x:%d:%d::%s:/bin/sh\n", p.Agent, p.Agent, homeFolder),
		"/etc/group":         fmt.Sprintf("agent:x:%d:\n", p.Agent),
		"/etc/hosts":         "127.0.0.1 localhost agent\n",
		"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
		"/etc/resolv.conf":   "# names are resolved by the proxy\n",
	}
}

// writable are the folders that are the agent's own.
func writable(p plan) []string {
	return append([]string{"/tmp", "/dev/shm", homeFolder}, p.Mounts...)
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
func buildRoot(p plan, held []*os.File) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("separating the mounts: %w", err)
	}
	trees, err := collect(p, held)
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
	for _, folder := range writable(p) {
		if err := ownFolder(p, folder); err != nil {
			return fmt.Errorf("the folder %s: %w", folder, err)
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

// hold takes hold of folders for a session whose own root may not walk to them: the
// platform's data folder is its owner's alone, and so is root's home with an
// interpreter in it. nil where that is not this process's to do: the session then
// finds them by name, as the user that the platform is.
func hold(paths []string) (held []*os.File) {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, path := range paths {
		fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			closeAll(held)
			return nil
		}
		held = append(held, os.NewFile(uintptr(fd), path))
	}
	return held
}

// collect takes hold of what the session is shown.
func collect(p plan, held []*os.File) (trees []tree, err error) {
	take := func(from, place string, devices bool) error {
		t := tree{place: place, devices: devices}
		info, err := os.Lstat(from)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && info.Mode()&fs.ModeSymlink != 0 {
			t.link, err = os.Readlink(from)
			if err == nil {
				trees = append(trees, t)
			}
			return err
		}
		if err != nil {
			return err
		}
		t.isFile = !info.IsDir()
		if t.fd, err = unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE); err != nil {
			return fmt.Errorf("taking %s: %w", from, err)
		}
		trees = append(trees, t)
		return nil
	}
	named := slices.Concat(system, p.Also)
	if p.Held > 0 {
		named = system
	}
	for _, path := range named {
		if err := take(path, path, false); err != nil {
			return nil, err
		}
	}
	for _, path := range devices {
		if err := take(path, path, true); err != nil {
			return nil, err
		}
	}
	if p.Held > 0 {
		if len(held) != p.Held || p.Held != 1+len(p.Also) {
			return nil, fmt.Errorf("%d of %d folders came with the plan", len(held), p.Held)
		}
		for i, place := range append([]string{codeFolder}, p.Also...) {
			trees = append(trees, tree{place: place, fd: int(held[i].Fd())})
		}
		return trees, nil
	}
	if _, err := os.Stat(p.Code); err != nil {
		return nil, fmt.Errorf("the agent's code: %w", err)
	}
	code, err := filepath.EvalSymlinks(p.Code)
	if err != nil {
		return nil, err
	}
	return trees, take(code, codeFolder, false)
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
func ownFolder(p plan, folder string) error {
	if err := os.MkdirAll("."+folder, 0o755); err != nil {
		return err
	}
	id := strconv.Itoa(p.Agent)
	options := "size=" + strconv.FormatInt(p.Limits.Disk, 10) + ",nr_inodes=100k,mode=700,uid=" + id + ",gid=" + id
	return unix.Mount("session", "."+folder, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options)
}
