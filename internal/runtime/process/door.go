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

// door lets a session's connections in to a handler: it listens on a port of the
// session's network. When the session has ended it closes all connections, also
// those that a handler took for itself.
type door struct {
	net.Listener
	server *http.Server
	room   chan struct{} // whoever is one too many waits before the door

	mu     sync.Mutex
	open   map[*visitor]bool
	closed bool
}

// visitor is a connection of a session.
type visitor struct {
	*net.TCPConn
	door *door
}

// patience is how long a request to the platform may take to come, as from outside:
// what has come of it is held in the platform's memory, and not in the session's.
const patience = 2 * time.Minute

// What a door to the platform takes in at once of requests that are long, or do not
// say how long they are: the platform holds them whole, and the session's memory does not.
const (
	shortRequest = 64 << 10 // bytes
	longRequests = 16
)

// inTurn lets long requests in when there is room for them.
func inTurn(h http.Handler) http.Handler {
	room := make(chan struct{}, longRequests)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 || r.ContentLength > shortRequest {
			room <- struct{}{} // those who are in have two minutes to come whole
			defer func() { <-room }()
		}
		h.ServeHTTP(w, r)
	})
}

// openDoor serves what comes by a listening socket. A request has so long to come; 0
// is no bound, for a door behind which nothing waits for the whole of one.
func openDoor(socket *os.File, h http.Handler, patience time.Duration) (*door, error) {
	listener, err := net.FileListener(socket)
	if err != nil {
		return nil, err
	}
	if h == nil {
		h = http.NotFoundHandler()
	}
	if patience != 0 {
		h = inTurn(h)
	}
	d := &door{Listener: listener, room: make(chan struct{}, maxConnections), open: map[*visitor]bool{}}
	d.server = &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: patience, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 192 << 10,
		ErrorLog: log.New(io.Discard, "", 0)} // what an agent sends wrongly is its own affair
	go func() { _ = d.server.Serve(d) }()
	return d, nil
}

// Accept makes a door the listener of its server.
func (d *door) Accept() (net.Conn, error) {
	d.room <- struct{}{}
	conn, err := d.Listener.Accept()
	if err != nil {
		<-d.room
		return nil, err
	}
	v := &visitor{conn.(*net.TCPConn), d}
	d.mu.Lock()
	d.open[v] = true
	late := d.closed
	d.mu.Unlock()
	if late {
		_ = v.Close()
		return nil, net.ErrClosed
	}
	return v, nil
}

// Close makes room for the next.
func (v *visitor) Close() error {
	v.door.mu.Lock()
	was := v.door.open[v]
	delete(v.door.open, v)
	v.door.mu.Unlock()
	if was {
		<-v.door.room
	}
	return v.TCPConn.Close()
}

// shut ends it.
func (d *door) shut() {
	d.mu.Lock()
	d.closed = true
	var left []*visitor
	for v := range d.open {
		left = append(left, v)
	}
	d.mu.Unlock()
	_ = d.server.Close()
	_ = d.Listener.Close()
	for _, v := range left {
		_ = v.Close()
	}
}
