//go:build linux

package process

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/onbehalf/onbehalf/internal/runtime"
	"github.com/onbehalf/onbehalf/internal/runtime/process/inside"
)

// An init that an agent has got hold of may say of its storage what it likes: what was
// kept stays, or becomes another of its own, and nothing is left beside it.
func TestStorageOfAnInitThatLies(t *testing.T) {
	t.Parallel()
	for what, lie := range map[string]struct {
		says, sends, err, kept string
	}{
		"the truth":              {`{"entries":1}`, "after", "", "after"},
		"no answer at all":       {`?`, "after", "invalid character", "before"},
		"another kind of answer": {`{"entries":"many"}`, "after", "cannot unmarshal", "before"},
		"something and nothing":  {`{"entries":1}`, "", "nothing was written", "before"},
		"less than nothing":      {`{"entries":-1}`, "", "nothing was written", "before"},
		"nothing and something":  {`{}`, "after", "", ""},
		"the same and another":   {`{"same":true}`, "after", "", "before"},
		"an error and something": {`{"entries":1,"error":"a reason"}`, "after", "a reason", "before"},
		"more than there may be": {`{"entries":1}`, strings.Repeat("x", 2<<20), "longer than", "before"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			a, _, folder := kept(t)
			before := a.Draft(1 << 20)
			if _, err := io.WriteString(before, "before"); err != nil {
				t.Fatal(err)
			}
			if err := before.Keep(); err != nil {
				t.Fatal(err)
			}
			ours, theirs, err := inside.Pair()
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close()
			s := &session{channel: ours, storage: newStorage(runtime.Launch{Storage: a}, inside.Limits{}, make(chan struct{}))}
			go func() {
				pipe := handed(t, theirs)
				_, _ = io.WriteString(pipe, lie.sends)
				_ = pipe.Close()
				s.storage.answered(inside.Message{Number: 7, Text: `{"error":"of another saving"}`})
				s.storage.answered(inside.Message{Number: 1, Text: lie.says})
			}()
			_, err = s.packed(a.Draft(1<<20), nil, "", saveLimit)
			if lie.err == "" && err != nil || lie.err != "" && (err == nil || !strings.Contains(err.Error(), lie.err)) {
				t.Errorf("%v", err)
			}
			files, _ := filepath.Glob(folder + "/*")
			content, _ := os.ReadFile(filepath.Join(folder, "1"))
			if string(content) != lie.kept || len(files) > 1 || len(files) == 0 && lie.kept != "" {
				t.Errorf("%q is kept, in %v", content, files)
			}
		})
	}
}

// handed is the file that comes along with the next message.
func handed(t *testing.T, channel *os.File) *os.File {
	conn, err := net.FileConn(channel)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer conn.Close()
	defer channel.Close()
	rights := make([]byte, syscall.CmsgSpace(4))
	_, count, _, _, err := conn.(*net.UnixConn).ReadMsgUnix(make([]byte, 1<<10), rights)
	if err != nil {
		t.Error(err)
		return nil
	}
	messages, err := syscall.ParseSocketControlMessage(rights[:count])
	if err != nil || len(messages) != 1 {
		t.Error(err, messages)
		return nil
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Error(err, fds)
		return nil
	}
	return os.NewFile(uintptr(fds[0]), "pipe")
}
