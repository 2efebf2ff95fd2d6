package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
)

const (
	pingLimit     = 5 * time.Second // for one answer
	pingLength    = 64 << 10        // bytes that are read of it
	lookOften     = 2 * time.Second
	lookSeldom    = 10 * time.Second
	missesAllowed = 3 // in a row; of a busy agent four times as many
)

// pinged is what an agent's /ping said.
type pinged struct {
	answered bool      // it did, and not with an error of its own
	busy     bool      // HealthyBusy: work goes on, though no call is under way
	changed  time.Time // when that last changed, by the agent's word; zero where it did not say
}

// ask asks an agent once how it is. MCP has no /ping: that it answers at all is
// asked for while it starts, and afterwards its process speaks for it.
func (n *session) ask(ctx context.Context) pinged {
	p, _, path := protocol(&n.version.settings)
	if p == api.ServerProtocolMcp {
		select {
		case <-n.ready:
			return pinged{answered: true}
		default:
		}
	} else {
		path = "/ping"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+hostOf(&n.version.settings)+path, nil)
	if err != nil {
		return pinged{}
	}
	response, err := n.agent.RoundTrip(request)
	if err != nil {
		return pinged{}
	}
	defer response.Body.Close()
	if p == api.ServerProtocolMcp {
		return pinged{answered: true} // any answer at all; a stream of events has no end to wait for
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, pingLength))
	if err != nil || response.StatusCode >= 500 {
		return pinged{}
	}
	if response.StatusCode >= 300 {
		return pinged{answered: true} // an agent without /ping
	}
	return readPing(body)
}

// readPing reads an answer leniently: the status counts, and only HealthyBusy
// means something. The time comes as a number or text of seconds, as RFC 3339, or not at all.
func readPing(body []byte) pinged {
	var said struct {
		Status  json.RawMessage `json:"status"`
		Changed json.RawMessage `json:"time_of_last_update"`
	}
	_ = json.Unmarshal(body, &said) // what is no JSON says nothing, and is an answer
	var status string
	_ = json.Unmarshal(said.Status, &status)
	return pinged{answered: true, busy: strings.EqualFold(status, "HealthyBusy"), changed: readTime(said.Changed)}
}

func readTime(raw json.RawMessage) time.Time {
	text := string(bytes.TrimSpace(raw))
	var quoted string
	if json.Unmarshal(raw, &quoted) == nil {
		text = strings.TrimSpace(quoted)
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 && seconds < 1<<40 {
		return time.UnixMicro(int64(seconds * 1e6))
	}
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at
	}
	return time.Time{}
}

// heard takes in what an agent said. Its idle time begins when its work ended, by
// its own word where that can be true: not in the future, nor before the last use.
// A time that moves on while the status stays does not keep a session.
func (n *session) heard(said pinged, now time.Time) {
	if !said.answered {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.busy && !said.busy {
		n.lastUsed = now
		if said.changed.After(n.busySince) && said.changed.Before(now) {
			n.lastUsed = said.changed
		}
	}
	if said.busy {
		n.lastUsed, n.busySince = now, now
	}
	n.busy = said.busy
}

// health counts how often an agent did not answer.
type health struct{ misses int }

// judge reports whether an agent is beyond hope: it has not answered several times,
// and no call is under way that could keep it from answering.
func (h *health) judge(said pinged, working, busy bool) bool {
	if said.answered || working {
		h.misses = 0
		return false
	}
	h.misses++
	allowed := missesAllowed
	if busy {
		allowed *= 4
	}
	return h.misses >= allowed
}
