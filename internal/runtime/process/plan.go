//go:build linux

package process

import "github.com/onbehalf/onbehalf/internal/runtime"

// plan is what the init is told to do.
type plan struct {
	Code        string
	Also        []string
	Command     []string
	Environment []string
	Port        int
	Mounts      []string
	Limits      runtime.Limits
	Agent       int // the user and group within the namespace that the agent runs as
	Held        int // how many of Code and Also come as mounts beside the plan: all, or none
}

// Where the agent finds what.
const (
	codeFolder = "/app"
	homeFolder = "/home/agent"
)

// What a session may take where nobody said anything else.
const (
	defaultMemory    = 2 << 30
	defaultProcesses = 512
	defaultCPU       = 2
	defaultDisk      = 512 << 20
)

func withDefaults(l runtime.Limits) runtime.Limits {
	if l.Memory == 0 {
		l.Memory = defaultMemory
	}
	if l.Processes == 0 {
		l.Processes = defaultProcesses
	}
	if l.CPU == 0 {
		l.CPU = defaultCPU
	}
	if l.Disk == 0 {
		l.Disk = defaultDisk
	}
	return l
}
