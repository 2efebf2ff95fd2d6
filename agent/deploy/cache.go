package deploy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// doneFile says that an install came to its end.
const doneFile = ".done"

// onThisMachine is a requirement whose content is not in the requirements.
var onThisMachine = regexp.MustCompile(`(?m)^\s*(-e\b|--editable|\.|/|file:)|@\s*file:|"(file|link|workspace):`)

// cache answers the folder for what some files ask to install, and whether it is
// installed: the same requirements are installed once. What lies on this machine
// can change without them, so it is installed anew each time, and so is everything
// after [Agent.Forget]. There is one such folder per kind.
func (a *Agent) cache(kind, version string, names []string) (folder string, known bool, err error) {
	hash := sha256.New()
	fmt.Fprintf(hash, "%s %s %s/%s\n", kind, version, runtime.GOOS, runtime.GOARCH)
	changing := false
	for _, name := range names {
		content, err := readOwn(filepath.Join(a.Folder(), name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", false, err
		}
		fmt.Fprintf(hash, "%s %d\n", name, len(content))
		_, _ = io.Copy(hash, bytes.NewReader(content))
		changing = changing || onThisMachine.Match(content)
	}
	base, err := a.work("installed")
	if err != nil {
		return "", false, err
	}
	name := kind + "-" + hex.EncodeToString(hash.Sum(nil))[:16]
	folder = filepath.Join(base, name)
	if isFile(filepath.Join(folder, doneFile)) && !changing {
		return folder, true, nil
	}
	entries, err := os.ReadDir(base)
	if err != nil {
		return "", false, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), kind+"-") {
			if err := os.RemoveAll(filepath.Join(base, e.Name())); err != nil {
				return "", false, err
			}
		}
	}
	return folder, false, os.MkdirAll(folder, 0o700)
}

func markDone(folder string) error {
	return os.WriteFile(filepath.Join(folder, doneFile), nil, 0o600)
}

// Forget removes what builds have installed and kept, so that the next one begins
// with nothing: a requirement without a version may have a newer one.
func (a *Agent) Forget() error {
	return os.RemoveAll(filepath.Join(a.Folder(), workFolder, "installed"))
}
