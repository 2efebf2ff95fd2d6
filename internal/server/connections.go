package server

import (
	"net"
	"net/http"
	"sync"
)

// newcomers are the connections on which nothing has been asked yet. Browsers
// open some to spare; http.Server.Shutdown gives each of them five seconds to
// ask something, which would make every stop take that long.
type newcomers struct {
	mu          sync.Mutex
	connections map[net.Conn]struct{}
}

// follow is an http.Server's ConnState.
func (n *newcomers) follow(c net.Conn, state http.ConnState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if state != http.StateNew {
		delete(n.connections, c)
		return
	}
	if n.connections == nil {
		n.connections = map[net.Conn]struct{}{}
	}
	n.connections[c] = struct{}{}
}

// dismiss closes them; call it before Shutdown.
func (n *newcomers) dismiss() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.connections {
		_ = c.Close()
	}
}
