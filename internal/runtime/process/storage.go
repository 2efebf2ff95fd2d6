//go:build linux

package process

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/runtime"
	"github.com/onbehalf/onbehalf/internal/runtime/process/inside"
)

const (
	// saveOften is how often the storage of a session that runs is saved, if it has changed.
	saveOften = time.Minute
	// saveLimit bounds one saving, and lastLimit the one when the session ends, for
	// which a platform that stops may be waiting.
	saveLimit = time.Minute
	lastLimit = 20 * time.Second
	// lastWords is how long what an ended agent printed is waited for, and a disk that
	// is to let go of a draft.
	lastWords = 5 * time.Second
	// restoreSpeed is how many bytes in a second are unpacked at least, or no session begins.
	restoreSpeed = 16 << 20
	// besideBytes is what an archive may have for each mount besides what files hold:
	// names, links, and where the pieces belong.
	besideBytes = 256 << 20
)

// storage is a session's, while it runs: what is kept of it, and how that looked.
type storage struct {
	archive  *runtime.Archive
	most     int64
	looks    string
	number   uint64
	saved    chan inside.Message
	gone     <-chan struct{} // closed when nobody answers any more
	settled  chan struct{}   // closed when the agent has ended
	finished bool            // settled is closed
	over     chan struct{}   // closed when nothing is saved any more
}

func newStorage(l runtime.Launch, limits inside.Limits, gone <-chan struct{}) *storage {
	if l.Storage == nil {
		return nil
	}
	most := int64(len(l.Mounts)) * (limits.Disk + limits.Disk/64 + besideBytes)
	return &storage{archive: l.Storage, most: most, gone: gone, saved: make(chan inside.Message, 1), settled: make(chan struct{}), over: make(chan struct{})}
}

// handOver is the pipe that a session reads what was kept from; nil where nothing was.
// It is given no file of the platform's: a pipe has no name and no way back.
func handOver(a *runtime.Archive) (read *os.File, patience time.Duration, err error) {
	file, size, err := a.Open()
	if err != nil || file == nil {
		return nil, 0, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		_ = file.Close()
		return nil, 0, err
	}
	go func() {
		defer file.Close()
		defer write.Close()
		if _, err := io.Copy(write, file); err != nil && !errors.Is(err, syscall.EPIPE) { // the session may have given up
			slog.Error("what was kept of a session's storage cannot be read", "file", file.Name(), "error", err)
		}
	}()
	return read, time.Duration(size/restoreSpeed) * time.Second, nil
}

// keep saves a session's storage while it runs and when its agent has ended, and then
// ends what is left of the session.
func (s *session) keep(ready, printed <-chan struct{}) {
	defer close(s.storage.over)
	select {
	case <-ready:
	case <-s.storage.gone: // what was kept could not be restored, or not in time
		return
	}
	defer func() { _ = s.command.Process.Kill() }()
	timer := time.NewTimer(s.driver.saveEvery)
	defer timer.Stop()
	for {
		select {
		case <-s.storage.gone:
			if s.storage.archive.Wanted() {
				s.storage.archive.Failed(errGone)
			}
			return
		case <-s.storage.settled:
			select {
			case <-printed: // the last who could print has closed its end
			case <-s.storage.gone:
			case <-time.After(lastWords): // something is stuck in the kernel, and has it open
			}
			s.agentEnded("The agent was ended.")
			s.save(nil, "", lastLimit)
			return
		case <-timer.C:
		}
		began := time.Now()
		s.save(s.storage.settled, s.storage.looks, saveLimit)
		timer.Reset(max(s.driver.saveEvery, 10*time.Since(began))) // a slow disk has other things to do
	}
}

// save saves the storage, where it looks otherwise than the word, until enough is
// closed or the time is up.
func (s *session) save(enough <-chan struct{}, looks string, limit time.Duration) {
	a := s.storage.archive
	if !a.Wanted() {
		return
	}
	looks, err := s.packed(a.Draft(s.storage.most), enough, looks, limit)
	switch {
	case errors.Is(err, errEnough):
	case err != nil:
		a.Failed(err)
	default:
		s.storage.looks = looks
	}
}

var (
	// errEnough ends a saving because the next, and last, is to begin.
	errEnough = errors.New("the agent has ended meanwhile")
	errGone   = errors.New("the session was ended by force before that")
	errLate   = errors.New("it took too long")
)

// packed has the session pack its storage into a draft, and keeps it if it is whole.
func (s *session) packed(draft *runtime.Draft, enough <-chan struct{}, looks string, limit time.Duration) (string, error) {
	late := time.NewTimer(limit)
	defer late.Stop()
	var copying sync.WaitGroup
	said, err := s.pack(draft, &copying, enough, looks, late.C)
	if err == nil && said.Error != "" {
		err = errors.New(said.Error)
	}
	if err != nil || said.Same || said.Entries == 0 {
		discard(draft, &copying)
	}
	switch {
	case err != nil:
		return "", err
	case said.Same:
		return looks, nil
	case said.Entries == 0:
		return said.Looks, s.storage.archive.Clear()
	}
	s.storage.archive.Left(said.Left)
	kept := make(chan error, 1)
	go func() {
		kept <- fault.Contain("keeping a session's storage", func() error {
			defer draft.Discard()
			return draft.Keep()
		})
	}()
	select {
	case err := <-kept:
		return said.Looks, err
	case <-enough:
		err = errEnough
	case <-s.storage.gone: // the next life may begin
		err = errGone
	case <-late.C: // a disk may be busy for minutes
		err = errLate
	}
	draft.GiveUp()
	return "", err
}

// discard lets go of a draft when nothing is written to it any more. Whoever saves
// waits a while for that, and not for a disk that takes nothing.
func discard(draft *runtime.Draft, copying *sync.WaitGroup) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		copying.Wait()
		draft.Discard()
	}()
	select {
	case <-done:
	case <-time.After(lastWords):
	}
}

// pack fills the draft with what the session packs, and answers how that went. Where it
// fails, a write to the draft may be under way still: it is counted in copying.
func (s *session) pack(draft io.Writer, copying *sync.WaitGroup, enough <-chan struct{}, looks string, late <-chan time.Time) (said inside.Saved, err error) {
	read, write, err := os.Pipe()
	if err != nil {
		return said, err
	}
	defer read.Close()
	s.storage.number++
	if err := s.channel.Send(inside.Message{Kind: inside.KindSave, Number: s.storage.number, Text: looks}, write); err != nil {
		return said, err
	}
	copied := make(chan error, 1)
	copying.Go(func() {
		copied <- fault.Contain("keeping a session's storage", func() error {
			_, err := io.Copy(draft, read)
			return err
		})
	})
	answered := false
	for done := copied; !answered || done != nil; {
		err = nil
		select {
		case err = <-done:
			done = nil
		case m := <-s.storage.saved:
			if m.Number == s.storage.number { // or it is the answer to one that was given up
				answered = true
				err = json.Unmarshal([]byte(m.Text), &said)
			}
		case <-enough:
			err = errEnough
		case <-s.storage.gone:
			err = errGone
		case <-late:
			err = errLate
		}
		if err != nil {
			return said, err // the pipe is closed: the session hears that nobody wants the rest
		}
	}
	return said, nil
}

// answered takes in what the init says of a saving. An answer that nobody waits for is dropped.
func (s *storage) answered(m inside.Message) {
	for {
		select {
		case s.saved <- m:
			return
		default:
		}
		select {
		case <-s.saved:
		default:
		}
	}
}

// settle says that the agent has ended, and process 1 waits for its storage to be saved.
func (s *storage) settle() {
	if !s.finished {
		s.finished = true
		close(s.settled)
	}
}
