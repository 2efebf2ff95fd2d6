package runtime

import (
	"encoding/json"
	"testing"
	"time"
)

func TestReadPing(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 17, 0, 0, 0, time.UTC)
	for body, want := range map[string]pinged{
		`{"status":"Healthy","time_of_last_update":1795366800}`:                     {changed: at},
		`{"status":"HealthyBusy","time_of_last_update":"1795366800"}`:               {busy: true, changed: at},
		`{"status":"HealthyBusy","time_of_last_update":"2026-11-22T17:00:00.000Z"}`: {busy: true, changed: at},
		`{"status":"HealthyBusy"}`:                                                  {busy: true},
		`{"status":"healthybusy","time_of_last_update":null}`:                       {busy: true},
		`{"status":"HealthyBusy","time_of_last_update":{"at":1}}`:                   {busy: true},
		`{"status":"HealthyBusy","time_of_last_update":"yesterday"}`:                {busy: true},
		`{"status":"HealthyBusy","time_of_last_update":-1e300}`:                     {busy: true},
		`{"status":7}`:             {},
		`{"status":"Unhealthy"}`:   {},
		`["HealthyBusy"]`:          {},
		`HealthyBusy`:              {},
		``:                         {},
		`{"Status":"HealthyBusy"}`: {busy: true},
	} {
		want.answered = true
		if got := readPing([]byte(body)); got.busy != want.busy || got.answered != want.answered || !got.changed.Equal(want.changed) {
			t.Errorf("%s: %+v, want %+v", body, got, want)
		}
	}
}

// Whatever an agent answers is an answer, and its time lies where times do.
func FuzzReadPing(f *testing.F) {
	f.Add([]byte(`{"status":"HealthyBusy","time_of_last_update":1795366800.25}`))
	f.Add([]byte(`{"status":"Healthy","time_of_last_update":"2026-11-22T17:00:00+01:00"}`))
	f.Add([]byte(`{"status":"Healthy","time_of_last_update":"NaN"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		said := readPing(body)
		if !said.answered {
			t.Error("not an answer")
		}
		if said.busy && !json.Valid(body) {
			t.Error("busy by what is no JSON")
		}
	})
}

// The idle time begins when the agent's work ended, by its own word where that can be.
func TestIdleTimeBegins(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 22, 17, 0, 0, 0, time.UTC)
	after := func(d time.Duration) time.Time { return start.Add(d) }
	busy := pinged{answered: true, busy: true}
	for name, c := range map[string]struct {
		said []pinged // one each minute
		want time.Time
	}{
		"never busy":        {[]pinged{{answered: true}, {answered: true, changed: after(2 * time.Minute)}}, start},
		"a time that moves": {[]pinged{{answered: true, changed: after(time.Minute)}, {answered: true, changed: after(2 * time.Minute)}}, start},
		"still busy":        {[]pinged{busy, busy}, after(2 * time.Minute)},
		"no time":           {[]pinged{busy, {answered: true}}, after(2 * time.Minute)},
		"its time":          {[]pinged{busy, {answered: true, changed: after(90 * time.Second)}}, after(90 * time.Second)},
		"a time before":     {[]pinged{busy, {answered: true, changed: start}}, after(2 * time.Minute)},
		"a time to come":    {[]pinged{busy, {answered: true, changed: after(time.Hour)}}, after(2 * time.Minute)},
		"no answer":         {[]pinged{busy, {}}, after(time.Minute)},
	} {
		n := &session{lastUsed: start}
		for i, said := range c.said {
			n.heard(said, after(time.Duration(i+1)*time.Minute))
		}
		if !n.lastUsed.Equal(c.want) {
			t.Errorf("%s: idle since %v, want %v", name, n.lastUsed, c.want)
		}
	}
}

// An agent without an answer is given up after a while, later when it said that it
// is busy, and never while a call may keep it.
func TestUnhealthy(t *testing.T) {
	t.Parallel()
	count := func(working, busy bool) (looks int) {
		var h health
		for looks < 100 {
			looks++
			if h.judge(pinged{}, working, busy) {
				return looks
			}
		}
		return looks
	}
	if count(false, false) != missesAllowed || count(false, true) != 4*missesAllowed || count(true, true) != 100 {
		t.Error(count(false, false), count(false, true), count(true, true))
	}
	var h health
	h.judge(pinged{}, false, false)
	h.judge(pinged{}, false, false)
	h.judge(pinged{answered: true}, false, false)
	if h.judge(pinged{}, false, false) {
		t.Error("misses that do not follow each other count")
	}
}

// A quick agent waits a few milliseconds for being asked, a slow one a tenth of its
// own start, and none more than a tenth of a second. A running one is looked at when
// its idle time ends.
func TestWhenAgentsAreAsked(t *testing.T) {
	t.Parallel()
	for waited, want := range map[time.Duration]time.Duration{0: 5 * time.Millisecond, 20 * time.Millisecond: 5 * time.Millisecond, 500 * time.Millisecond: 50 * time.Millisecond, 20 * time.Second: 100 * time.Millisecond} {
		if got := nextTry(waited); got != want {
			t.Errorf("after %v: %v", waited, got)
		}
	}
	for _, c := range []struct{ quiet, idle, want time.Duration }{
		{0, 15 * time.Minute, lookOften}, {2 * time.Minute, 15 * time.Minute, lookSeldom}, {15*time.Minute - time.Second, 15 * time.Minute, time.Second}, {time.Hour, time.Minute, time.Millisecond},
	} {
		if got := nextLook(c.quiet, c.idle); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
