// Command echo is the agent of contract_story_test.go on our own package.
package main

import (
	"context"
	"errors"
	"iter"
	"log"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/onbehalf/onbehalf/agent"
)

type payload struct{ Do, Text string }

// next lets what waits go on: a stream to its next event, a task to its end. A call
// with "next" says so, when its caller has seen what there was to see.
var next = make(chan struct{}, 10)

func awaitNext() error {
	select {
	case <-next:
		return nil
	case <-time.After(2 * time.Minute):
		return errors.New("nobody asked for what comes next")
	}
}

func main() {
	app := agent.New()
	app.Entrypoint(func(ctx context.Context, in payload) (any, error) {
		switch in.Do {
		case "echo":
			token, err := agent.WorkloadToken(ctx)
			return map[string]string{
				"text": in.Text, "session": agent.SessionID(ctx), "request": agent.RequestID(ctx), "token": token.Reveal(),
				"callback": agent.CallbackURL(ctx), "custom": agent.Headers(ctx).Get("X-Amzn-Bedrock-AgentCore-Runtime-Custom-Team"),
			}, err
		case "stream":
			return events(3, nil), nil
		case "break":
			return events(1, errors.New("no luck")), nil
		case "task":
			app.Go(ctx, "work", func(context.Context) error { return awaitNext() })
			return "begun", nil
		case "next":
			next <- struct{}{}
			return "next", nil
		}
		return nil, errors.New("no luck")
	})
	app.WebSocket(func(ctx context.Context, c *websocket.Conn) error {
		for {
			kind, text, err := c.Read(ctx)
			if err != nil {
				return err
			}
			if err := c.Write(ctx, kind, append([]byte(agent.SessionID(ctx)+" "), text...)); err != nil {
				return err
			}
		}
	})
	if err := app.Run(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

// events are those of a stream, each but the first when it is asked for.
func events(count int, fail error) iter.Seq2[map[string]int, error] {
	return func(yield func(map[string]int, error) bool) {
		for number := 1; number <= count; number++ {
			if number > 1 {
				if err := awaitNext(); err != nil {
					yield(nil, err)
					return
				}
			}
			if !yield(map[string]int{"number": number}, nil) {
				return
			}
		}
		if fail != nil {
			yield(nil, fail)
		}
	}
}
