package external

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// folder reads the files of a folder. Symbolic links count as long as they stay
// inside, since that is how Kubernetes renews mounted secrets; the kernel's own
// view of each step (os.Root) decides, so a link that is exchanged meanwhile gains nothing.
type folder struct {
	path      string
	protected []string
}

func openFolder(path string, protected []string) (reader, error) {
	inside, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("folder: %w", err)
	}
	if !inside.IsDir() {
		return nil, fmt.Errorf("folder: %s is not a folder", path)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("folder: %w", err)
	}
	if err := checkFolder(real); err != nil {
		return nil, err
	}
	for at := real; ; at = filepath.Dir(at) {
		for _, own := range protected {
			if same(at, own) {
				return nil, fmt.Errorf("folder: %s is the platform's own", path)
			}
		}
		if at == filepath.Dir(at) {
			return folder{path, protected}, nil
		}
	}
}

func same(one, other string) bool {
	a, err := os.Stat(one)
	if err != nil {
		return false
	}
	b, err := os.Stat(other)
	return err == nil && os.SameFile(a, b)
}

func (f folder) read(_ context.Context, path string) ([]byte, error) {
	root, err := os.OpenRoot(f.path) // each time: the folder may be mounted anew
	if err != nil {
		return nil, problemf(fault.Unavailable, "its source cannot be reached").because(err)
	}
	defer root.Close()
	// Without O_NONBLOCK, a named pipe would hold us until somebody writes.
	file, err := root.OpenFile(filepath.FromSlash(path), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errNotThere
	case errors.Is(err, fs.ErrPermission):
		return nil, problemf(fault.Invalid, "the platform may not read it").because(err)
	case err != nil:
		return nil, problemf(fault.Invalid, "it does not lie in the folder of its source").because(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, problemf(fault.Unavailable, "its source failed").because(err)
	}
	if !info.Mode().IsRegular() {
		return nil, problemf(fault.Invalid, "it is not a file")
	}
	switch own, err := f.own(root, path, info); {
	case err != nil:
		return nil, problemf(fault.Unavailable, "its source failed").because(err)
	case own:
		return nil, errPlatform
	}
	if info.Size() > contentLimit {
		return nil, errTooLarge
	}
	data, err := io.ReadAll(io.LimitReader(file, contentLimit+1))
	switch {
	case err != nil:
		return nil, problemf(fault.Unavailable, "its source failed").because(err)
	case len(data) > contentLimit:
		return nil, errTooLarge
	}
	return data, nil
}

// own reports whether the opened file is one of the platform's: itself, by
// another path, or by a hard link. What the platform may not read is not its own.
func (f folder) own(root *os.Root, path string, opened fs.FileInfo) (bool, error) {
	var way []fs.FileInfo // the folders that lead to it
	for i, c := range path {
		if c == '/' {
			step, err := root.Stat(filepath.FromSlash(path[:i]))
			if err != nil {
				return false, err
			}
			way = append(way, step)
		}
	}
	for _, own := range f.protected {
		found, err := holds(own, append(way, opened))
		if found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// holds reports whether a file or folder is one of those that are meant, or has one of them in it.
func holds(path string, meant []fs.FileInfo) (found bool, err error) {
	real, err := filepath.EvalSymlinks(path) // WalkDir does not enter a link
	if passed(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = filepath.WalkDir(real, func(at string, _ fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = os.Stat(at) // through links, too
		}
		if passed(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if slices.ContainsFunc(meant, func(each fs.FileInfo) bool { return os.SameFile(info, each) }) {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found, err
}

// passed reports whether a walk goes on: the database's journal comes and goes,
// and a volume may have a folder that is root's alone.
func passed(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}
