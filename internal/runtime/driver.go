package runtime

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

// Driver runs the processes of sessions. There are two: one that gives each
// session namespaces of its own, and one for machines that have none, which does not isolate.
type Driver interface {
	// Start runs a session's agent. It returns when the process exists, not when
	// it answers; ended calls of an earlier platform have been cleared away before.
	Start(ctx context.Context, l Launch) (Process, error)
	// About says in a line what the driver isolates and limits on this machine.
	About() string
}

// Process is the agent of one session, with all that it has started.
type Process interface {
	// Dial connects to the agent's port.
	Dial(ctx context.Context) (net.Conn, error)
	// Run runs a command beside the agent, in the same place and with the same environment.
	Run(ctx context.Context, c Command) (exitCode int, err error)
	// Stop ends all of it: politely, then after the grace time by force. It
	// returns when nothing is left, and what is kept of it is saved; without a
	// grace time nothing is saved.
	Stop(grace time.Duration)
	// Ended is closed when nothing of the agent is left; then End says how it came.
	Ended() <-chan struct{}
	End() string
}

// Launch is what a driver needs to run a session.
type Launch struct {
	Name        string   // of the session, for this machine: letters, digits and hyphens
	Code        string   // folder with the agent's code; the agent sees it at /app and cannot change it
	Also        []string // folders outside of the system's own that the command needs: an interpreter's
	Command     []string // what runs, from within the code's folder
	Environment []string // NAME=value; may hold secrets
	Port        int      // that the agent listens on
	Limits      Limits
	Platform    http.Handler // what the agent reaches at 127.0.0.1:PlatformPort
	Proxy       http.Handler // what it reaches at 127.0.0.1:ProxyPort: the way out
	Output      io.Writer    // what it prints
	Mounts      []string     // further folders of its own, writable: sessionStorage's mount path
	Storage     *Archive     // what the mounts held when the session ended before, and hold when it ends; nil: they are empty, and go with it
}

// The ports on which a session finds the platform and the way out.
const (
	PlatformPort = 7079
	ProxyPort    = 7078
)

// Limits bound what one session may take of the machine. Zero is the driver's default.
type Limits struct {
	Memory    int64   // bytes, of all its processes and its files together
	Processes int     // and threads
	CPU       float64 // processors
	Disk      int64   // bytes, of each of its writable folders
}

// Command is one that runs beside the agent.
type Command struct {
	Line           string // for the shell
	Timeout        time.Duration
	Stdout, Stderr io.Writer
}
