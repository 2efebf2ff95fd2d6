package broker

import (
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

const (
	// openLimit bounds the sessions of one workload that wait for their users.
	openLimit = 100
	// busyFor is how long a session counts as somebody's who is at it: since its
	// link was made, opened or gone through.
	busyFor = 2 * time.Minute
)

// waiting is an open session as makeRoom sees it.
type waiting struct {
	id   string
	user principal.User
	last time.Time // when its link was made, opened or gone through
}

// replaced is what pollers of a session hear that had to go.
const replaced = "Newer requests took its place: at most 100 sessions of one workload identity wait for users."

// makeRoom keeps a workload's open sessions below the limit, and is fair about
// it: whoever has the most loses the one that was left alone the longest, and
// the one who asks counts the new one as his. So nobody takes another's place by
// asking often. Where everybody has one, the one left alone the longest goes;
// a person who is at it, never: then the newcomer has to wait.
func (b *Broker) makeRoom(tx *store.Tx, workloadID string, asks principal.User) error {
	all, err := b.waitingAt(tx, workloadID)
	if err != nil {
		return err
	}
	for len(all) >= openLimit {
		victim := leastMissed(all, asks)
		if idle := tx.Now.Sub(all[victim].last); most(all, asks) <= 1 && idle < busyFor {
			full := fault.New(fault.Throttled, "%d users are consenting at this workload identity, which is its limit of open sessions. Try again in a moment.", openLimit)
			full.RetryAfter = busyFor - idle
			return full
		}
		if _, err := b.fail(tx, &session{id: all[victim].id}, open, replaced); err != nil {
			return err
		}
		all = append(all[:victim], all[victim+1:]...)
	}
	return nil
}

// count is how many sessions each has, the one that is asked for included.
func count(all []waiting, asks principal.User) map[principal.User]int {
	of := map[principal.User]int{asks: 1}
	for _, w := range all {
		of[w.user]++
	}
	return of
}

func most(all []waiting, asks principal.User) (highest int) {
	for _, n := range count(all, asks) {
		highest = max(highest, n)
	}
	return highest
}

// leastMissed is the index of the session that goes: of those with the most, the
// asker before others, the one that was left alone the longest.
func leastMissed(all []waiting, asks principal.User) int {
	of := count(all, asks)
	highest := most(all, asks)
	victim := -1
	for i, w := range all {
		switch {
		case of[w.user] < highest, of[asks] == highest && highest > 1 && w.user != asks:
		case victim < 0, w.last.Before(all[victim].last):
			victim = i
		}
	}
	return victim
}

func (b *Broker) waitingAt(tx *store.Tx, workloadID string) (all []waiting, err error) {
	rows, err := tx.Query(`SELECT s.id, s.user_issuer, s.user_subject, s.user_id, s.created,
			COALESCE((SELECT MAX(CASE WHEN a.parked > a.created THEN a.parked ELSE a.created END) FROM authorization_attempts a WHERE a.session_id = s.id), 0)
		FROM authorization_sessions s WHERE s.workload_id = $1 AND s.state = $2 AND s.expires > $3`, workloadID, open, store.Micros(tx.Now))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var w waiting
		var created, opened int64
		if err := rows.Scan(&w.id, &w.user.Issuer, &w.user.Subject, &w.user.ID, &created, &opened); err != nil {
			return nil, err
		}
		w.last = store.Time(max(created, opened))
		all = append(all, w)
	}
	return all, rows.Err()
}
