package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// A backup is store's dump with a MAC behind it, under a key that only the
// key-encryption key gives: nobody without it makes or alters one.
//
//	rows of one snapshot ──▶ FILE ──▶ an empty database, either engine
//	  └ each sealed value     ├ MAC over SHA-256 of all before
//	    is opened             └ is read back, before it has its name
const backupMAC = "backup 1"

// BackedUp is what a backup holds, and what must be kept beside it.
type BackedUp struct {
	File  string
	Rows  int64
	Bytes int64
	Keep  []string // in words: keys, without which the backup opens nothing

	Values   int64    // sealed values, each of which was opened
	Lost     []string // accounts whose vault's own key is gone
	Damage   []string // what does not open, in the copy as in the installation
	Unopened string   // why none was opened: a key did not answer, or is another; "" where all were
}

// Backup writes a copy of the installation as it is at one moment to a file that
// does not exist yet. The server may run. Secrets are in it as they are in the
// database: sealed; the key-encryption key is not in it, and neither is the root
// access key's file.
//
// What a restore would refuse is found here: the copy is read back as a restore
// reads it, and each sealed value in it was opened. A value that does not open is
// told in Damage, and the copy is made all the same: it is the best there is.
func (o *Operator) Backup(ctx context.Context, path string) (BackedUp, error) {
	return o.BackupFollowed(ctx, path, func(string, int64) {})
}

// BackupFollowed is Backup for who wants to see how far it is: follow is told,
// often, what is being done, and of how many bytes it is done.
func (o *Operator) BackupFollowed(ctx context.Context, path string, follow func(doing string, bytes int64)) (done BackedUp, err error) {
	done.File = path
	err = o.act(ctx, seal.Platform, "Backup", "*", func(ctx context.Context) error {
		if _, err := os.Lstat(path); err == nil {
			return fault.New(fault.Conflict, "%s exists already, and is not overwritten.", path)
		}
		key, err := o.keeper.Derive(ctx, seal.Platform, seal.AuditMAC, backupMAC)
		if err != nil {
			return err
		}
		draft, err := os.CreateTemp(filepath.Dir(path), ".onbehalf-backup-*") // mode 0600
		if err != nil {
			return err
		}
		defer os.Remove(draft.Name())
		sum := sha256.New()
		count := &counter{follow: func(n int64) { follow("copying", n) }}
		done.Rows, err = o.db.DumpAnd(ctx, io.MultiWriter(draft, sum, count), func(tx *store.Tx) error {
			follow("opening its secrets", count.n)
			return o.openCopied(ctx, tx, &done)
		})
		if err == nil {
			_, err = io.MultiWriter(draft, count).Write(seals(key, sum))
		}
		if err == nil {
			err = draft.Sync()
		}
		notRemembered(draft)
		if err := errors.Join(err, draft.Close()); err != nil {
			return err
		}
		done.Bytes = count.n
		if err := readBack(ctx, draft.Name(), key, done.Rows, func(n int64) { follow("reading it back", n) }); err != nil {
			return err
		}
		// Unlike a rename, a link fails where the name was taken meanwhile.
		if err := os.Link(draft.Name(), path); err != nil {
			return err
		}
		return syncFolder(filepath.Dir(path))
	})
	if err != nil {
		return done, err
	}
	done.Keep, err = o.keep(ctx)
	return done, readable(err)
}

// keep says what else an installation consists of.
func (o *Operator) keep(ctx context.Context) ([]string, error) {
	platform, chosen, err := o.custodian().Keys(ctx)
	if err != nil {
		return nil, err
	}
	lines := []string{"the key-encryption key " + platform}
	if o.keyFile != "" {
		lines[0] += ", in " + o.keyFile
	}
	for _, account := range slices.Sorted(maps.Keys(chosen)) {
		lines = append(lines, "the key "+chosen[account]+" of account "+account+"'s vault")
	}
	return lines, nil
}

func seals(key []byte, sum hash.Hash) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(sum.Sum(nil))
	return mac.Sum(nil)
}

type counter struct {
	n      int64
	follow func(int64)
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	c.follow(c.n)
	return len(p), nil
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Restored is what a restore put into the database.
type Restored struct {
	Rows   int64
	Values int64    // sealed values, each of which was opened
	Lost   []string // accounts whose vault's own key is gone
	Damage []string // what did not open, as little as it did in the installation that was backed up
}

// Restore fills an empty database from a backup: that of the data folder, which
// must have none yet, or the PostgreSQL one. The backup's MAC is checked, each
// data key unwrapped, each sealed value opened, before any of it counts; a kill
// at any moment leaves an empty database, or a whole one. With damaged, values
// that do not open are restored as they are: else one of them, damaged in the
// installation and copied faithfully, would make every later backup worthless.
func Restore(ctx context.Context, s Storage, path string, damaged bool) (done Restored, err error) {
	c := s.Config()
	if c.Data, err = filepath.Abs(c.Data); err != nil {
		return done, fmt.Errorf("--data %q cannot be resolved: %w", c.Data, err)
	}
	if err := c.checkDatabaseURL(); err != nil {
		return done, err
	}
	k, err := c.keys()
	if err != nil {
		return done, err
	}
	platform, declared, err := k.open(ctx, nil, false)
	if err != nil {
		return done, readable(err)
	}
	verify := func(tx *store.Tx, sum hash.Hash, rest io.Reader) (err error) {
		done, err = verifyBackup(ctx, tx, sum, rest, platform, declared, damaged)
		return err
	}
	var rows int64
	if url := c.DatabaseURL.Reveal(); url != "" {
		rows, err = restoreInto(ctx, store.Options{URL: url}, path, verify)
	} else {
		rows, err = restoreFolder(ctx, c.Data, path, verify)
	}
	done.Rows = rows
	if err != nil {
		return done, readable(err)
	}
	o, err := OpenOperator(ctx, s)
	if err != nil {
		return done, err
	}
	return done, errors.Join(o.act(ctx, seal.Platform, "Restore", "*", func(context.Context) error { return nil }), o.Close())
}

// restoreFolder builds the database beside its place and then moves it there.
func restoreFolder(ctx context.Context, data, path string, verify verifier) (int64, error) {
	f, err := openFolder(data)
	if err != nil {
		return 0, err
	}
	defer f.close()
	if before, _ := f.readEndpoint(); before.Database != "" {
		return 0, fmt.Errorf("%s belongs to a replica of a PostgreSQL database: set --database-url, or name another --data", data)
	}
	for _, taken := range []string{f.database(), f.database() + "-wal"} {
		if _, err := os.Lstat(taken); !errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("%s exists: a backup is restored into a folder without a database alone", taken)
		}
	}
	leftovers, err := filepath.Glob(filepath.Join(data, ".restoring-*")) // of a restore that was killed; we hold the lock
	for _, name := range leftovers {
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil {
		return 0, err
	}
	draft, err := os.CreateTemp(data, ".restoring-*")
	if err != nil {
		return 0, err
	}
	defer func() {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			_ = os.Remove(draft.Name() + suffix)
		}
	}()
	if err := draft.Close(); err != nil {
		return 0, err
	}
	rows, err := restoreInto(ctx, store.Options{Path: draft.Name()}, path, verify)
	if err != nil {
		return 0, err
	}
	// Closing has moved the write-ahead log into the file: it is all there is.
	if info, err := os.Stat(draft.Name() + "-wal"); err == nil && info.Size() > 0 {
		return 0, errors.New("the restored database was not closed cleanly; try again")
	}
	whole, err := os.Open(draft.Name())
	if err != nil {
		return 0, err
	}
	if err := errors.Join(whole.Sync(), whole.Close()); err != nil {
		return 0, err
	}
	if err := os.Link(draft.Name(), f.database()); err != nil { // never over anything
		return 0, err
	}
	return rows, syncFolder(data)
}

type verifier func(tx *store.Tx, sum hash.Hash, rest io.Reader) error

// restoreInto restores the rows of the file and hands verify the sum of what was read.
func restoreInto(ctx context.Context, o store.Options, path string, verify verifier) (int64, error) {
	var in *summed
	return store.Restore(ctx, o, func() (io.ReadCloser, error) {
		opened, err := openBackup(path)
		if err != nil {
			return nil, err
		}
		in = opened
		return in, nil
	}, func(tx *store.Tx, rest io.Reader) error {
		if err := atEnd(rest); err != nil {
			return err
		}
		return verify(tx, in.sum, in.file)
	})
}

func openBackup(path string) (*summed, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &summed{file: file, sum: sha256.New(), left: info.Size() - sha256.Size}, nil
}

func atEnd(rest io.Reader) error {
	if n, err := io.Copy(io.Discard, rest); err != nil || n > 0 {
		return errors.Join(err, fault.New(fault.Invalid, "The backup cannot be read: there is more in it than its rows."))
	}
	return nil
}

// summed is a file without its last bytes, the MAC, and the sum of what was read of it.
type summed struct {
	file *os.File
	sum  hash.Hash
	left int64
}

func (s *summed) Read(p []byte) (int, error) {
	if s.left <= 0 {
		return 0, io.EOF
	}
	n, err := s.file.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	s.sum.Write(p[:n])
	return n, err
}

func (s *summed) Close() error { return s.file.Close() }

func verifyBackup(ctx context.Context, tx *store.Tx, sum hash.Hash, rest io.Reader, platform seal.KeyWrapper, declared []seal.Declared, damaged bool) (done Restored, err error) {
	keeper, lost, err := seal.Offline(ctx, tx, platform, declared...)
	if err != nil {
		return done, err
	}
	key, err := keeper.Derive(ctx, seal.Platform, seal.AuditMAC, backupMAC)
	if err != nil {
		return done, err
	}
	if err := sealedBy(rest, key, sum); err != nil {
		return done, err
	}
	done.Lost = slices.Compact(lost)
	done.Values, done.Damage, err = openAll(tx, keeper, done.Lost, damaged)
	return done, err
}

// sealedBy compares the MAC that follows the rows with theirs.
func sealedBy(rest io.Reader, key []byte, sum hash.Hash) error {
	mac, err := io.ReadAll(io.LimitReader(rest, sha256.Size+1))
	if err == nil && !hmac.Equal(mac, seals(key, sum)) {
		err = fault.New(fault.Undecryptable, "The backup was altered after it was made.")
	}
	return err
}

// openAll opens every sealed value. With damaged it goes on where one does not open, and names it.
func openAll(tx *store.Tx, keeper *seal.Keeper, lost []string, damaged bool) (values int64, damage []string, err error) {
	values, err = seal.NewCustodian(keeper, sealedTables()).Verify(tx, func(account string, p seal.Purpose, problem error) error {
		switch {
		case p == seal.Vault && slices.Contains(lost, account):
			return nil // it opens for nobody; its rows stay until it is reset
		case damaged:
			damage = append(damage, fault.Of(problem).Message)
			return nil
		}
		return problem
	})
	return values, damage, err
}
