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
	if ctx.Err() != nil { // whoever wanted the backup wants it no more
		return errCancelled(ctx)
	}
	if known := fault.Of(err); known != nil && known.Kind != fault.Internal {
		done.Unopened = known.Message
		return nil
	}
	return err
}

func errCancelled(ctx context.Context) error {
	return fault.New(fault.Unavailable, "The backup was cancelled, and is not made.").Because(context.Cause(ctx))
}

// readBack reads a backup as a restore does, to the MAC at its end.
func readBack(ctx context.Context, path string, key []byte, rows int64, follow func(int64)) error {
	in, err := openBackup(path)
	if err != nil {
		return err
	}
	defer in.Close()
	found, rest, err := store.ReadDump(io.TeeReader(until{ctx, in}, &counter{follow: follow}))
	if err == nil {
		err = atEnd(rest)
	}
	if err == nil {
		err = sealedBy(in.file, key, in.sum)
	}
	switch {
	case ctx.Err() != nil:
		return errCancelled(ctx)
	case err == nil && found == rows:
		return nil
	}
	return fault.New(fault.Unavailable, "The backup does not read back as it was written, and is not kept. Look after the disk that it was to lie on.").Because(err)
}

// until reads as long as ctx lives: a large file takes minutes.
type until struct {
	ctx context.Context
	in  io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.in.Read(p)
}
