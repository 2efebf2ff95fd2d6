//go:build linux

package inside

import "testing"

// The last word of whoever closes its end is heard, also where it has left something
// unread: the kernel then says first that the connection was reset.
func TestLastWordIsHeard(t *testing.T) {
	t.Parallel()
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	other, err := channelOf(theirs, longestMessage)
	if err != nil {
		t.Fatal(err)
	}
	if err := ours.Send(Message{Kind: KindDial}); err != nil {
		t.Fatal(err)
	}
	if err := other.Send(Message{Kind: KindEnd, Text: "why"}); err != nil {
		t.Fatal(err)
	}
	_ = other.Close()
	if m, _, err := ours.Receive(); err != nil || m.Kind != KindEnd || m.Text != "why" {
		t.Errorf("%+v %v", m, err)
	}
	if m, _, err := ours.Receive(); err == nil {
		t.Errorf("after the end: %+v %v", m, err)
	}
}
