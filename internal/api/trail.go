package api

import (
	"slices"
	"strconv"
	"strings"
)

// trail is where in a request a reader or a checker is. It keeps steps instead
// of a path, so that good requests build no strings.
type trail struct {
	steps []step
	room  [8]step // backs steps for all but the deepest requests
}

// step is one part of a path: a member, or a list's or map's member in it.
type step struct {
	name  string
	index int    // of a list, from 1
	key   string // of a map
	entry bool   // key is meant, even when empty
}

func (t *trail) enter(name string)           { t.push(step{name: name}) }
func (t *trail) item(name string, index int) { t.push(step{name: name, index: index + 1}) }
func (t *trail) entry(name, key string)      { t.push(step{name: name, key: key, entry: true}) }
func (t *trail) leave()                      { t.steps = t.steps[:len(t.steps)-1] }

func (t *trail) push(s step) {
	if t.steps == nil {
		t.steps = t.room[:0]
	}
	t.steps = append(t.steps, s)
}

// path is where name is, in AWS's spelling: "targetConfiguration.mcp",
// "scopes.1.member", "tags.color.member". An empty name is the place itself.
func (t *trail) path(name string) string {
	var parts []string
	for _, s := range append(slices.Clone(t.steps), step{name: name}) {
		if s.name != "" {
			parts = append(parts, s.name)
		}
		switch {
		case s.entry:
			parts = append(parts, s.key, "member")
		case s.index > 0:
			parts = append(parts, strconv.Itoa(s.index), "member")
		}
	}
	return strings.Join(parts, ".")
}
