package store

import "context"

// Round has the questions answered in one round, and says how each ended.
func Round(ctx context.Context, db *DB, queries ...string) (ends []error) {
	var round []*question
	for _, query := range queries {
		round = append(round, &question{query: query, answer: make(chan *answer, 1)})
	}
	db.engine.(*postgresEngine).gatherer.run(ctx, round)
	for _, q := range round {
		ends = append(ends, (<-q.answer).err)
	}
	return ends
}
