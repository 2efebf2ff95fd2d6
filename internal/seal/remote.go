package seal

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// A key's server is asked at most three times within eight seconds: the server
// that starts waits for it, and so does the first value of an account.
const (
	remoteAttempts = 3
	remoteTimeout  = 8 * time.Second
	remoteLimit    = 64 << 10 // bytes of an answer, which has one wrapped key of some hundred
)

// passing marks an error that another attempt may not meet.
type passing struct{ error }

func (p passing) Unwrap() error { return p.error }

// persistently does ask until it succeeds, fails for good, or was tried enough.
func persistently[T any](ctx context.Context, ask func(context.Context) (T, error)) (answer T, err error) {
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		answer, err = ask(ctx)
		again, worthwhile := err.(passing)
		if err == nil || !worthwhile {
			return answer, err
		}
		if attempt == remoteAttempts || ctx.Err() != nil {
			return answer, again.error
		}
		select {
		case <-ctx.Done():
			return answer, again.error
		case <-time.After(time.Duration(attempt)*100*time.Millisecond + rand.N(100*time.Millisecond)):
		}
	}
}

// unanswered is the error of a key's server that did not do its work. The cause
// is for the log.
func unanswered(id, what string, cause error) error {
	problem := fault.New(fault.Unavailable, "The server of the key %s %s.", id, what)
	if cause != nil {
		problem = problem.Because(cause)
	}
	return problem
}
