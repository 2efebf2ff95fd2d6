package server

import (
	"context"
	"io"
	"slices"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// openCopied opens every sealed value of the rows that were copied, in the
// snapshot that they were copied from. That is what a restore does with the copy,
// and takes no second database. A key that does not answer leaves the values
// unopened, and is no reason to have no backup.
func (o *Operator) openCopied(ctx context.Context, tx *store.Tx, done *BackedUp) error {
	keeper, lost, err := o.keeper.Offline(ctx, tx)
	if err == nil {
		done.Lost = slices.Compact(lost)
		done.Values, done.Damage, err = openAll(tx, keeper, done.Lost, true)
	}
	if known := fault.Of(err); known != nil && known.Kind != fault.Internal {
		done.Unopened = known.Message
		return nil
	}
	return err
}

// readBack reads a backup as a restore does, to the MAC at its end.
func readBack(path string, key []byte, rows int64, follow func(int64)) error {
	in, err := openBackup(path)
	if err != nil {
		return err
	}
	defer in.Close()
	found, rest, err := store.ReadDump(io.TeeReader(in, &counter{follow: follow}))
	if err == nil {
		err = atEnd(rest)
	}
	if err == nil {
		err = sealedBy(in.file, key, in.sum)
	}
	if err == nil && found == rows {
		return nil
	}
	return fault.New(fault.Unavailable, "The backup does not read back as it was written, and is not kept. Look after the disk that it was to lie on.").Because(err)
}
