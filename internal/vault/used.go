package vault

import (
	"context"
	"log/slog"
	"time"

	"github.com/onbehalf/onbehalf/internal/store"
)

const (
	// flushEvery is how often uses are written down; a crash forgets those since.
	flushEvery = time.Minute
	// usedLimit bounds the memory of uses not written down; more wait for the next use.
	usedLimit = 100_000
)

// touch remembers a use. A read of a token must not cost a write of the
// database's one writer, so uses are gathered here and written once a minute;
// the audit log has each of them anyway.
func (v *Vault) touch(id string, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, known := v.used[id]; known || len(v.used) < usedLimit {
		v.used[id] = now
	}
}

// Run writes down when grants were used, each minute and once more when ctx ends,
// and deletes cached tokens that are over.
func (v *Vault) Run(ctx context.Context) error {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			v.write(last) // a last-used time is worth no failed shutdown
			return nil
		case <-ticker.C:
			v.write(ctx)
			if err := v.db.Sweep(ctx, "cached tokens", flushEvery, sweepCached); err != nil { // the next one makes it good; nobody is given what has expired
				slog.WarnContext(ctx, "could not sweep cached tokens", "error", err)
			}
		}
	}
}

func (v *Vault) write(ctx context.Context) {
	if err := v.flush(ctx); err != nil { // what is lost is made good when the grant is used again
		slog.WarnContext(ctx, "could not write down when grants were used", "error", err)
	}
}

func (v *Vault) flush(ctx context.Context) error {
	v.mu.Lock()
	used := v.used
	v.used = make(map[string]time.Time)
	v.mu.Unlock()
	if len(used) == 0 {
		return nil
	}
	return v.db.Update(ctx, func(tx *store.Tx) error {
		for id, at := range used {
			if _, err := tx.Exec(`UPDATE grants SET last_used = $1 WHERE id = $2 AND last_used < $1`, store.Micros(at), id); err != nil {
				return err
			}
		}
		return nil
	})
}
