//go:build linux

package inside

// Plan is what process 1 of a session is told to do.
type Plan struct {
	Shown       []Shown // the code first
	Command     []string
	Environment []string
	Port        int   // the agent's
	Doors       []int // ports of the platform's
	Mounts      []string
	Keeps       bool // what is in the mounts is saved before the session ends
	Kept        bool // an archive of it comes along, the last descriptor
	Limits      Limits
	Agent       int  // the user and group within the namespace that the agent runs as
	Watch       bool // no control group bounds the session
}

// Limits are those of runtime.Launch.
type Limits struct {
	Memory    int64
	Processes int
	CPU       float64
	Disk      int64
}

// Shown is a folder of the machine that a session sees besides the system's.
type Shown struct {
	From, Place string
	Passed      bool // it comes along as a descriptor; otherwise the init takes hold of it by its path
}

// Where the agent finds what.
const (
	CodeFolder = "/app"
	HomeFolder = "/home/agent"
)

// maxFiles is how many files each program of a session may have open.
const maxFiles = 8192

// shares are a session's of what the kernel counts for all sessions together, as
// the platform's user's: without them one could take it all.
var shares = map[string]string{"max_inotify_instances": "8", "max_inotify_watches": "8192"}
