package main

import (
	"context"
	"sync"
	"time"
)

// How long clean-up may take. AWS removes a gateway's targets after it has
// answered, and the gateway can go only then.
const (
	cleanUpTime    = 30 * time.Second
	cleanUpTimeAWS = 2 * time.Minute
)

// cleaner remembers how to undo what a run has made.
type cleaner struct {
	undo    []undo         // newest last
	running sync.WaitGroup // what goes on beside the story
}

type undo struct {
	what string // that is left behind if it cannot be undone
	do   func(context.Context) error
}

// onCleanUp remembers how to undo what was made, or may have been, unless things
// are to be kept: who got no answer does not know, and undoing what was never
// done is fine.
func (s *story) onCleanUp(made bool, what string, do func(context.Context) error) {
	if made && !s.Keep {
		s.cleaner.undo = append(s.cleaner.undo, undo{what, do})
	}
}

// end is step 7, and decides what the run is told to have ended with.
func (s *story) end(ctx context.Context, err error) error {
	interrupted := ctx.Err() != nil
	s.cleaner.running.Wait()
	left := s.cleanUp(err == nil)
	if interrupted && err != nil {
		err = stopped()
	}
	if len(left) == 0 {
		return err
	}
	if err == nil {
		return left[0]
	}
	if interrupted { // its own hint says that nothing is left behind
		return &OAuthError{Problem{What: "stopped", Cause: errCancelled, Hint: hintLeft}}
	}
	return err
}

// cleanUp undoes what was made, newest first. It has a time of its own: after
// Ctrl-C the run's context is over. It goes on after a failure and returns what
// could not be undone.
func (s *story) cleanUp(well bool) (left []error) {
	limit := cleanUpTime
	if s.Backend == backendAWS {
		limit = cleanUpTimeAWS
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if s.process.hurry != nil {
		defer context.AfterFunc(s.process.hurry, cancel)()
	}
	for i := len(s.cleaner.undo) - 1; i >= 0; i-- {
		u := s.cleaner.undo[i]
		s.log.Debug("clean-up", "what", u.what)
		if err := u.do(ctx); err != nil {
			if ctx.Err() != nil && s.embedded() && s.Data == "" {
				break // in a hurry, and the platform goes with all that it has
			}
			left = append(left, err)
			s.more("left behind: %s (%s)", u.what, safe(err))
		}
	}
	if s.callback != nil {
		s.callback.Stop()
	}
	if s.backend == nil { // there was nothing to clean up
		return left
	}
	s.backend.Stop()
	switch {
	case len(left) > 0:
		s.step(7, "clean-up failed", "something is left behind: %s", safe(left[0]))
	case s.Keep && well && s.embedded():
		s.step(7, "kept", "the next run with --keep greets without asking (data in %s)", s.Data)
	case s.Keep && well:
		s.step(7, "kept", "the next run with --keep greets without asking")
	case s.Keep:
		s.step(7, "kept", "what was made stays, as --keep says")
	case s.Google.ClientID != "":
		s.step(7, "cleaned up", "but for the credential provider, whose callback URL is registered at Google")
	default:
		s.step(7, "cleaned up", "")
	}
	return left
}
