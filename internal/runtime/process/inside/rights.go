//go:build linux

package inside

import (
	"fmt"
	goruntime "runtime"

	"golang.org/x/sys/unix"
)

// asAgent does something with files on a thread that has the agent's rights to them
// and none of process 1's. The one capability that is left is to read and to find
// what the agent has closed to itself. The thread is of no other use, and ends with it.
func asAgent(p Plan, do func() error) error {
	done := make(chan error, 1)
	go func() {
		goruntime.LockOSThread() // and never unlocked
		err := lower(p)
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// lower changes to the agent's user where files are concerned: whoever sends signals
// still finds process 1, and may not.
func lower(p Plan) error {
	for _, change := range []func(int) (int, error){unix.SetfsgidRetGid, unix.SetfsuidRetUid} {
		_, _ = change(p.Agent) // it answers what was before, and no error
		if now, _ := change(-1); now != p.Agent {
			return fmt.Errorf("the rights of the agent: files would be those of %d", now)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	few := [2]unix.CapUserData{{Permitted: 1 << unix.CAP_DAC_READ_SEARCH, Effective: 1 << unix.CAP_DAC_READ_SEARCH}}
	if err := unix.Capset(&header, &few[0]); err != nil {
		return fmt.Errorf("the rights of the agent: %w", err)
	}
	// A change of user is one of who may look into process 1, where the machine is set so.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hiding process 1: %w", err)
	}
	return nil
}
