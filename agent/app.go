package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// App serves an agent the way a runtime expects it, and a person with curl: what
// BedrockAgentCoreApp is in Python.
//
//	POST /invocations ─▶ context: who asks ─▶ your function ─▶ JSON, or events as they come
//	GET  /ping        ─▶ forced, else yours, else busy while tasks run
//	GET  /ws          ─▶ your function, with the connection
//
// Within your function the context has the workload token, so [AccessToken] and
// [APIKey] work without more. It is cancelled when the caller goes away.
//
// Set an App up before it serves; after that all of it is safe for concurrent use.
type App struct {
	// Logger gets a line for each failed call. Nil means [NewLogHandler] on
	// standard error.
	Logger *slog.Logger

	// MaxPayload bounds what a caller may send, in bytes. 0 means 100 MB, which
	// is what the runtime lets through.
	MaxPayload int64

	entry     *entrypoint
	websocket WebSocketFunc
	health    health

	once    sync.Once
	handler http.Handler
	log     *slog.Logger
	life    context.Context // of what goes on after its call
	end     context.CancelFunc
}

// New makes an App without an entrypoint.
func New() *App { return &App{} }

// defaultPayload is the runtime's own limit.
const defaultPayload = 100 << 20

// stopTime is how long calls under way may take when the agent is told to stop;
// a runtime kills it after 15 seconds.
const stopTime = 10 * time.Second

// ServeHTTP makes an App an http.Handler, for programs that serve more than the agent.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.prepare()
	a.handler.ServeHTTP(w, r)
}

func (a *App) prepare() {
	a.once.Do(func() {
		a.life, a.end = context.WithCancel(context.Background())
		a.log = a.Logger
		if a.log == nil {
			a.log = slog.New(NewLogHandler(os.Stderr))
		}
		if a.MaxPayload == 0 {
			a.MaxPayload = defaultPayload
		}
		mux := http.NewServeMux()
		mux.HandleFunc("POST /invocations", a.invoke)
		mux.HandleFunc("GET /ping", a.ping)
		mux.HandleFunc("GET /ws", a.upgrade)
		// On a developer's machine any web page can send to a port of this machine;
		// an agent does things, so a page of another origin is refused.
		a.handler = http.NewCrossOriginProtection().Handler(mux)
	})
}

// Run serves until the process is told to stop (SIGINT, SIGTERM): on port 8080, or
// PORT where that is set; on all addresses in a container, where the runtime calls
// from outside, and on loopback elsewhere. What it returns is nil after an orderly stop.
func (a *App) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	listener, err := net.Listen("tcp", address())
	if err != nil {
		return fmt.Errorf("agent: %w; set PORT to another port", err)
	}
	return a.Serve(ctx, listener)
}

// Serve serves on the listener until the context ends; then calls under way, and
// the tasks of [App.Go], get ten seconds to come to an end.
func (a *App) Serve(ctx context.Context, listener net.Listener) error {
	a.prepare()
	defer a.end()
	// Calls end with the server, not with the signal: a stop lets them finish.
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{
		Handler:           a.handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    512 << 10, // a workload token and a bearer token may have 128 KiB each
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return calls },
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	a.log.InfoContext(ctx, "The agent listens on "+listener.Addr().String()+".")
	select {
	case err := <-ended:
		return fmt.Errorf("agent: %w", err)
	case <-ctx.Done():
	}
	patience, done := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer done()
	err := server.Shutdown(patience)
	if !a.health.wait(patience) && err == nil {
		err = patience.Err()
	}
	cancel() // who has not finished is told to
	a.end()
	if err != nil {
		_ = server.Close()
		return fmt.Errorf("agent: calls or tasks were still under way %v after the stop: %w", stopTime, err)
	}
	return nil
}

// address is where Run listens.
func address() string {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	if inContainer() {
		return net.JoinHostPort("", port)
	}
	return net.JoinHostPort("127.0.0.1", port)
}

func inContainer() bool {
	if os.Getenv("DOCKER_CONTAINER") != "" {
		return true
	}
	_, err := os.Stat("/.dockerenv")
	return !errors.Is(err, fs.ErrNotExist)
}
