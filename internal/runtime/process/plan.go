//go:build linux

package process

import "github.com/onbehalf/onbehalf/internal/runtime"

// plan is what the init is told to do.
type plan struct {
	Shown       []shown // the code first
	Command     []string
	Environment []string
	Port        int
	Mounts      []string
	Limits      runtime.Limits
	Agent       int  // the user and group within the namespace that the agent runs as
	Watch       bool // no control group bounds the session
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

// What a session may have open.
const (
	maxFiles       = 8192 // each of its processes
	maxConnections = 256  // to the platform, and as many to the way out; whoever is next waits
)
