package deploy

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// remember changes what is known: one change from this folder after the other, so
// that calls which are made beside each other do not forget one another's
// sessions. The zero state is forgotten.
func (c *Client) remember(a *Agent, change func(*state)) error {
	defer a.lockStates()()
	all := a.states()
	key := a.stateKey(c.endpoint)
	s := all[key]
	change(&s)
	if all[key] = s; s.Runtime == "" && len(s.Sessions) == 0 {
		delete(all, key)
	}
	if len(all) == 0 {
		err := os.Remove(filepath.Join(a.Folder(), workFolder, stateFile))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	folder, err := a.work()
	if err != nil {
		return err
	}
	content, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(folder, stateFile), append(content, '\n'), 0o600)
}

// statesPatience bounds the wait for somebody else's change, which takes a moment.
// Who has held the lock for longer is stopped or stuck, and nobody's answer waits for that.
const statesPatience = 30 * time.Second

// lockStates is on the agent's folder: a launch has that for builds locked for as
// long as it takes, and the file itself is replaced with each change.
func (a *Agent) lockStates() (unlock func()) {
	folder, err := os.Open(a.Folder())
	if err != nil {
		return func() {} // the change says what is wrong with the folder, if that matters
	}
	for until := time.Now().Add(statesPatience); isLocked(folder) && time.Now().Before(until); {
		time.Sleep(2 * time.Millisecond)
	}
	return func() { _ = folder.Close() }
}
