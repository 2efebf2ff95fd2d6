package runtime

import (
	"bytes"
	"encoding/json"
	"net/http"
	"sync"
)

// conversations are the sessions of MCP by the Mcp-Session-Id that an agent has
// given out: the client has no other name for its session.
type conversations struct {
	mu    sync.Mutex
	known map[conversation]string       // runtimeSessionId
	given map[sessionKey][]conversation // those that a session's agent has given out, the oldest first
	sweep int                           // when there are so many, the ended ones are swept out
}

type conversation struct {
	runtime string
	owner   owner
	id      string
}

const (
	// maxConversations is when those whose sessions have ended are first swept out.
	maxConversations = 4096
	// givenConversations is how many of an agent's ids lead back to its session. The
	// oldest is forgotten: an agent that gives out one with each answer takes no memory.
	givenConversations = 64
)

// stick chooses the session of a call of MCP, whose key is Mcp-Session-Id. A call
// without one gets the session's own id there, but for initialize: an agent that
// keeps state mints its own, and would refuse one that it does not know.
func (s *Service) stick(c *call) {
	id := c.r.Header.Get(headerMCP)
	if id == "" {
		if !c.initializes() {
			c.r.Header[headerMCP] = []string{c.session}
		}
		return
	}
	s.mcp.mu.Lock()
	known, found := s.mcp.known[conversation{c.at.runtime.id, ownerOf(c.holder()), id}]
	s.mcp.mu.Unlock()
	switch {
	case found:
		c.useSession(known)
	case checkSession(id) == nil:
		c.useSession(id)
	}
}

// stuck puts the answer's Mcp-Session-Id, and remembers one that the agent made.
func (s *Service) stuck(c *call, header http.Header) {
	given := header.Get(headerMCP)
	if given == "" {
		if given = c.r.Header.Get(headerMCP); given == "" {
			given = c.session
		}
		header[headerMCP] = []string{given}
		return
	}
	if given == c.session || len(given) > 512 {
		return
	}
	s.mcp.mu.Lock()
	defer s.mcp.mu.Unlock()
	if len(s.mcp.known) >= s.mcp.sweep {
		s.sweepConversations()
	}
	s.mcp.remember(conversation{c.at.runtime.id, ownerOf(c.holder()), given}, c.session)
}

// remember keeps an id that a session's agent has given out.
func (m *conversations) remember(id conversation, session string) {
	if m.known[id] == session {
		return
	}
	key := sessionKey{id.runtime, session}
	given := append(m.given[key], id)
	if len(given) > givenConversations {
		if m.known[given[0]] == session { // it may be another session's by now
			delete(m.known, given[0])
		}
		given = append(given[:0], given[1:]...)
	}
	m.given[key] = given
	m.known[id] = session
}

// sweepConversations forgets those whose sessions have ended.
func (s *Service) sweepConversations() {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	m := &s.mcp
	given := map[sessionKey][]conversation{}
	known := map[conversation]string{}
	for key, ids := range m.given {
		if s.live.all[key] == nil {
			continue
		}
		given[key] = ids
		for _, id := range ids {
			if m.known[id] == key.id {
				known[id] = key.id
			}
		}
	}
	m.given, m.known, m.sweep = given, known, max(maxConversations, 2*len(known))
}

// initializes reports whether the body is MCP's first message.
func (c *call) initializes() bool {
	if method := c.r.Header.Get("Mcp-Method"); method != "" {
		return method == "initialize"
	}
	var message struct {
		Method string `json:"method"`
	}
	whole, inMemory := c.inMemory()
	return inMemory && bytes.Contains(whole, []byte("initialize")) && json.Unmarshal(whole, &message) == nil && message.Method == "initialize"
}
