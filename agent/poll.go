package agent

import (
	"context"
	"errors"
	"time"
)

// TokenPoller waits until the user has consented. It calls poll as often as it
// likes, never twice at a time, and returns what poll returned. While the user
// is not done, the error of poll is [ErrPending]; any other error is final unless
// it is an [*Error] whose Temporary method says otherwise.
//
// A program that serves its own callback page can poll the moment the browser
// comes back, instead of at intervals.
type TokenPoller interface {
	PollForToken(ctx context.Context, poll func(context.Context) (Secret, error)) (Secret, error)
}

// IntervalPoller asks at equal intervals, the first time after one interval. A
// zero field has its default.
type IntervalPoller struct {
	Interval time.Duration // 5 seconds
	Timeout  time.Duration // 10 minutes, as long as a link lives
}

// inARow is how many polls may go unanswered, one after the other: a minute at
// the default interval, in which a platform restarts.
const inARow = 12

// PollForToken ends with the context, after Timeout ([ErrConsentTimeout]), at a
// refusal, or when a dozen polls in a row were not answered.
func (p IntervalPoller) PollForToken(ctx context.Context, poll func(context.Context) (Secret, error)) (Secret, error) {
	if p.Interval <= 0 {
		p.Interval = 5 * time.Second
	}
	if p.Timeout <= 0 {
		p.Timeout = 10 * time.Minute
	}
	end := time.Now().Add(p.Timeout)
	asking, cancel := context.WithDeadline(ctx, end.Add(p.Interval)) // a poll that hangs ends, too
	defer cancel()
	var unanswered int
	for {
		select {
		case <-ctx.Done():
			return Secret{}, ctx.Err()
		case <-time.After(p.Interval):
		}
		token, err := poll(asking)
		var problem *Error
		switch {
		case err == nil:
			return token, nil
		case ctx.Err() != nil:
			return Secret{}, ctx.Err()
		case asking.Err() != nil:
			return Secret{}, p.timeout()
		case errors.Is(err, ErrPending):
			unanswered = 0
		case !errors.As(err, &problem) || !problem.Temporary():
			return Secret{}, err
		default:
			if unanswered++; unanswered == inARow {
				return Secret{}, err
			}
		}
		if !time.Now().Before(end) {
			return Secret{}, p.timeout()
		}
	}
}

func (p IntervalPoller) timeout() *Error {
	return &Error{Op: "access token", Kind: ErrConsentTimeout, Detail: "waited " + p.Timeout.String(), Hint: hintWaiting}
}
