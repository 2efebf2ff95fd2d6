//go:build linux

package inside

import (
	"encoding/json"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Saved is how packing the session's storage went.
type Saved struct {
	Looks   string `json:"looks,omitempty"`   // the word for what was packed; "" where it may change unseen
	Same    bool   `json:"same,omitempty"`    // it looks as it did: nothing was packed
	Entries int    `json:"entries,omitempty"` // in all mounts
	Left    int    `json:"left,omitempty"`    // of them, that cannot be kept
	Error   string `json:"error,omitempty"`
}

// restore fills the mounts with what was kept, where something was, and answers how they look.
func (s *supervisor) restore(kept *os.File) (looks string, err error) {
	if !s.plan.Keeps {
		return "", nil
	}
	err = asAgent(s.plan, func() (err error) {
		if kept != nil {
			if err := unpack(kept, s.plan.Mounts); err != nil {
				return err
			}
		}
		looks, _, err = look(s.plan.Mounts) // nobody is there yet who could change it unseen
		return err
	})
	return looks, err
}

// save packs the storage into a pipe and tells the platform about it.
func (s *supervisor) save(m Message, files []*os.File) {
	defer CloseAll(files)
	if len(files) != 1 {
		return
	}
	var out Saved
	err := asAgent(s.plan, func() error {
		looks, fresh, err := look(s.plan.Mounts)
		if out.Same = m.Text != "" && looks == m.Text; out.Same || err != nil {
			return err
		}
		if !fresh {
			out.Looks = looks
		}
		out.Entries, out.Left, err = pack(files[0], s.plan.Mounts, s.plan.Limits.Disk)
		return err
	})
	if errors.Is(err, unix.EPIPE) {
		return // the platform does not want it any more
	}
	if err != nil {
		out.Error = err.Error()
	}
	CloseAll(files) // whoever reads has all of it when he is told
	text, _ := json.Marshal(out)
	_ = s.channel.Send(Message{Kind: KindSaved, Number: m.Number, Text: string(text)})
}

// clear ends all processes but this one, for good: what the mounts hold stays as it is.
func (s *supervisor) clear() {
	s.starting.Lock()
	s.over = true
	s.starting.Unlock()
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		_ = unix.Kill(-1, unix.SIGKILL)
		if len(processes()) == 0 {
			break
		}
	}
	_ = s.output.Close() // the last who had it: what was printed is whole
}
