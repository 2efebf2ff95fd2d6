package seal

import (
	"testing"

	"pgregory.net/rapid"
)

// Two contexts that differ have encodings that differ, and neither is the
// beginning of the other: nothing that follows can make up for the difference.
func TestContextsAreEncodedUnambiguously(t *testing.T) {
	t.Parallel()
	// A small alphabet, with the bytes that lengths are written in, so that borders do get confused if they can.
	text := rapid.StringOfN(rapid.RuneFrom([]rune{0, 1, 2, 3, 'a', 'v'}), 0, 4, -1)
	generate := rapid.Custom(func(t *rapid.T) Context {
		return Context{
			Account: text.Draw(t, "account"),
			Purpose: Purpose(text.Draw(t, "purpose")),
			Kind:    text.Draw(t, "kind"),
			Row:     text.Draw(t, "row"),
			Version: rapid.Int64().Draw(t, "version"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := generate.Draw(t, "a"), generate.Draw(t, "b")
		switch rapid.IntRange(0, 6).Draw(t, "b is") {
		case 0: // a with a border moved
			joined := a.Kind + a.Row
			at := rapid.IntRange(0, len(joined)).Draw(t, "at")
			b = a
			b.Kind, b.Row = joined[:at], joined[at:]
		case 1: // a but for one member
			b.Purpose, b.Kind, b.Row, b.Version = a.Purpose, a.Kind, a.Row, a.Version
		case 2:
			b.Account, b.Kind, b.Row, b.Version = a.Account, a.Kind, a.Row, a.Version
		case 3:
			b.Account, b.Purpose, b.Row, b.Version = a.Account, a.Purpose, a.Row, a.Version
		case 4:
			b.Account, b.Purpose, b.Kind, b.Version = a.Account, a.Purpose, a.Kind, a.Version
		case 5:
			b.Account, b.Purpose, b.Kind, b.Row = a.Account, a.Purpose, a.Kind, a.Row
		}
		a.Purpose, b.Purpose = a.purpose(), b.purpose()
		first, second := string(a.appendTo(nil)), string(b.appendTo(nil))
		shorter := min(len(first), len(second))
		if (a == b) != (first[:shorter] == second[:shorter]) {
			t.Fatalf("%+v and %+v are encoded as %x and %x", a, b, first, second)
		}
	})
}
