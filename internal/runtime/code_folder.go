package runtime

import (
	"archive/zip"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// Unpacked code lies in the data folder, once for each archive and account:
//
//	agents/code/000000000000-<sum>      whole, and never changed
//	agents/code/half-<process>-<random> being unpacked
//	agents/code/gone-<random>           being removed
//
// A folder gets its place by a rename, so that it is whole or not there. All of
// it can be made again from the database, by any replica.

// unpacking is what this process is at.
type unpacking struct {
	singleflight.Group
	first sync.Once
}

// unpackers bound how many archives are unpacked at once: the directory of each is in memory.
var unpackers = make(chan struct{}, 2)

// thisProcess tells halves of this process from those that an earlier one left.
var thisProcess = strings.ToLower(rand.Text())

func (s *Service) codeFolder() string { return filepath.Join(s.options.Folder, "code") }

// code is the folder with an archive's files, unpacked when it is first needed on this machine.
func (s *Service) code(ctx context.Context, account, sum string) (string, error) {
	err := s.unpacked(ctx, account, sum, func(ctx context.Context) (io.ReaderAt, int64, func(), error) { return s.fetchCode(ctx, account, sum) })
	return s.placeOf(account, sum), err
}

func (s *Service) placeOf(account, sum string) string {
	return filepath.Join(s.codeFolder(), account+"-"+sum)
}

// unpacked makes sure that an archive's folder is there. Of those who ask at the
// same time one unpacks, and goes on when it loses interest.
func (s *Service) unpacked(ctx context.Context, account, sum string, open func(context.Context) (io.ReaderAt, int64, func(), error)) error {
	s.unpacking.first.Do(s.distrust)
	place := s.placeOf(account, sum)
	if there(place) {
		return nil
	}
	done := s.unpacking.DoChan(place, func() (any, error) {
		if there(place) {
			return nil, nil
		}
		unpackers <- struct{}{}
		defer func() { <-unpackers }()
		return nil, fault.Contain("unpacking code", func() error { return s.unpack(context.WithoutCancel(ctx), place, open) })
	})
	select {
	case made := <-done:
		return fault.Wrap(made.Err, "unpacking code")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func there(place string) bool {
	info, err := os.Stat(place)
	return err == nil && info.IsDir()
}

func (s *Service) unpack(ctx context.Context, place string, open func(context.Context) (io.ReaderAt, int64, func(), error)) (err error) {
	if err := os.MkdirAll(s.codeFolder(), 0o755); err != nil {
		return err
	}
	from, size, done, err := open(ctx)
	if err != nil {
		return err
	}
	defer done()
	archive, err := openArchive(from, size)
	if err != nil {
		return err
	}
	if err := roomFor(s.codeFolder(), archive.File); err != nil {
		return err
	}
	half, err := os.MkdirTemp(s.codeFolder(), "half-"+thisProcess+"-")
	if err != nil {
		return noRoom(err)
	}
	defer os.RemoveAll(half)
	if err := os.Chmod(half, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(half)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range archive.File {
		if err := extract(root, f); errors.Is(err, fs.ErrExist) {
			return refusedArchive("has the entry %.200q twice, where capital letters do not tell files apart", f.Name)
		} else if err != nil {
			return noRoom(err)
		}
	}
	return os.Rename(half, place)
}

// reserve is what unpacking leaves free of the disk: the database may be on the
// same one, and another archive may be unpacked at the same time.
const reserve = 1 << 30

// roomFor refuses what would fill the disk. An archive can become a thousand times
// what it takes in the database, where an account's are counted.
func roomFor(folder string, files []*zip.File) error {
	const block = 4 << 10 // that the smallest file takes
	needed := uint64(reserve)
	for _, f := range files {
		needed += f.UncompressedSize64 + block
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(folder, &disk); err != nil {
		return nil // then it is found out by filling it
	}
	if disk.Bavail*uint64(disk.Bsize) < needed {
		return noRoom(syscall.ENOSPC)
	}
	return nil
}

// distrust removes what an earlier process left half done, and, after a start of
// the machine, all of it: what was written shortly before its power went may be
// there by name, and empty.
func (s *Service) distrust() {
	const record = "of-boot" // in it: the machine's start that the folders are of
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	path := filepath.Join(s.codeFolder(), record)
	before, err := os.ReadFile(path)
	again := err == nil && string(before) == string(boot) // machines without such an id trust their disk
	entries, err := os.ReadDir(s.codeFolder())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		slog.Warn("the folder of agents' code cannot be read", "error", err)
		return
	}
	var gone []string
	for _, entry := range entries {
		half := strings.HasPrefix(entry.Name(), "half-") && !strings.HasPrefix(entry.Name(), "half-"+thisProcess+"-")
		if entry.IsDir() && (!again || half || strings.HasPrefix(entry.Name(), "gone-")) {
			gone = append(gone, entry.Name())
		}
	}
	for _, name := range gone {
		if err := s.discard(name); err != nil {
			slog.Warn("a folder of agents' code cannot be removed", "folder", name, "error", err)
			return // what may be damaged is not said to be of this start
		}
	}
	if again {
		return
	}
	err = os.MkdirAll(s.codeFolder(), 0o755)
	if err == nil {
		err = os.WriteFile(path, boot, 0o644)
	}
	if err != nil {
		slog.Warn("the folder of agents' code cannot be written", "error", err)
	}
}

// discard removes a folder: out of its place at once, and then file by file.
func (s *Service) discard(name string) error {
	gone := filepath.Join(s.codeFolder(), "gone-"+strings.ToLower(rand.Text()))
	if err := os.Rename(filepath.Join(s.codeFolder(), name), gone); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}
