//go:build linux

package inside

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

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

// An init that takes in no more messages holds nobody up for long, and everybody once.
func TestChannelThatIsNotRead(t *testing.T) {
	t.Parallel()
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	if ours.unread != unread {
		t.Errorf("the platform waits for %v", ours.unread)
	}
	ours.unread = 50 * time.Millisecond
	failed := make(chan error)
	go func() {
		for {
			if err := ours.Send(Message{Kind: KindDial}); err != nil {
				failed <- err
				return
			}
		}
	}()
	select {
	case err := <-failed:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it waits")
	}
	if err := ours.Send(Message{Kind: KindStop}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the next message: %v", err)
	}
}
