package deploy

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"strings"
)

// state is what this machine remembers of an agent on one platform. Without it all
// goes on: the runtime is found by its name, and a conversation begins anew.
type state struct {
	Runtime  string            `json:"runtime,omitempty"`  // id of the runtime that was launched from here
	Sessions map[string]string `json:"sessions,omitempty"` // of the last conversations, by user and endpoint
	Last     string            `json:"last,omitempty"`     // of the last conversation, whoever's it was
}

// conversation is the key of a user's last session at an endpoint: the user, where it is DEFAULT.
func conversation(user, qualifier string) string {
	if qualifier == "" || qualifier == defaultEndpoint {
		return user
	}
	return user + "\n" + qualifier // no header has a line break, and so no user
}

const defaultEndpoint = "DEFAULT"

// keep remembers the last conversation.
func (s *state) keep(of, session string) {
	if s.Sessions == nil {
		s.Sessions = map[string]string{}
	}
	s.Sessions[of], s.Last = session, session
}

// drop forgets a conversation that has ended.
func (s *state) drop(session string) {
	maps.DeleteFunc(s.Sessions, func(_, known string) bool { return known == session })
	if s.Last == session {
		s.Last = ""
	}
}

// moveOn forgets the conversations with the version before: whoever launches wants to
// see the new one, and a session that runs keeps its own. It reports whether there
// were any. Other endpoints than DEFAULT stay where they are.
func (s *state) moveOn() bool {
	known := len(s.Sessions)
	maps.DeleteFunc(s.Sessions, func(of, _ string) bool { return !strings.Contains(of, "\n") })
	return len(s.Sessions) < known
}

const stateFile = "state.json"

func (a *Agent) stateKey(endpoint string) string { return endpoint + " " + a.Name }

func (a *Agent) states() map[string]state {
	known := map[string]state{}
	content, err := readOwn(filepath.Join(a.Folder(), workFolder, stateFile))
	if err != nil || json.Unmarshal(content, &known) != nil || known == nil {
		return map[string]state{}
	}
	return known
}

func (c *Client) remembered(a *Agent) state { return a.states()[a.stateKey(c.endpoint)] }
