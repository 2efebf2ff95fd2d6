package store

// Stats is how busy the connections to the database are, for metrics. On SQLite
// "write" is the one writer and "read" the readers; on PostgreSQL the two pools.
type Stats struct {
	Open, InUse int
	Waiting     int64 // SQLite: who waits now; PostgreSQL: how often somebody had to wait, since the start
}

// Stats says so by direction.
func (db *DB) Stats() map[string]Stats { return db.engine.stats() }

func (e *liteEngine) stats() map[string]Stats {
	return map[string]Stats{"read": e.readers.stats(), "write": e.writer.stats()}
}

func (l *lane) stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{Open: l.open, InUse: l.open - len(l.idle), Waiting: int64(len(l.waiting))}
}

func (e *postgresEngine) stats() map[string]Stats {
	stats := make(map[string]Stats, 2)
	r, w := e.readers.Stats(), e.writers.Stats()
	stats["read"] = Stats{Open: r.OpenConnections, InUse: r.InUse, Waiting: r.WaitCount}
	stats["write"] = Stats{Open: w.OpenConnections, InUse: w.InUse, Waiting: w.WaitCount}
	return stats
}
