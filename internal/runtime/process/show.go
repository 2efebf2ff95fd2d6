//go:build linux

package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/runtime"
)

// shown is a folder of the machine that a session sees besides the system's.
type shown struct {
	From, Place string
	Passed      bool // it comes along as a descriptor; otherwise the init takes hold of it by its path
}

// show takes hold of a session's code and interpreter, read-only. The init is nobody
// on this machine, and could not walk to a folder within the platform's own, which is closed.
func show(l runtime.Launch) (list []shown, trees []*os.File, err error) {
	code, err := filepath.EvalSymlinks(l.Code)
	if err != nil {
		return nil, nil, fmt.Errorf("the agent's code: %w", err)
	}
	list = []shown{{From: code, Place: codeFolder}}
	if _, own := hostUsers(); !own && covered(nil, shown{From: code, Place: code}) {
		return nil, nil, fault.New(fault.RuntimeClient, "The platform's data folder lies among the programs of this machine, which every session is shown, and its agents are the platform's user. Move it (--data).")
	}
	for _, folder := range l.Also {
		real, err := filepath.EvalSymlinks(folder)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("what the agent's command needs: %w", err)
		}
		if err := checkShown(folder, real, code, l.Mounts); err != nil {
			return nil, nil, err
		}
		// Links within it may name either.
		for _, place := range []string{real, filepath.Clean(folder)} {
			s := shown{From: real, Place: place}
			if !covered(list, s) {
				list = append(list, s)
			}
		}
	}
	for i := range list {
		tree, err := take(list[i].From)
		if errors.Is(err, unix.EPERM) {
			continue // the platform is no root, so the init is the same user, and root of its own
		}
		if err != nil {
			closeAll(trees)
			return nil, nil, err
		}
		list[i].Passed = true
		trees = append(trees, os.NewFile(uintptr(tree), "tree"))
	}
	return list, trees, nil
}

// checkShown refuses to show a folder that is more than an interpreter's.
func checkShown(folder, real, code string, mounts []string) error {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/root"
	}
	for _, own := range append([]string{code, home, codeFolder, homeFolder, "/tmp", "/dev/shm", "/proc", "/etc/passwd"}, mounts...) {
		if below(own, real) {
			return fault.New(fault.RuntimeClient, "The agent's interpreter lies in %s, and a session would be shown all of that: %s among it. Install the interpreter in a folder of its own.", folder, own)
		}
	}
	return nil
}

// below reports whether a path is the folder or lies in it.
func below(path, folder string) bool {
	return path == folder || folder == "/" || strings.HasPrefix(path, folder+"/")
}

// covered reports whether a folder is seen at its place without being shown.
func covered(list []shown, s shown) bool {
	for _, folder := range system {
		if s.From == s.Place && below(s.Place, folder) && !strings.HasPrefix(folder, "/etc") {
			return true
		}
	}
	for _, other := range list {
		if other == s {
			return true
		}
	}
	return false
}

// take is a tree of mounts as it is now, on its way to another place.
func take(path string) (fd int, err error) {
	fd, err = unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("taking %s: %w", path, err)
	}
	return fd, nil
}
