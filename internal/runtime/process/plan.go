//go:build linux

package process

import (
	"github.com/onbehalf/onbehalf/internal/runtime"
	"github.com/onbehalf/onbehalf/internal/runtime/process/inside"
)

// What a session may take where nobody said anything else.
const (
	defaultMemory    = 2 << 30
	defaultProcesses = 512
	defaultCPU       = 2
	defaultDisk      = 512 << 20
)

func withDefaults(l runtime.Limits) inside.Limits {
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
	return inside.Limits(l)
}

// maxConnections is how many a session may have to the platform, and as many to
// the way out; whoever is next waits.
const maxConnections = 256
