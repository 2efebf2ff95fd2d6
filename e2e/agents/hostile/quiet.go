package main

import (
	"context"
	"fmt"
	"iter"
	"os"
	"sync/atomic"
	"time"

	"github.com/onbehalf/onbehalf/agent"
)

// cancelled is when the last call that waited was left by its caller, in
// milliseconds of the clock that all of a machine have; waiting is how many wait.
var cancelled, waiting atomic.Int64

// count streams numbers with pauses, and notices when its caller leaves.
func count(ctx context.Context, in payload) iter.Seq[int] {
	return func(yield func(int) bool) {
		for number := range in.Count {
			if !yield(number + 1) {
				cancelled.Store(time.Now().UnixMilli())
				return
			}
			select {
			case <-time.After(time.Duration(in.Millis) * time.Millisecond):
			case <-ctx.Done():
				cancelled.Store(time.Now().UnixMilli())
				return
			}
		}
	}
}

// wait works without a word until its caller leaves.
func wait(ctx context.Context) string {
	waiting.Add(1)
	defer waiting.Add(-1)
	select {
	case <-ctx.Done():
		cancelled.Store(time.Now().UnixMilli())
	case <-time.After(time.Minute):
	}
	return "the caller is patient"
}

// takeKey fetches a key and says it aloud: in the log, in two ways, but not in its answer.
func takeKey(ctx context.Context) (string, error) {
	key, err := agent.APIKey(ctx, agent.APIKeyOptions{Provider: "openai-apikey-provider"})
	if err != nil {
		return "", err
	}
	fmt.Println("the key is", key.Reveal(), "and again", key.Reveal())
	half := len(key.Reveal()) / 2
	_, _ = os.Stdout.WriteString("in two pieces: " + key.Reveal()[:half])
	time.Sleep(20 * time.Millisecond)
	_, _ = os.Stdout.WriteString(key.Reveal()[half:] + "\n")
	fmt.Fprintln(os.Stderr, `{"level":"ERROR","key":"`+key.Reveal()+`"}`)
	return fmt.Sprint("a key of ", len(key.Reveal()), " characters"), nil
}
