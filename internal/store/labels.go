package store

import (
	"context"
	"encoding/json"
)

// Labels answers a row's labels (texts under names, kept as a JSON object), as
// change left them. With change nil it reads; else it reads, changes and writes
// in one transaction, and change may run more than once.
func (db *DB) Labels(ctx context.Context, read func(*Tx) (map[string]string, error), change func(map[string]string) error, write func(tx *Tx, encoded string) error) (labels map[string]string, err error) {
	do := db.Update
	if change == nil {
		do = db.View
	}
	err = do(ctx, func(tx *Tx) error {
		if labels, err = read(tx); err != nil {
			return err
		}
		if labels == nil {
			labels = map[string]string{}
		}
		if change == nil {
			return nil
		}
		if err := change(labels); err != nil {
			return err
		}
		encoded, err := json.Marshal(labels)
		if err != nil {
			return err
		}
		return write(tx, string(encoded))
	})
	return labels, err
}
