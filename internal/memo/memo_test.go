package memo_test

import (
	"strconv"
	"testing"

	"github.com/onbehalf/onbehalf/internal/memo"
)

type name struct{ account, id string }

type document struct {
	text string
	size uint32
}

// Keys are compared as Go compares them, whatever their kind, and a value comes
// back as it went in.
func TestCacheKeepsAndForgets(t *testing.T) {
	t.Parallel()
	documents := memo.ByNumber[name, document](100)
	a, b := name{"1", "23"}, name{"12", "3"}
	documents.Set(a, document{text: "a"})
	documents.Set(b, document{text: "b"})
	documents.Set(b, document{text: "newer"})
	for key, want := range map[name]string{a: "a", b: "newer"} {
		if got, ok := documents.GetIfPresent(key); !ok || got.text != want {
			t.Errorf("%v is %q, %t; want %q", key, got.text, ok, want)
		}
	}
	documents.Invalidate(a)
	if got, ok := documents.GetIfPresent(a); ok || got != (document{}) {
		t.Errorf("what was forgotten is %v, %t", got, ok)
	}
	documents.InvalidateAll()
	if _, ok := documents.GetIfPresent(b); ok {
		t.Error("something is left after all was forgotten")
	}

	hashes := memo.ByNumber[[32]byte, *document](100)
	hashes.Set([32]byte{31: 1}, nil)
	if got, ok := hashes.GetIfPresent([32]byte{31: 1}); !ok || got != nil {
		t.Errorf("a nil pointer came back as %v, %t", got, ok)
	}
	if _, ok := hashes.GetIfPresent([32]byte{31: 2}); ok {
		t.Error("another hash has the same value")
	}
}

// A cache holds what it was told to and not more.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	number := memo.ByNumber[int, int](10)
	weight := memo.ByWeight[string](1000, func(d document) uint32 { return d.size })
	for i := range 1000 {
		number.Set(i, i)
		weight.Set(strconv.Itoa(i), document{size: 100})
	}
	weight.Set("heavy", document{size: 1001})
	if entries, _ := number.Size(); entries != 10 {
		t.Errorf("%d entries, want 10", entries)
	}
	if entries, weighs := weight.Size(); entries != 10 || weighs != 1000 {
		t.Errorf("%d entries weigh %d, want 10 that weigh 1000", entries, weighs)
	}
	if _, ok := weight.GetIfPresent("heavy"); ok {
		t.Error("what is heavier than the whole cache was kept")
	}
}
