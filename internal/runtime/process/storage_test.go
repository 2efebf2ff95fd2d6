//go:build linux

package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/runtime"
)

// told is what was said about an archive.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (t *told) tell(text string, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, fmt.Sprint(text, " ", cause))
}

func (t *told) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// kept is a session's archive in a folder of the test's.
func kept(t *testing.T) (*runtime.Archive, *told, string) {
	t.Helper()
	folder, said := filepath.Join(t.TempDir(), "kept"), &told{}
	return runtime.NewArchive(folder, 1, said.tell), said, folder
}

// storing is a session that stores at /mnt/data. Its agent does nothing: what is done, a shell does.
func storing(t *testing.T, a *runtime.Archive, change ...func(*runtime.Launch)) *running {
	t.Helper()
	return start(t, append([]func(*runtime.Launch){func(l *runtime.Launch) {
		l.Mounts, l.Storage = []string{"/mnt/data"}, a
	}}, change...)...)
}

// sh runs a line in the session and answers what it printed.
func (r *running) sh(t *testing.T, line string) string {
	t.Helper()
	return shell(t, r, line)
}

func shell(t *testing.T, p runtime.Process, line string) string {
	t.Helper()
	var out, err bytes.Buffer
	code, failed := p.Run(t.Context(), runtime.Command{Line: line, Timeout: time.Minute, Stdout: &out, Stderr: &err})
	if failed != nil || code != 0 {
		t.Fatalf("%s: exit code %d, %v\n%s%s", line, code, failed, &out, &err)
	}
	return out.String()
}

// exit has the agent exit, once it listens.
func exit(r *running) {
	for {
		if conn, err := r.Dial(context.Background()); err == nil {
			_, _ = io.WriteString(conn, "GET /exit HTTP/1.0\r\n\r\n")
			_ = conn.Close()
		}
		select {
		case <-r.Ended():
			return
		case <-time.After(20 * time.Millisecond): // it did not listen yet, or is about to end
		}
	}
}

const describe = `cd /mnt/data; find . -printf '%P %M %s %T@ %l\n' 2>/dev/null | sort; find . -type f -size -1G -perm -u+r -exec cksum {} + 2>/dev/null | sort; dd if=holes bs=1 skip=2T count=10 2>/dev/null`

// What a session has stored is there again in its next life, as it was.
func TestStorage(t *testing.T) {
	t.Parallel()
	a, said, folder := kept(t)
	first := storing(t, a, func(l *runtime.Launch) { l.Mounts = append(l.Mounts, "/mnt/second") })
	first.sh(t, `cd /mnt/data && umask 022 && mkdir -p a/b/c empty closed && echo hello > a/b/c/file && printf 'x' > 'a name with
a line' && chmod 751 a && chmod 640 a/b/c/file && ln -s b/c/file a/near && ln -s /etc/passwd far && ln -s ../../.. up &&
		truncate -s 3T holes && printf end | dd of=holes bs=1 seek=2T conv=notrunc 2>/dev/null && dd if=/dev/urandom of=big bs=1M count=5 2>/dev/null &&
		ln big again && ln big a/b/third && echo secret > closed/file && chmod 0 closed/file && touch -d 2001-02-03T04:05:06.789 a/b a/b/c/file && touch -hd 2002-03-04 far &&
		chmod 2770 empty && mkfifo /mnt/second/pipe && chmod 0500 a/b && chmod 0 closed && echo two > /mnt/second/file`)
	before := first.sh(t, describe)
	first.Stop(time.Second)
	if says := said.String(); !strings.HasPrefix(says, "Of the session's storage, not kept: 1 ") {
		t.Errorf("it said %q", says)
	}
	files, err := filepath.Glob(folder + "/*")
	if err != nil || len(files) != 1 {
		t.Fatalf("%v %v are kept", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 || info.Size() > 6<<20 {
		t.Errorf("the archive: %v %v", info, err)
	}
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("its folder: %v %v", info, err)
	}
	second := storing(t, a, func(l *runtime.Launch) { l.Mounts = append(l.Mounts, "/mnt/second") })
	if d := cmp.Diff(before, second.sh(t, describe)); d != "" {
		t.Errorf("before and after:\n%s", d)
	}
	if got := second.sh(t, `stat -c '%h %U' /mnt/data/big /mnt/data/again /mnt/data/a/b/third; du -k /mnt/data/holes | cut -f1; cat /mnt/second/file; chmod 700 /mnt/data/closed; chmod 600 /mnt/data/closed/file; cat /mnt/data/closed/file`); got != "3 agent\n3 agent\n3 agent\n4\ntwo\nsecret\n" {
		t.Errorf("%s", got)
	}
	second.sh(t, `rm -rf /mnt/data/* /mnt/second/* 2>/dev/null; chmod -R u+rwx /mnt/data; rm -rf /mnt/data/* ; ls -A /mnt/data`)
	second.Stop(time.Second)
	if files, _ := filepath.Glob(folder + "/*"); len(files) != 0 {
		t.Errorf("%v are kept of an empty storage", files)
	}
}

// However the agent ends, but for a kill of the whole session, its storage is saved.
func TestStorageOfEndings(t *testing.T) {
	t.Parallel()
	for how, end := range map[string]func(*running){
		"it exits":           exit,
		"it is stopped":      func(r *running) { r.Stop(5 * time.Second) },
		"it does not listen": func(r *running) { r.Stop(50 * time.Millisecond) },
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			a, said, _ := kept(t)
			r := storing(t, a, func(l *runtime.Launch) {
				if how == "it does not listen" {
					l.Command = []string{"sh", "-c", `trap "" TERM INT HUP; while :; do echo x >> /mnt/data/more; sleep 0.01; done`}
				}
			})
			r.sh(t, `echo kept > /mnt/data/file; (trap "" TERM; while :; do echo y >> /mnt/data/beside; done) > /dev/null 2>&1 &`)
			end(r)
			select {
			case <-r.Ended():
			case <-time.After(30 * time.Second):
				t.Fatal("it goes on")
			}
			if how == "it exits" && r.End() != "The agent ended with exit code 3." {
				t.Errorf("it ended: %s", r.End())
			}
			r.Stop(time.Second)
			if got := storing(t, a).sh(t, "cat /mnt/data/file"); got != "kept\n" || said.String() != "" {
				t.Errorf("%q; %s", got, said)
			}
		})
	}
}

// A session that is killed, platform and all, has what was saved while it ran.
func TestStorageOfKilled(t *testing.T) {
	t.Parallel()
	a, said, _ := kept(t)
	r := storing(t, a)
	s := r.Process.(*session)
	save := func() {
		t.Helper()
		if _, err := s.packed(a.Draft(s.storage.most), nil, "", saveLimit); err != nil {
			t.Fatal(err)
		}
	}
	r.sh(t, "echo early > /mnt/data/file")
	save()
	r.sh(t, "echo late > /mnt/data/file")
	_ = s.command.Process.Kill()
	<-r.Ended()
	r.Stop(0)
	if !strings.Contains(said.String(), errGone.Error()) {
		t.Errorf("it said %q", said)
	}
	if got := storing(t, a).sh(t, "cat /mnt/data/file"); got != "early\n" {
		t.Errorf("%q is there", got)
	}
}

// What is changed while it runs is saved while it runs, and once.
func TestStorageIsSavedByTheClock(t *testing.T) {
	t.Parallel()
	if _, err := shared(); err != nil {
		t.Skipf("skipped: %v", err)
	}
	d, err := New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.saveEvery = 10 * time.Millisecond
	a, said, folder := kept(t)
	begin := func() *session {
		p, err := d.Start(t.Context(), runtime.Launch{Name: "clock", Code: t.TempDir(), Command: []string{"sleep", "1000"}, Output: io.Discard, Environment: []string{"PATH=/usr/bin:/bin"}, Mounts: []string{"/mnt/data"}, Storage: a})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Stop(0) })
		return p.(*session)
	}
	s := begin()
	shell(t, s, "echo one > /mnt/data/file")
	saved := func(text string) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if archive, err := os.ReadFile(filepath.Join(folder, "1")); err == nil && bytes.Contains(archive, []byte(text)) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("it is not saved; %s", said)
			}
		}
	}
	saved("one\n")
	shell(t, s, "echo two > /mnt/data/other")
	saved("two\n")
	_ = s.command.Process.Kill()
	<-s.cleared
	if got := shell(t, begin(), "cat /mnt/data/file /mnt/data/other"); got != "one\ntwo\n" {
		t.Errorf("%q", got)
	}
}

// While it runs, storage is packed only if it has changed, and as well as it can be
// while the agent writes.
func TestStorageWhileItRuns(t *testing.T) {
	t.Parallel()
	a, _, folder := kept(t)
	r := storing(t, a)
	s := r.Process.(*session)
	looks, err := s.packed(a.Draft(s.storage.most), nil, s.storage.looks, saveLimit)
	if err != nil || looks != s.storage.looks {
		t.Errorf("%q %v, and it looked like %q", looks, err, s.storage.looks)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is something to keep: %v", err)
	}
	r.sh(t, "mkdir /mnt/data/d; echo one > /mnt/data/d/file; sleep 1.1")
	if looks, err = s.packed(a.Draft(s.storage.most), nil, looks, saveLimit); err != nil || looks == "" {
		t.Fatalf("%q %v", looks, err)
	}
	path := filepath.Join(folder, "1")
	written, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.packed(a.Draft(s.storage.most), nil, looks, saveLimit); err != nil || again != looks {
		t.Errorf("%q %v where nothing has changed since %q", again, err, looks)
	}
	if now, err := os.Stat(path); err != nil || !os.SameFile(now, written) {
		t.Errorf("it was written again: %v", err)
	}
	for _, change := range []string{"echo two > /mnt/data/d/file", "mv /mnt/data/d/file /mnt/data/d/other; touch -d 2001-01-01 /mnt/data/d", "rm /mnt/data/d/other"} {
		r.sh(t, change+"; sleep 1.1")
		before := looks
		if looks, err = s.packed(a.Draft(s.storage.most), nil, looks, saveLimit); err != nil || looks == before || looks == "" {
			t.Errorf("%s: %q %v", change, looks, err)
		}
	}
	// What was changed a moment ago might change again within the same tick of the clock.
	for try := 0; looks != "" && try < 20; try++ { // a busy machine may be late once
		r.sh(t, "echo x > /mnt/data/new")
		if looks, err = s.packed(a.Draft(s.storage.most), nil, looks, saveLimit); err != nil {
			t.Error(err)
		}
	}
	if looks != "" {
		t.Errorf("%q", looks)
	}
	r.sh(t, `cd /mnt/data && mkdir busy && for n in 1 2 3; do (while :; do echo $n > busy/$n.new; mv busy/$n.new busy/$n; mkdir -p busy/d$n/e; ln -sf /etc busy/l$n; rm -r busy/d$n; head -c 300000 /dev/zero >> busy/grows$n; : > busy/grows$n; done) > /dev/null 2>&1 & done
		(while :; do mkdir busy/swaps; ln -s /etc busy/link; mv -T --exchange busy/swaps busy/link || { rm -r busy/swaps; mv busy/link busy/swaps; sleep 0.001; }; rm -r busy/swaps busy/link; done) > /dev/null 2>&1 &`)
	for range 20 {
		if _, err := s.packed(a.Draft(s.storage.most), nil, "", saveLimit); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.command.Process.Kill()
	r.Stop(0)
	if got := storing(t, a).sh(t, "cat /mnt/data/new; find /mnt/data -name 'passwd*'"); got != "x\n" {
		t.Errorf("%q", got)
	}
}

// What is too much to be kept is told, and in the way of nothing: neither of the
// session's end nor of its next beginning.
func TestStorageWithoutMeasure(t *testing.T) {
	t.Parallel()
	a, said, _ := kept(t)
	r := storing(t, a)
	r.sh(t, "cd /mnt/data; for n in $(seq 150); do mkdir d; cd d; done; echo deep > file; echo kept > /mnt/data/file")
	r.Stop(time.Second)
	if !strings.Contains(said.String(), "not kept: 1 ") {
		t.Errorf("it said %q", said)
	}
	second := storing(t, a)
	if got := second.sh(t, "cd /mnt/data; cat file; find d -type d | wc -l"); got != "kept\n99\n" {
		t.Errorf("%q", got)
	}
	second.sh(t, "seq -f /mnt/data/f%.0f 101000 | xargs touch")
	second.Stop(time.Second)
	if !strings.Contains(said.String(), "was not saved") || !strings.Contains(said.String(), "more than the folder holds") {
		t.Errorf("it said %q", said)
	}
	if got := storing(t, a).sh(t, "cd /mnt/data; ls"); got != "d\nfile\n" {
		t.Errorf("%q", got)
	}
}

// A folder that is full comes back full, and one that is larger than it may be now is not lost.
func TestStorageThatIsFull(t *testing.T) {
	t.Parallel()
	a, said, folder := kept(t)
	sized := func(mb int64) func(*runtime.Launch) { return func(l *runtime.Launch) { l.Limits.Disk = mb << 20 } }
	full := storing(t, a, sized(16))
	sum := full.sh(t, "cd /mnt/data; dd if=/dev/urandom of=big bs=64k 2>/dev/null; cksum big; df --output=avail . | tail -1")
	full.Stop(time.Second)
	if got := storing(t, a, sized(16)).sh(t, "cd /mnt/data; cksum big; df --output=avail . | tail -1"); got != sum || said.String() != "" {
		t.Errorf("%q, and it was %q; %s", got, sum, said)
	}
	files, _ := filepath.Glob(folder + "/*")
	before, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	d, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Start(t.Context(), runtime.Launch{Name: "smaller", Code: t.TempDir(), Command: []string{"true"}, Output: io.Discard, Mounts: []string{"/mnt/data"}, Storage: a, Limits: runtime.Limits{Disk: 8 << 20}})
	if err == nil || !strings.Contains(err.Error(), "The session's storage could not be restored: no space left on device. What was kept stays as it is") {
		t.Errorf("a smaller folder: %v", err)
	}
	if after, err := os.Stat(files[0]); err != nil || !os.SameFile(before, after) || after.Size() != before.Size() {
		t.Errorf("the archive has changed: %v %v", after, err)
	}
}

// A saving that is given up, and one of more than there may be, leave what there was.
func TestStorageThatIsNotSaved(t *testing.T) {
	t.Parallel()
	a, _, folder := kept(t)
	r := storing(t, a)
	s := r.Process.(*session)
	r.sh(t, "head -c 20000000 /dev/zero > /mnt/data/big")
	if _, err := s.packed(a.Draft(1<<20), nil, "", saveLimit); err == nil || !strings.Contains(err.Error(), "longer than 1048576 bytes") {
		t.Errorf("too long: %v", err)
	}
	enough := make(chan struct{})
	close(enough)
	if _, err := s.packed(a.Draft(s.storage.most), enough, "", saveLimit); !errors.Is(err, errEnough) {
		t.Errorf("given up: %v", err)
	}
	if _, err := s.packed(a.Draft(s.storage.most), nil, "", 0); !errors.Is(err, errLate) {
		t.Errorf("too late: %v", err)
	}
	if files, _ := filepath.Glob(folder + "/*"); len(files) != 0 {
		t.Errorf("%v are left", files)
	}
	if _, err := s.packed(a.Draft(s.storage.most), nil, "", saveLimit); err != nil {
		t.Error(err)
	}
}

// A saving does not wait for a disk that takes nothing.
func TestStorageOnADiskThatHangs(t *testing.T) {
	t.Parallel()
	a, _, _ := kept(t)
	r := storing(t, a)
	r.sh(t, "echo x > /mnt/data/file")
	disk := hanging{came: make(chan struct{}), goes: make(chan struct{})}
	late, answered := make(chan time.Time), make(chan error)
	var copying sync.WaitGroup
	go func() {
		_, err := r.Process.(*session).pack(disk, &copying, nil, "", late)
		answered <- err
	}()
	<-disk.came
	late <- time.Now()
	select {
	case err := <-answered:
		if !errors.Is(err, errLate) {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it waits")
	}
	close(disk.goes)
	copying.Wait()
}

// hanging is a disk that takes the first bytes when it may.
type hanging struct{ came, goes chan struct{} }

func (h hanging) Write(b []byte) (int, error) {
	close(h.came)
	<-h.goes
	return 0, io.ErrClosedPipe
}

// The next life of a session does not begin while something of this one may still be saved.
func TestStorageHasOneWriter(t *testing.T) {
	t.Parallel()
	telling, told := make(chan struct{}), make(chan struct{})
	r := storing(t, runtime.NewArchive(t.TempDir(), 1, func(string, error) {
		close(telling)
		<-told
	}))
	s := r.Process.(*session)
	_ = s.command.Process.Kill()
	<-telling
	<-r.Ended()
	select {
	case <-s.cleared:
		t.Error("it may begin")
	case <-time.After(100 * time.Millisecond):
	}
	close(told)
	<-s.cleared
}

// A session without storage that is kept does not wait for any.
func TestMountsWithoutStorage(t *testing.T) {
	t.Parallel()
	r := start(t, func(l *runtime.Launch) { l.Mounts = []string{"/mnt/data"} })
	if got := r.sh(t, "echo x > /mnt/data/file; cat /mnt/data/file"); got != "x\n" {
		t.Errorf("%q", got)
	}
	exit(r)
}
