// Command hostile is an agent that does what agents must not, when it is told to:
// the environment variable HOSTILE says what it does before it serves, a payload's
// "do" what a call does. Told nothing, it is an agent that counts its calls.
//
//	main.go     the start, and which function a call is for
//	harm.go     it crashes, forks, fills memory and disk
//	spy.go      it looks for what is not its own
//	quiet.go    it streams, waits, keeps a key: for the stories about callers
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/onbehalf/onbehalf/agent"
)

type payload struct {
	Do     string
	Path   string   // of a file or folder to read or write
	Text   string   // to write
	Where  []string // addresses or URLs to reach
	Count  int
	Millis int
}

var calls atomic.Int64

func main() {
	app := agent.New().Entrypoint(answer)
	port := os.Getenv("PORT")
	switch os.Getenv("HOSTILE") {
	case "child":
		forkOn()
	case "crashes":
		fmt.Fprintln(os.Stderr, "the configuration is missing: there is no file settings.json")
		os.Exit(3)
	case "panics":
		panic("no luck at the start")
	case "deaf": // runs, and listens nowhere
		fmt.Println("waiting for a database that does not come")
		time.Sleep(time.Hour)
	case "silent": // takes connections, and never answers
		listener, err := net.Listen("tcp", "0.0.0.0:"+port)
		if err != nil {
			log.Fatal(err)
		}
		for {
			if _, err := listener.Accept(); err != nil {
				log.Fatal(err)
			}
		}
	case "stubborn": // serves, and does not end when it is told to
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, os.Interrupt)
		log.Fatal(http.ListenAndServe("0.0.0.0:"+port, app))
	}
	if err := app.Run(); err != nil {
		log.Fatal(err)
	}
}

func answer(ctx context.Context, in payload) (any, error) {
	switch in.Do {
	case "", "count":
		return calls.Add(1), nil
	case "crash":
		fmt.Println("the last words")
		os.Exit(4)
	case "crash mid-stream":
		return breakOff(), nil
	case "fork":
		return fork()
	case "fill memory":
		return fillMemory(), nil
	case "fill disk":
		return fillDisk(in.Path)
	case "burn":
		return burn(in), nil
	case "read":
		return read(in.Path), nil
	case "write":
		return nil, os.WriteFile(in.Path, []byte(in.Text), 0o600)
	case "reach":
		return reach(ctx, in.Where), nil
	case "get":
		return get(ctx, in.Where), nil
	case "processes":
		return processes(), nil
	case "environments":
		return environments(), nil
	case "credentials":
		return credentials(ctx)
	case "stream":
		return count(ctx, in), nil
	case "wait":
		return wait(ctx), nil
	case "callers":
		return map[string]int64{"waiting": waiting.Load(), "cancelled": cancelled.Load()}, nil
	case "take the key":
		return takeKey(ctx)
	case "token":
		token, err := agent.WorkloadToken(ctx)
		return token.Reveal(), err
	}
	return nil, fmt.Errorf("it does not know how to %s", in.Do)
}
