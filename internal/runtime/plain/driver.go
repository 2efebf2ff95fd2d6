package plain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/runtime"
)

// Driver runs sessions without isolation; safe for concurrent use.
type Driver struct {
	mu    sync.Mutex
	ports map[int]bool // given to sessions
}

// New is the driver. There is nothing that a machine could lack.
func New() *Driver { return &Driver{ports: map[int]bool{}} }

// About says what holds here.
func (*Driver) About() string {
	return "NOTHING is isolated or limited: agents run as the platform's user and can read its files and keys, reach every network, and reach each other; they listen on the port that PORT names"
}

type session struct {
	driver      *Driver
	code        string
	environment []string
	port        int
	folder      string // HOME and TMPDIR; the keeper takes it away
	keeper      *keeper
	servers     []*http.Server
	ended       chan struct{}
}

// Start starts the agent.
func (d *Driver) Start(_ context.Context, l runtime.Launch) (_ runtime.Process, err error) {
	if !initialised {
		return nil, errors.New("this program cannot run sessions: server.Init must be the first line of its main, or of its TestMain")
	}
	if len(l.Mounts) > 0 {
		return nil, fault.New(fault.RuntimeClient, "There is no session storage (%s) where sessions are not isolated: it would be a folder of the machine.", strings.Join(l.Mounts, ", "))
	}
	s := &session{driver: d, code: l.Code, ended: make(chan struct{})}
	defer func() {
		if err != nil {
			s.clear()
			_ = os.RemoveAll(s.folder)
		}
	}()
	if s.folder, err = os.MkdirTemp("", "onbehalf-session-"); err != nil {
		return nil, fault.Wrap(err, "making a session's folder")
	}
	for _, name := range []string{"home", "tmp"} {
		if err := os.Mkdir(filepath.Join(s.folder, name), 0o700); err != nil {
			return nil, fault.Wrap(err, "making a session's folder")
		}
	}
	if s.port, err = d.port(); err != nil {
		return nil, fault.Wrap(err, "finding a port for a session")
	}
	platform, err := s.serve(l.Platform)
	if err != nil {
		return nil, fault.Wrap(err, "listening for a session")
	}
	proxy, err := s.serve(l.Proxy)
	if err != nil {
		return nil, fault.Wrap(err, "listening for a session")
	}
	s.environment = s.adjust(l.Environment, platform, proxy)
	if s.keeper, err = keep(s.folder, l.Command, s.code, s.environment, l.Output, l.Output); err != nil {
		return nil, fault.Wrap(err, "starting a session")
	}
	go func() {
		<-s.keeper.ended
		s.clear()
		close(s.ended)
	}()
	return s, nil
}

// The agents' ports are among those that systems give to nobody by themselves: one
// that is free is not the next outgoing connection's before the agent listens there.
const (
	firstPort = 12000
	portCount = 8000
)

// port finds a free one that no other session was given.
func (d *Driver) port() (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var refused error // the port is somebody else's, or the platform may open nothing more
	for range 1000 {
		port := firstPort + rand.IntN(portCount)
		listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			refused = err
			continue
		}
		_ = listener.Close()
		if !d.ports[port] {
			d.ports[port] = true
			return port, nil
		}
	}
	return 0, errors.Join(errors.New("no port is free"), refused)
}

// serve lets whoever is on this machine reach a handler, and says where.
func (s *session) serve(h http.Handler) (address string, err error) {
	if h == nil {
		h = http.NotFoundHandler()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 192 << 10,
		ErrorLog: log.New(io.Discard, "", 0)}
	s.servers = append(s.servers, server)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("a session's listener ended", "error", err)
		}
	}()
	return listener.Addr().String(), nil
}

// adjust is the environment with the session's own addresses, port and folders.
func (s *session) adjust(environment []string, platform, proxy string) []string {
	own := map[string]string{
		"PORT": strconv.Itoa(s.port), "HOME": filepath.Join(s.folder, "home"), "TMPDIR": filepath.Join(s.folder, "tmp"),
	}
	var out []string
	for _, variable := range environment {
		name, value, _ := strings.Cut(variable, "=")
		if _, replaced := own[name]; replaced {
			continue
		}
		value = readdress(value, runtime.PlatformPort, platform)
		value = readdress(value, runtime.ProxyPort, proxy)
		out = append(out, name+"="+value)
	}
	for name, value := range own {
		out = append(out, name+"="+value)
	}
	return out
}

// readdress puts an address in place of 127.0.0.1:port, where that is not the
// beginning of a longer number.
func readdress(text string, port int, address string) string {
	usual := "127.0.0.1:" + strconv.Itoa(port)
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, usual)
		out.WriteString(before)
		if !found {
			return out.String()
		}
		if after != "" && after[0] >= '0' && after[0] <= '9' {
			out.WriteString(usual)
		} else {
			out.WriteString(address)
		}
		text = after
	}
}

// clear gives back what the platform holds for a session.
func (s *session) clear() {
	for _, server := range s.servers {
		_ = server.Close()
	}
	s.driver.mu.Lock()
	defer s.driver.mu.Unlock()
	delete(s.driver.ports, s.port)
}

func (s *session) Dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)))
}

func (s *session) Stop(grace time.Duration) {
	s.keeper.stop(grace)
	<-s.ended
}

func (s *session) Ended() <-chan struct{} { return s.ended }

func (s *session) End() string { return s.keeper.why() }

func (s *session) Run(ctx context.Context, c runtime.Command) (int, error) {
	select {
	case <-s.ended:
		return -1, fmt.Errorf("the session ended: %s", s.End())
	default:
	}
	k, err := keep("", []string{"/bin/sh", "-c", c.Line}, s.code, s.environment, c.Stdout, c.Stderr)
	if err != nil {
		return -1, err
	}
	timeout := time.NewTimer(c.Timeout)
	defer timeout.Stop()
	select {
	case <-k.ended:
		return k.code(), nil
	case <-timeout.C:
		err = context.DeadlineExceeded
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.ended:
		err = fmt.Errorf("the session ended: %s", s.End())
	}
	k.stop(0)
	return -1, err
}
