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
	"github.com/onbehalf/onbehalf/internal/runtime/process/inside"
)

// show takes hold of a session's code and interpreter, read-only. The init is nobody
// on this machine, and could not walk to a folder within the platform's own, which is closed.
func show(l runtime.Launch) (list []inside.Shown, trees []*os.File, err error) {
	code, err := filepath.EvalSymlinks(l.Code)
	if err != nil {
		return nil, nil, fmt.Errorf("the agent's code: %w", err)
	}
	list = []inside.Shown{{From: code, Place: inside.CodeFolder}}
	if _, own := hostUsers(); !own && covered(nil, inside.Shown{From: code, Place: code}) {
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
			s := inside.Shown{From: real, Place: place}
			if !covered(list, s) {
				list = append(list, s)
			}
		}
	}
	for i := range list {
		tree, err := inside.Take(list[i].From)
		if errors.Is(err, unix.EPERM) {
			continue // the platform is no root, so the init is the same user, and root of its own
		}
		if err != nil {
			inside.CloseAll(trees)
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
	for _, own := range append([]string{code, home, inside.CodeFolder, inside.HomeFolder, "/tmp", "/dev/shm", "/proc", "/etc/passwd"}, mounts...) {
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
func covered(list []inside.Shown, s inside.Shown) bool {
	for _, folder := range inside.System {
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
