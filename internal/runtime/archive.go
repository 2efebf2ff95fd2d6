package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Archive is what is kept of a session's storage between its lives: a file that its
// own surroundings write and read, and that nobody else understands. There is one
// life of a session at a time, and so one writer.
type Archive struct {
	folder  string // of the session and whose it is
	version int64
	tell    func(text string, cause error) // what whoever runs the agent should know

	mu   sync.Mutex
	held bool
	told string // last
	left int
}

// NewArchive is the place for a session's storage; tell hears what goes wrong with it.
func NewArchive(folder string, version int64, tell func(text string, cause error)) *Archive {
	return &Archive{folder: folder, version: version, tell: tell}
}

// draftPrefix begins the name of what is being written; its process follows, whose
// drafts are swept when it has ended.
const draftPrefix = "new-"

func (a *Archive) path() string {
	return filepath.Join(a.folder, strconv.FormatInt(a.version, 10))
}

// Open is what was kept, and how long it is; nil where nothing was. It counts as used.
func (a *Archive) Open() (file *os.File, size int64, err error) {
	if file, err = os.Open(a.path()); errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	} else if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil {
		now := time.Now()
		err = os.Chtimes(a.path(), now, now)
	}
	if err != nil {
		_ = file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

// hold keeps the archive as it is, or no longer: what an agent does that never
// answers is not kept.
func (a *Archive) hold(held bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = held
}

// Wanted is whether what the session has now is to be kept.
func (a *Archive) Wanted() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.held
}

// Failed tells that the storage was not saved; what was kept before stays. What is
// told already is not told again until it has worked once.
func (a *Archive) Failed(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told != err.Error() {
		a.told = err.Error()
		a.tell("The session's storage was not saved, and is kept as it was before: "+placeless(err)+".", err)
	}
}

// placeless is an error without where on the machine it was.
func placeless(err error) string {
	var number syscall.Errno
	if errors.As(err, new(*fs.PathError)) || errors.As(err, new(*os.LinkError)) {
		if errors.As(err, &number) {
			return number.Error()
		}
		return "the platform's log says why"
	}
	return err.Error()
}

// Left tells how many entries cannot be kept.
func (a *Archive) Left(count int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if count > 0 && count != a.left {
		a.tell(fmt.Sprintf("Of the session's storage, not kept: %d (sockets, pipes, or what lies too deep).", count), nil)
	}
	a.left = count
}

// Clear keeps nothing: the storage is empty.
func (a *Archive) Clear() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held {
		return nil
	}
	a.told = ""
	err := a.remove(0)
	_ = os.Remove(a.folder) // unless something is being written
	return err
}

// remove removes what is kept of the session, of all versions but for one.
func (a *Archive) remove(except int64) error {
	entries, err := os.ReadDir(a.folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if version, is := versionOf(entry.Name()); is && version != except {
			err = errors.Join(err, removed(filepath.Join(a.folder, entry.Name())))
		}
	}
	return err
}

// Draft is an archive while it is written.
type Draft struct {
	archive *Archive
	file    *os.File
	most    int64
	looked  int64 // bytes that there was room for
	written int64
	left    bool // by who wanted it kept; with the archive's lock
}

// Draft begins another content, of so many bytes at most. Nothing is written before
// the first of them comes.
func (a *Archive) Draft(most int64) *Draft { return &Draft{archive: a, most: most} }

// lookEvery is how many bytes are written before the room on the disk is looked at again.
const lookEvery = 1 << 20

func (d *Draft) Write(b []byte) (n int, err error) {
	if d.file == nil {
		for range 3 { // a sweep may take the folder away while it is empty
			if err = os.MkdirAll(d.archive.folder, 0o700); err == nil {
				d.file, err = os.CreateTemp(d.archive.folder, draftPrefix+thisProcess+"-*") // 0600
			}
			if !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
		if err != nil {
			d.file = nil
			return 0, err
		}
	}
	if d.written+int64(len(b)) > d.most {
		return 0, fmt.Errorf("it is longer than %d bytes", d.most)
	}
	for d.written+int64(len(b)) > d.looked {
		d.looked += lookEvery
		var disk unix.Statfs_t
		if unix.Statfs(d.archive.folder, &disk) != nil {
			continue // then it is found out by filling it
		}
		if disk.Bavail*uint64(disk.Bsize) < reserve+lookEvery || disk.Files > 0 && disk.Ffree < disk.Files/20 {
			return 0, fmt.Errorf("the last gigabyte of the disk, and the last twentieth of its files, is not for it: %w", syscall.ENOSPC)
		}
	}
	n, err = d.file.Write(b)
	d.written += int64(n)
	return n, err
}

// Keep puts the draft in the archive's place. A crash leaves the old one or the new
// one, whole. What another version left is gone with it.
func (d *Draft) Keep() error {
	if d.file == nil {
		return errors.New("nothing was written")
	}
	if err := errors.Join(d.file.Sync(), d.file.Close()); err != nil {
		return err
	}
	placed, err := d.place()
	if !placed {
		return err // Discard removes it
	}
	d.file = nil
	return errors.Join(err, syncFolder(d.archive.folder), syncFolder(filepath.Dir(d.archive.folder)))
}

func (d *Draft) place() (placed bool, err error) {
	a := d.archive
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held || d.left {
		return false, nil
	}
	if err := os.Rename(d.file.Name(), a.path()); err != nil {
		return false, err
	}
	a.told = ""
	return true, a.remove(a.version)
}

// GiveUp is for whoever waits for Keep no longer: what is not kept by now never is,
// since the session may have another life by then.
func (d *Draft) GiveUp() {
	d.archive.mu.Lock()
	defer d.archive.mu.Unlock()
	d.left = true
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Discard lets go of a draft that was not kept.
func (d *Draft) Discard() {
	if d.file != nil {
		_ = d.file.Close()
		_ = os.Remove(d.file.Name())
		d.file = nil
	}
}

// versionOf is the version that an archive's file is of.
func versionOf(name string) (version int64, is bool) {
	version, err := strconv.ParseInt(name, 10, 64)
	return version, err == nil
}

// removed removes a file that may be gone already.
func removed(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
