//go:build linux

package process

import (
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// door lets connections of a session in to a handler. When the session has ended
// it closes them all, also those that a handler took for itself.
type door struct {
	server *http.Server
	in     chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	open map[*visitor]bool
}

// visitor is a connection of a session.
type visitor struct {
	*net.UnixConn
	door *door
}

func (v *visitor) Close() error {
	v.door.mu.Lock()
	delete(v.door.open, v)
	v.door.mu.Unlock()
	return v.UnixConn.Close()
}

func newDoor(h http.Handler) *door {
	if h == nil {
		h = http.NotFoundHandler()
	}
	d := &door{in: make(chan net.Conn), closed: make(chan struct{}), open: map[*visitor]bool{}}
	d.server = &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 192 << 10,
		ErrorLog: log.New(io.Discard, "", 0)} // what an agent sends wrongly is its own affair
	go func() { _ = d.server.Serve(d) }()
	return d
}

func (d *door) enter(files []*os.File) {
	for _, f := range files {
		c, err := net.FileConn(f)
		if err != nil {
			continue
		}
		u, ok := c.(*net.UnixConn)
		if !ok {
			_ = c.Close()
			continue
		}
		v := &visitor{u, d}
		d.mu.Lock()
		d.open[v] = true
		d.mu.Unlock()
		select {
		case d.in <- v:
		case <-d.closed:
			_ = v.Close()
		}
	}
}

// Accept, Close and Addr make a door the listener of its server.
func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.in:
		return c, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

func (d *door) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

func (d *door) Addr() net.Addr { return &net.UnixAddr{Name: "session", Net: "unix"} }

// close ends it. It is called by the one who calls enter.
func (d *door) close() {
	_ = d.server.Close()
	d.mu.Lock()
	left := d.open
	d.open = map[*visitor]bool{}
	d.mu.Unlock()
	for v := range left {
		_ = v.UnixConn.Close()
	}
}
