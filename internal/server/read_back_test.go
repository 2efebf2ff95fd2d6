package server

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// What is on the disk counts, and not what was written.
func TestReadBack(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	if err := db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec("INSERT INTO accounts (account, created) VALUES ('111122223333', 1)")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	rows, err := db.Dump(t.Context(), &b)
	if err != nil || rows == 0 {
		t.Fatalf("%d rows, %v", rows, err)
	}
	key := []byte("the key")
	sum := sha256.New()
	sum.Write(b.Bytes())
	whole := append(slices.Clone(b.Bytes()), seals(key, sum)...)
	altered := slices.Clone(whole)
	altered[len(altered)/2] ^= 1
	for name, c := range map[string]struct {
		content []byte
		key     string
		rows    int64
		good    bool
	}{
		"whole":          {whole, "the key", rows, true},
		"a bit is other": {altered, "the key", rows, false},
		"cut":            {whole[:len(whole)-1], "the key", rows, false},
		"cut in half":    {whole[:len(whole)/2], "the key", rows, false},
		"empty":          {nil, "the key", rows, false},
		"longer":         {append(slices.Clone(whole), 0), "the key", rows, false},
		"of another key": {whole, "another", rows, false},
		"of fewer rows":  {whole, "the key", rows + 1, false},
	} {
		path := filepath.Join(t.TempDir(), "copy")
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		followed := int64(0)
		err := readBack(t.Context(), path, []byte(c.key), c.rows, func(n int64) { followed = n })
		switch {
		case c.good && (err != nil || followed != int64(b.Len())):
			t.Errorf("%s: %v after %d bytes", name, err, followed)
		case !c.good && (err == nil || !strings.Contains(readable(err).Error(), "does not read back as it was written")):
			t.Errorf("%s: %v", name, err)
		}
	}
}
