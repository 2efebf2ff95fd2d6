package seal_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

func newFileKey(t *testing.T) (string, seal.KeyWrapper) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := seal.CreateFileKey(path); err != nil {
		t.Fatal(err)
	}
	key, err := seal.OpenFileKey(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, key
}

func TestAKeyFile(t *testing.T) {
	t.Parallel()
	path, key := newFileKey(t)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	content, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(content, []byte("# Onbehalf key-encryption key")) {
		t.Errorf("the file does not say what it is: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("left beside the key: %v, %v", entries, err)
	}
	if err := seal.CreateFileKey(path); !fault.Is(err, fault.Conflict) {
		t.Errorf("created over an existing key: %v", err)
	}
	again, err := seal.OpenFileKey(path)
	if err != nil || again.ID() != key.ID() || !strings.HasPrefix(key.ID(), "file:") {
		t.Errorf("%v, %s and %s", err, again.ID(), key.ID())
	}
	secretPart := bytes.TrimSpace(content[bytes.LastIndexByte(content, ':')+1:])
	if bytes.Contains([]byte(key.ID()), secretPart[:8]) {
		t.Error("the key's name has some of the key")
	}

	wrapped, err := key.Wrap(t.Context(), []byte("a data key"), "mine")
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := again.Unwrap(t.Context(), wrapped, "mine"); err != nil || string(opened) != "a data key" {
		t.Errorf("%q, %v", opened, err)
	}
	if _, err := key.Unwrap(t.Context(), wrapped, "yours"); !fault.Is(err, fault.Undecryptable) {
		t.Errorf("unwrapped as somebody else's: %v", err)
	}
	_, stranger := newFileKey(t)
	if _, err := stranger.Unwrap(t.Context(), wrapped, "mine"); !fault.Is(err, fault.Undecryptable) || stranger.ID() == key.ID() {
		t.Errorf("unwrapped by another key: %v", err)
	}
}

func TestAKeyFileThatOthersMayRead(t *testing.T) {
	t.Parallel()
	path, _ := newFileKey(t)
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o602, 0o644, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.OpenFileKey(path); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.OpenFileKey(path); err != nil {
		t.Errorf("mode 400: %v", err)
	}
}

func TestAFileThatIsNoKey(t *testing.T) {
	t.Parallel()
	path, _ := newFileKey(t)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key := string(bytes.TrimSpace(good[bytes.Index(good, []byte("onbehalf-key-1:")):]))
	for name, content := range map[string]string{
		"empty":           "",
		"header only":     "# Onbehalf key-encryption key",
		"cut":             string(good[:len(good)-2]),
		"no mark":         strings.TrimPrefix(key, "onbehalf-key-1:"),
		"a later version": strings.Replace(key, "-1:", "-2:", 1),
		"two keys":        key + "\n" + key,
		"longer":          key + "AAAA",
		"padded":          key + "=",
		"spaces inside":   key[:30] + " " + key[30:],
		"endless":         string(good) + strings.Repeat("#\n", 4096),
		"binary":          "\x00\x01\x02",
	} {
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := seal.OpenFileKey(file)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), key[20:]) {
			t.Errorf("%s: the error quotes the key", name)
		}
	}
	if _, err := seal.OpenFileKey(filepath.Dir(path)); !fault.Is(err, fault.Invalid) {
		t.Errorf("a folder: %v", err)
	}
	if _, err := seal.OpenFileKey(path + "x"); !fault.Is(err, fault.NotFound) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := seal.CreateFileKey(filepath.Join(path, "x")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("created below a file: %v", err)
	}
}

func TestAMissingKeyIsNotMadeForADatabaseThatHadOne(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		path := filepath.Join(t.TempDir(), "key")
		key, err := seal.FileKey(t.Context(), db, path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := seal.NewKeeper(t.Context(), db, key); err != nil {
			t.Fatal(err)
		}
		again, err := seal.FileKey(t.Context(), db, path)
		if err != nil || again.ID() != key.ID() {
			t.Fatalf("the second start: %v", err)
		}
		if err := os.Rename(path, path+".moved"); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.FileKey(t.Context(), db, path); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "Put the key file back") {
			t.Errorf("without its key: %v", err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("a new key was made")
		}
		if err := seal.CreateFileKey(path); err != nil {
			t.Fatal(err)
		}
		wrong, err := seal.FileKey(t.Context(), db, path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = seal.NewKeeper(t.Context(), db, wrong)
		if !fault.Is(err, fault.Undecryptable) || !strings.Contains(err.Error(), "Put back the key") || !strings.Contains(err.Error(), key.ID()) || !strings.Contains(err.Error(), wrong.ID()) {
			t.Errorf("with a wrong key: %v", err)
		}
	})
}

func TestTwoProcessesMakeOneKey(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	path := filepath.Join(t.TempDir(), "key")
	ids := make([]string, 8)
	var group sync.WaitGroup
	for i := range ids {
		group.Go(func() {
			key, err := seal.FileKey(t.Context(), db, path)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = key.ID()
		})
	}
	group.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("two keys: %v", ids)
		}
	}
}
