//go:build linux

package inside

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// watchMemory ends a session that takes more than it may, where no control group
// bounds it. It looks more often the nearer the session is to its limit; a filter
// of system calls keeps memory from where it could not be seen.
func (s *supervisor) watchMemory() {
	most := s.plan.Limits.Memory
	for {
		used := s.most()
		if used > most {
			used = s.least()
		}
		if used > most {
			s.end("The agent took more memory than its limit of " + strconv.FormatInt(most>>20, 10) + " MB, and was ended.")
			return
		}
		pause := 200 * time.Millisecond
		if used > most/2 {
			pause = 20 * time.Millisecond
		}
		time.Sleep(pause)
	}
}

// most is what the session takes of the machine's memory, and more: what several
// processes share is counted for each, and a mapped file both as a file and as memory.
func (s *supervisor) most() int64 {
	sum := s.files()
	for _, pid := range processes() {
		sum += fields("/proc/"+pid+"/status", "RssAnon:", "RssShmem:", "VmPTE:")
	}
	return sum
}

// least takes longer to find out, and counts each page once; of files and shared
// memory, which may be the same, the larger.
func (s *supervisor) least() int64 {
	var own, shared int64
	for _, pid := range processes() {
		rollup := "/proc/" + pid + "/smaps_rollup"
		own += fields(rollup, "Pss_Anon:")
		shared += fields(rollup, "Pss_Shmem:")
	}
	return own + max(shared, s.files())
}

// processes are all of the session's but the first.
func processes() (pids []string) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		if name := entry.Name(); name != "1" && strings.Trim(name, "0123456789") == "" {
			pids = append(pids, name)
		}
	}
	return pids
}

// files is what the session's folders take, which are in memory. An empty file takes some as well.
func (s *supervisor) files() (sum int64) {
	for _, folder := range writable(s.plan) {
		var stat unix.Statfs_t
		if unix.Statfs(folder, &stat) == nil {
			sum += int64(stat.Blocks-stat.Bfree)*stat.Bsize + int64(stat.Files-stat.Ffree)*1024
		}
	}
	return sum
}

// fields adds up some lines of a file, which are in kB.
func fields(path string, names ...string) (sum int64) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0 // it has ended
	}
	for line := range strings.Lines(string(text)) {
		for _, name := range names {
			if rest, is := strings.CutPrefix(line, name); is {
				kilobytes, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
				sum += kilobytes << 10
			}
		}
	}
	return sum
}
