package seal

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// fileHeader opens a key file, for the person who finds it.
const fileHeader = `# Onbehalf key-encryption key: it opens every secret in the database it was made with.
# Keep a copy apart from the database's backups. Without it the secrets are lost; with both they can be read.
`

const (
	fileMark  = "onbehalf-key-1:" // before the key, in unpadded base64url
	fileLimit = 4096              // bytes; a longer file is not one of ours
)

// fileKey is the key-encryption key in a file.
type fileKey struct {
	id   string
	aead cipher.AEAD
}

// CreateFileKey writes a new key to path, with mode 0600. It never overwrites: a
// key that is lost takes every secret with it. The file appears complete or not
// at all, also when the machine stops half-way.
func CreateFileKey(path string) error {
	raw := make([]byte, keySize)
	defer clear(raw)
	_, _ = rand.Read(raw) // never fails
	content := append([]byte(fileHeader+fileMark), base64.RawURLEncoding.AppendEncode(nil, raw)...)
	content = append(content, '\n')
	defer clear(content)

	folder := filepath.Dir(path)
	draft, err := os.CreateTemp(folder, ".key-*") // mode 0600
	if err != nil {
		return cannotCreate(path, err)
	}
	defer func() { _ = os.Remove(draft.Name()) }()
	_, err = draft.Write(content)
	err = errors.Join(err, draft.Sync(), draft.Close())
	if err != nil {
		return cannotCreate(path, err)
	}
	// Unlike a rename, a link fails where the name is taken.
	if err := os.Link(draft.Name(), path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fault.New(fault.Conflict, "The key file %s exists already, and is never overwritten.", path)
		}
		return cannotCreate(path, err)
	}
	return syncFolder(folder)
}

func cannotCreate(path string, cause error) error {
	return fault.New(fault.Unavailable, "The key file %s cannot be created.", path).Because(cause)
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return fault.Wrap(err, "syncing the key's folder")
	}
	return fault.Wrap(errors.Join(folder.Sync(), folder.Close()), "syncing the key's folder")
}

// OpenFileKey reads the key at path. It refuses a file that others than its
// owner may read or write.
func OpenFileKey(path string) (KeyWrapper, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "The key file %s is missing.", path).Because(err)
	}
	if err != nil {
		return nil, fault.New(fault.Unavailable, "The key file %s cannot be read.", path).Because(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fault.New(fault.Unavailable, "The key file %s cannot be read.", path).Because(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Invalid, "The key file %s is not a file.", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fault.New(fault.Invalid, "The key file %s may be read or changed by others (mode %04o). Run: chmod 600 %s", path, mode, path)
	}
	content, err := io.ReadAll(io.LimitReader(file, fileLimit+1))
	defer clear(content)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "The key file %s cannot be read.", path).Because(err)
	}
	raw, err := parseFileKey(content)
	if err != nil {
		return nil, fault.New(fault.Invalid, "The file %s is not an Onbehalf key, or it is damaged: %v. Restore it from your backup.", path, err)
	}
	return newFileKey(raw)
}

// parseFileKey finds the one line that is the key; lines that begin with # are
// for people.
func parseFileKey(content []byte) ([]byte, error) {
	if len(content) > fileLimit {
		return nil, errors.New("it is too long")
	}
	var found []byte
	for line := range bytes.Lines(content) { // not strings: those cannot be wiped
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		encoded, ok := bytes.CutPrefix(line, []byte(fileMark))
		if !ok {
			return nil, fmt.Errorf("it has a line that does not begin with %s", fileMark)
		}
		if found != nil {
			return nil, errors.New("it has two keys")
		}
		raw, err := base64.RawURLEncoding.Strict().AppendDecode(nil, encoded)
		if err != nil || len(raw) != keySize {
			return nil, errors.New("its key does not have 32 bytes in base64url")
		}
		found = raw
	}
	if found == nil {
		return nil, errors.New("it has no key")
	}
	return found, nil
}

// newFileKey expands raw and wipes it.
func newFileKey(raw []byte) (*fileKey, error) {
	defer clear(raw)
	name, err := hkdf.Expand(sha256.New, raw, "onbehalf file key 1: name", 8)
	if err != nil {
		return nil, fault.Wrap(err, "naming the key")
	}
	wrapping, err := hkdf.Expand(sha256.New, raw, "onbehalf file key 1: wrap", keySize)
	if err != nil {
		return nil, fault.Wrap(err, "expanding the key")
	}
	defer clear(wrapping)
	aead, err := newAEAD(wrapping)
	if err != nil {
		return nil, err
	}
	return &fileKey{id: "file:" + hex.EncodeToString(name), aead: aead}, nil
}

// FileKey opens the key at path, and makes it where there is none: on a first
// start. It refuses to make one for a database whose key is missing. Its errors
// are for the operator who starts the server, and so name the path.
func FileKey(ctx context.Context, db *store.DB, path string) (KeyWrapper, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		sealed, err := Sealed(ctx, db)
		if err != nil {
			return nil, err
		}
		if sealed {
			return nil, fault.New(fault.NotFound, "The database holds sealed secrets and its key file %s is missing. "+
				"Put the key file back (it was made together with the database; look into your backups). "+
				"Without it none of the stored secrets can be read; to begin anew, use an empty database.", path)
		}
		// Another process may make it in the same moment: its key is as good.
		if err := CreateFileKey(path); err != nil && !fault.Is(err, fault.Conflict) {
			return nil, err
		}
	}
	return OpenFileKey(path)
}

// ID implements KeyWrapper; it says nothing about the key.
func (f *fileKey) ID() string { return f.id }

// Wrap implements KeyWrapper.
func (f *fileKey) Wrap(_ context.Context, dataKey []byte, bound string) ([]byte, error) {
	return f.aead.Seal(nil, nil, dataKey, []byte(bound)), nil
}

// Unwrap implements KeyWrapper.
func (f *fileKey) Unwrap(_ context.Context, wrapped []byte, bound string) ([]byte, error) {
	dataKey, err := f.aead.Open(nil, nil, wrapped, []byte(bound))
	if err != nil {
		return nil, fault.New(fault.Undecryptable, "A data key does not open with the key %s: the database was altered.", f.id).Because(err)
	}
	return dataKey, nil
}
