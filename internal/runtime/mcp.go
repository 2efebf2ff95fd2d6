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
	known map[conversation]string // runtimeSessionId
}

type conversation struct {
	runtime string
	owner   owner
	id      string
}

// maxConversations is when those whose sessions have ended are swept out.
const maxConversations = 4096

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
	if s.mcp.known == nil || len(s.mcp.known) >= maxConversations {
		s.mcp.known = s.living(s.mcp.known)
	}
	s.mcp.known[conversation{c.at.runtime.id, ownerOf(c.holder()), given}] = c.session
}

// living are the conversations whose sessions have not ended.
func (s *Service) living(all map[conversation]string) map[conversation]string {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	left := map[conversation]string{}
	for of, id := range all {
		if s.live.all[sessionKey{of.runtime, id}] != nil {
			left[of] = id
		}
	}
	return left
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
