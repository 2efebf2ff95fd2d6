package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/onbehalf/onbehalf/internal/secret"
)

// folder is the data folder: all that an installation on one machine consists
// of. Only the key-encryption key and the root credentials in it are secrets in
// clear, both readable by the owner alone.
type folder struct {
	path string
	lock *os.File
}

func (f folder) database() string     { return filepath.Join(f.path, "onbehalf.db") }
func (f folder) credentials() string  { return filepath.Join(f.path, "credentials") }
func (f folder) endpointFile() string { return filepath.Join(f.path, "endpoint.json") }
func (f folder) demoState() string    { return filepath.Join(f.path, "demo-provider.json") }

// keyFile is the key-encryption key's: named by the operator (--key-file), or the folder's own.
func (f folder) keyFile(named string) string {
	if named != "" {
		return named
	}
	return filepath.Join(f.path, "key-encryption-key")
}

// openFolder makes the data folder where it is missing and takes its lock: two
// servers on one SQLite file would each believe that they are alone.
func openFolder(path string) (folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return folder{}, fmt.Errorf("the data folder cannot be made: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return folder{}, fmt.Errorf("the data folder cannot be read: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return folder{}, fmt.Errorf("the data folder %s is open to others, and it holds the root key: chmod 700 it, or name a folder of its own with --data", path)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return folder{}, fmt.Errorf("the data folder's lock cannot be opened: %w", err)
	}
	if err := takeLock(lock); err != nil {
		_ = lock.Close()
		return folder{}, fmt.Errorf("another onbehalf is running on %s: stop it, or use another --data", path)
	}
	return folder{path: path, lock: lock}, nil
}

// takeLock takes a file's lock, or gives up after a second. A server that was killed
// while it started a program leaves its lock to that, until the program's first instruction.
func takeLock(file *os.File) error {
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || time.Since(began) > time.Second {
			return err
		}
	}
}

func (f folder) close() { _ = f.lock.Close() }

// writeFile replaces a small file in one step, so that a crash leaves the old one or the new one.
func writeFile(path string, content []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, writeErr := temporary.Write(content)
	if err := errors.Join(writeErr, temporary.Chmod(0o600), temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}

// writeCredentials stores the root access key in AWS's shared credentials format.
func (f folder) writeCredentials(id string, key secret.Text) error {
	content := "# Root access key of this installation. Whoever reads this file may do everything.\n" +
		"[" + Profile + "]\naws_access_key_id = " + id + "\naws_secret_access_key = " + key.Reveal() + "\n"
	return writeFile(f.credentials(), []byte(content))
}

// endpoint is where the platform on a data folder listens, or listened last.
// Commands find the platform by it, and a free port that was chosen once is
// kept, because issuers and callback URLs that others remember contain it.
type endpoint struct {
	URL     string `json:"url"`
	Region  string `json:"region"`
	Account string `json:"account"`
	Addr    string `json:"addr"`

	Database string `json:"database,omitempty"` // "postgres" where it is not the folder's own

	DemoURL string `json:"demoUrl,omitempty"`
}

func (f folder) readEndpoint() (endpoint, error) {
	var e endpoint
	content, err := os.ReadFile(f.endpointFile())
	if err != nil {
		return e, err
	}
	return e, json.Unmarshal(content, &e)
}

func (f folder) writeEndpoint(e endpoint) error {
	content, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(f.endpointFile(), append(content, '\n'))
}

// listen opens a listener. For port 0 it first tries the port of before.
func listen(flag, addr, before string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%s %q is not HOST:PORT", flag, addr)
	}
	if _, kept, err := net.SplitHostPort(before); port == "0" && err == nil {
		if l, err := net.Listen("tcp", net.JoinHostPort(host, kept)); err == nil {
			return l, nil
		}
	}
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &PortTakenError{Addr: addr, Flag: flag}
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", flag, addr, err)
	}
	return l, nil
}
