//go:build linux

package process

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/onbehalf/onbehalf/internal/runtime/process/inside"
)

// groups are the control groups below which each session has one: in one tree
// (version 2) or in a tree for each thing that is limited (version 1).
type groups struct {
	unified bool
	roots   []string // folders in which ours can be made
}

const groupPrefix = "onbehalf-"

// groupTree is where control groups are mounted.
const groupTree = "/sys/fs/cgroup"

// findGroups looks for a place where this process may make control groups; nil
// where there is none.
func findGroups() *groups {
	own := ownGroups()
	if _, err := os.Stat(groupTree + "/cgroup.controllers"); err == nil {
		return findUnified(groupTree, own[""])
	}
	g := &groups{}
	for _, controller := range []string{"memory", "pids", "cpu"} {
		folder := filepath.Join(groupTree, controller, own[controller])
		if !makes(folder) {
			return nil
		}
		g.roots = append(g.roots, folder)
	}
	return g
}

// findUnified finds one in a tree of version 2. There a group has either processes or
// children that are limited. So this process moves down into a group of its own
// where it is alone in what was delegated to it, by systemd for instance; root, who
// may not be alone, makes a group at the top.
func findUnified(tree, own string) *groups {
	folder := filepath.Join(tree, own)
	if delegates(folder) {
		return &groups{unified: true, roots: []string{folder}}
	}
	self := strconv.Itoa(os.Getpid())
	if members, err := os.ReadFile(folder + "/cgroup.procs"); err == nil && strings.TrimSpace(string(members)) == self && makes(folder) {
		platform := folder + "/platform"
		if err := os.Mkdir(platform, 0o755); err == nil || errors.Is(err, os.ErrExist) {
			if os.WriteFile(platform+"/cgroup.procs", []byte(self), 0) == nil && delegates(folder) {
				return &groups{unified: true, roots: []string{folder}}
			}
		}
	}
	if os.Geteuid() != 0 {
		return nil
	}
	top := tree + "/onbehalf"
	if err := os.Mkdir(top, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil
	}
	if !delegates(top) {
		_ = os.Remove(top)
		return nil
	}
	return &groups{unified: true, roots: []string{top}}
}

// delegates reports whether a group's children are limited in all that sessions are,
// or can be from now on.
func delegates(folder string) bool {
	const file = "/cgroup.subtree_control"
	_ = os.WriteFile(folder+file, []byte("+memory +pids +cpu"), 0)
	enabled, err := os.ReadFile(folder + file)
	if err != nil || !makes(folder) {
		return false
	}
	for _, needed := range []string{"memory", "pids", "cpu"} {
		if !slices.Contains(strings.Fields(string(enabled)), needed) {
			return false
		}
	}
	return true
}

// sweep removes the groups of platforms that have been killed. Their sessions end by
// themselves, a moment after.
func (g *groups) sweep() {
	for _, root := range g.roots {
		entries, _ := os.ReadDir(root)
		left := &group{}
		for _, entry := range entries {
			rest, ours := strings.CutPrefix(entry.Name(), groupPrefix)
			pid, _, _ := strings.Cut(rest, "-")
			number, err := strconv.Atoi(pid)
			if ours && err == nil && errors.Is(syscall.Kill(number, 0), syscall.ESRCH) {
				left.folders = append(left.folders, filepath.Join(root, entry.Name()))
			}
		}
		left.remove()
	}
}

// ownGroups is where this process is, by controller.
func ownGroups() map[string]string {
	text, _ := os.ReadFile("/proc/self/cgroup")
	own := map[string]string{}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 {
			for controller := range strings.SplitSeq(parts[1], ",") {
				own[controller] = parts[2]
			}
		}
	}
	return own
}

func makes(folder string) bool {
	probe := filepath.Join(folder, groupPrefix+"probe-"+strconv.Itoa(os.Getpid()))
	if os.Mkdir(probe, 0o755) != nil {
		return false
	}
	return os.Remove(probe) == nil
}

func (g *groups) version() string {
	if g.unified {
		return "version 2"
	}
	return "version 1"
}

// group is a session's.
type group struct {
	unified bool
	folders []string
}

// add makes a session's group and puts its first process in.
func (g *groups) add(name string, pid int, l inside.Limits) (_ *group, err error) {
	made := &group{unified: g.unified}
	defer func() {
		if err != nil {
			made.remove()
		}
	}()
	for _, root := range g.roots {
		folder := filepath.Join(root, groupPrefix+strconv.Itoa(os.Getpid())+"-"+name)
		if err := os.Mkdir(folder, 0o755); err != nil {
			return nil, err
		}
		made.folders = append(made.folders, folder)
	}
	quota := strconv.FormatInt(int64(l.CPU*100_000), 10)
	memory, processes := strconv.FormatInt(l.Memory, 10), strconv.Itoa(l.Processes+16) // ours are in it, too
	write := func(folder int, file, value string) {
		if err == nil {
			err = os.WriteFile(filepath.Join(made.folders[folder], file), []byte(value), 0)
		}
	}
	if g.unified {
		write(0, "memory.max", memory)
		write(0, "memory.oom.group", "1")
		_ = os.WriteFile(filepath.Join(made.folders[0], "memory.swap.max"), []byte("0"), 0) // there may be no swap to bound
		write(0, "pids.max", processes)
		write(0, "cpu.max", quota+" 100000")
	} else {
		write(0, "memory.limit_in_bytes", memory)
		write(1, "pids.max", processes)
		write(2, "cpu.cfs_period_us", "100000")
		write(2, "cpu.cfs_quota_us", quota)
	}
	for i := range made.folders {
		write(i, "cgroup.procs", strconv.Itoa(pid))
	}
	return made, err
}

// outOfMemory reports whether the kernel ended something here for its memory.
func (g *group) outOfMemory() bool {
	file := "memory.events"
	if !g.unified {
		file = "memory.oom_control"
	}
	text, _ := os.ReadFile(filepath.Join(g.folders[0], file))
	for line := range strings.Lines(string(text)) {
		if count, is := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); is {
			return count != "0"
		}
	}
	return false
}

// remove takes the group away once its processes are gone, which the kernel may
// notice a moment later.
func (g *group) remove() {
	for _, folder := range g.folders {
		for range 50 {
			if err := os.Remove(folder); err == nil || errors.Is(err, os.ErrNotExist) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
