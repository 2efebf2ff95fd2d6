package server_test

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/server"
)

// A backup has opened what a restore opens, while the server goes on.
func TestABackupOpensWhatItCopies(t *testing.T) {
	t.Parallel()
	databases(t, func(t *testing.T, url func() secret.Text) {
		from := url()
		source := furnished(t, from)
		path, done := backup(t, server.Storage{Data: source.Config.Data, DatabaseURL: from})
		restored, err := server.Restore(t.Context(), server.Storage{Data: newFolder(t, source.Config.Data)}, path, false)
		if err != nil || done.Values < 2 || done.Values != restored.Values || len(done.Damage) != 0 || len(done.Lost) != 0 || done.Unopened != "" {
			t.Errorf("backed up: %+v; restored: %+v, %v", done, restored, err)
		}
		wantOnly(t, filepath.Dir(path), filepath.Base(path))
	})
}

// Damage shows when the backup is made, and not only when it is needed; it is made all the same.
func TestABackupNamesWhatIsDamaged(t *testing.T) {
	t.Parallel()
	databases(t, func(t *testing.T, url func() secret.Text) {
		from := url()
		source := furnished(t, from)
		damageTheKey(t, source)
		path, done := backup(t, server.Storage{Data: source.Config.Data, DatabaseURL: from})
		if len(done.Damage) != 1 || !strings.Contains(done.Damage[0], "api_key_providers.api_key of row ") || done.Values < 1 || done.Unopened != "" {
			t.Errorf("%+v", done)
		}
		restored, err := server.Restore(t.Context(), server.Storage{Data: newFolder(t, source.Config.Data)}, path, true)
		if err != nil || len(restored.Damage) != 1 || restored.Damage[0] != done.Damage[0] || restored.Values != done.Values {
			t.Errorf("%+v, %v", restored, err)
		}
	})
}

// Whoever watches sees what is done, one thing after the other.
func TestABackupIsFollowed(t *testing.T) {
	t.Parallel()
	source := furnished(t, secret.Text{})
	o := operator(t, source)
	var steps []string
	last := int64(0)
	done, err := o.BackupFollowed(t.Context(), filepath.Join(t.TempDir(), "onbehalf.backup"), func(doing string, bytes int64) {
		steps, last = append(steps, doing), bytes
	})
	if err != nil {
		t.Fatal(err)
	}
	if steps = slices.Compact(steps); !slices.Equal(steps, []string{"copying", "opening its secrets", "copying", "reading it back"}) || last != done.Bytes-sha256.Size {
		t.Errorf("%q, in the end %d of %d bytes", steps, last, done.Bytes)
	}
}

// Whoever stops a backup, whatever it is at, has none, and no rest of one.
func TestABackupIsCancelled(t *testing.T) {
	t.Parallel()
	source := furnished(t, secret.Text{})
	o := operator(t, source)
	for _, at := range []string{"copying", "opening its secrets", "reading it back"} {
		folder := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		_, err := o.BackupFollowed(ctx, filepath.Join(folder, "onbehalf.backup"), func(doing string, _ int64) {
			if doing == at {
				cancel()
			}
		})
		cancel()
		if err == nil || !strings.Contains(err.Error(), "cancelled") {
			t.Errorf("%s: %v", at, err)
		}
		wantOnly(t, folder)
	}
}

// A data key that does not open is told, and there is a backup all the same.
func TestABackupWithoutAnOpenDataKey(t *testing.T) {
	t.Parallel()
	source := furnished(t, secret.Text{})
	o := operator(t, source)
	source.Tamper(t, "UPDATE data_keys SET wrapped = $1 WHERE purpose = 'secret' AND generation > 0", []byte("nothing that opens"))
	path := filepath.Join(t.TempDir(), "onbehalf.backup")
	done, err := o.Backup(t.Context(), path)
	if err != nil || done.Unopened == "" || done.Values != 0 || len(done.Damage) != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != done.Bytes {
		t.Errorf("%v, %v", info, err)
	}
}
