package seal

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzParseFileKey: a file either gives 32 bytes, or an error that does not
// quote it.
func FuzzParseFileKey(f *testing.F) {
	key := fileMark + strings.Repeat("A", 43)
	for _, seed := range []string{"", "#", key, fileHeader + key + "\n", key + "\n" + key, key + "=", key[:20], fileMark, "\xff\x00", "\r\n" + key + "\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		before := bytes.Clone(content)
		raw, err := parseFileKey(content)
		if !bytes.Equal(before, content) {
			t.Error("the content was changed")
		}
		if (err == nil) != (len(raw) == keySize) {
			t.Errorf("%d bytes and %v", len(raw), err)
		}
		if err == nil && !bytes.Contains(content, []byte(fileMark)) {
			t.Error("a key without its mark")
		}
	})
}
