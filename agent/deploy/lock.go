package deploy

import (
	"context"
	"os"
	"time"
)

// lock waits until nothing else is launched from the agent's folder: launches share
// the package they make and what is remembered of the runtime. The lock is on the
// folder for builds itself, and goes with the process that has it.
func (a *Agent) lock(ctx context.Context, progress progress) (unlock func(), err error) {
	path, err := a.work()
	if err != nil {
		return nil, err
	}
	folder, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	for first := true; isLocked(folder); first = false {
		if first {
			progress.say("waiting", "another launch from this folder has to end first")
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			_ = folder.Close()
			return nil, ctx.Err()
		}
	}
	return func() { _ = folder.Close() }, nil
}
