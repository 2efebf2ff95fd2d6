package runtime

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

type entry struct {
	name, content string
	mode          fs.FileMode // 0: none is stored, as boto3's users have it
}

func zipped(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		if e.mode != 0 {
			h.SetMode(e.mode)
		}
		w, err := z.CreateHeader(h)
		if err == nil && e.content != "" {
			_, err = io.WriteString(w, e.content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sumOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// An archive becomes a folder that agents can read and cannot change; what is a
// program can be started, also where the archiver kept no modes.
func TestCodeIsUnpacked(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *hosted) {
		content := zipped(t,
			entry{"./", "", fs.ModeDir | 0o700}, entry{"main.py", "print()", 0}, entry{"agent", "\x7fELF…", 0}, entry{"bin/run", "#!/bin/sh\n", 0}, entry{"vendor/", "", fs.ModeDir | 0o700},
			entry{"vendor/deep/x.so", "lib", 0o700}, entry{"secret.txt", "s", 0o600}, entry{"suid", "x", fs.ModeSetuid | 0o755}, entry{"./dot", "", 0}, entry{"Ünïcode 名.txt", "u", 0o644})
		bucketName, prefix, err := h.PutCode(t.Context(), testAccount, bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		if bucketName != "onbehalf-code-000000000000" || prefix != "sha256/"+sumOf(content)+".zip" {
			t.Errorf("%s %s", bucketName, prefix)
		}
		// From the database, as another machine would.
		if err := os.RemoveAll(h.codeFolder()); err != nil {
			t.Fatal(err)
		}
		folder, err := h.code(t.Context(), testAccount, sumOf(content))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]fs.FileMode{
			".": fs.ModeDir | 0o755, "main.py": 0o644, "agent": 0o755, "bin": fs.ModeDir | 0o755, "bin/run": 0o755, "vendor": fs.ModeDir | 0o755, "vendor/deep": fs.ModeDir | 0o755,
			"vendor/deep/x.so": 0o755, "secret.txt": 0o644, "suid": 0o755, "dot": 0o644, "Ünïcode 名.txt": 0o644,
		} {
			info, err := os.Stat(filepath.Join(folder, name))
			if err != nil || info.Mode() != want {
				t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(h.options.Folder, "archive-*")); len(left) != 0 {
			t.Errorf("beside the folder of code there is %v", left)
		}
	})
}

// What could leave its folder, or is more than it says, is refused in words, and
// nothing of it is kept.
func TestHostileArchives(t *testing.T) {
	t.Parallel()
	bomb := zipped(t, entry{"zeros", strings.Repeat("\x00", 1<<20), 0})
	lying := bytes.Clone(bomb)
	for _, signature := range []string{"PK\x01\x02"} { // the directory says 1,024 bytes
		at := bytes.Index(lying, []byte(signature)) + 24
		copy(lying[at:], []byte{0, 4, 0, 0})
	}
	damaged := zipped(t, entry{"main.py", strings.Repeat("print()\n", 1000), 0})
	damaged[60] ^= 0xff
	var many bytes.Buffer
	z := zip.NewWriter(&many)
	for i := range maxEntries + 1 {
		if _, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprint(i), Method: zip.Store}); err != nil {
			t.Fatal(err)
		}
	}
	_ = z.Close()
	var deep []entry // 250 entries, and 125,000 folders
	for i := range 250 {
		deep = append(deep, entry{fmt.Sprint(i) + strings.Repeat("/d", 500), "", 0})
	}
	declared := zipped(t, entry{"big", "x", 0})
	at := bytes.Index(declared, []byte("PK\x01\x02")) + 24
	copy(declared[at:], []byte{0, 0, 0, 0x40}) // 1 GiB
	long := strings.Repeat("a", 256)
	h := serving(t, nil)
	for name, test := range map[string]struct {
		content []byte
		says    string
	}{
		"nothing":            {nil, "no ZIP"},
		"no archive":         {[]byte("#!/bin/sh\nexit 1\n"), "no ZIP"},
		"half an archive":    {bomb[:len(bomb)/2], "no ZIP"},
		"no entries":         {zipped(t), "0 entries"},
		"upwards":            {zipped(t, entry{"../x", "x", 0}), "no path below"},
		"up and down":        {zipped(t, entry{"a/../../x", "x", 0}), "no path below"},
		"absolute":           {zipped(t, entry{"/etc/passwd", "x", 0}), "no path below"},
		"of Windows":         {zipped(t, entry{`a\..\..\x`, "x", 0}), "backslash"},
		"a drive":            {zipped(t, entry{`C:\x`, "x", 0}), "backslash"},
		"a NUL":              {zipped(t, entry{"a\x00b", "x", 0}), "control character"},
		"a line end":         {zipped(t, entry{"a\nb", "x", 0}), "control character"},
		"no UTF-8":           {zipped(t, entry{"a\xffb", "x", 0}), "no path below"},
		"an empty part":      {zipped(t, entry{"a//b", "x", 0}), "no path below"},
		"a long part":        {zipped(t, entry{long, "x", 0}), "longer than 255"},
		"a long path":        {zipped(t, entry{strings.Repeat("abc/", 300) + "x", "x", 0}), "longer than 1024"},
		"a link":             {zipped(t, entry{"link", "/etc/passwd", fs.ModeSymlink | 0o777}), "links and devices"},
		"a device":           {zipped(t, entry{"null", "", fs.ModeDevice | fs.ModeCharDevice | 0o666}), "links and devices"},
		"a pipe":             {zipped(t, entry{"pipe", "", fs.ModeNamedPipe | 0o666}), "links and devices"},
		"twice":              {zipped(t, entry{"a", "1", 0}, entry{"a", "2", 0}), "twice"},
		"twice, with a dot":  {zipped(t, entry{"a", "1", 0}, entry{"./a", "2", 0}), "twice"},
		"file, then folder":  {zipped(t, entry{"a", "1", 0}, entry{"a/", "", fs.ModeDir | 0o755}), "twice"},
		"below a file":       {zipped(t, entry{"a", "1", 0}, entry{"a/b", "2", 0}), "below a file"},
		"far below a file":   {zipped(t, entry{"a", "1", 0}, entry{"a/b/c/d", "2", 0}), "below a file"},
		"more than it says":  {lying, "damaged"},
		"says it is too big": {declared, "larger than 750 MB"},
		"damaged":            {damaged, "damaged"},
		"too many entries":   {many.Bytes(), "100001 entries"},
		"too many folders":   {zipped(t, deep...), "more than 100000 files and folders"},
	} {
		_, _, err := h.PutCode(t.Context(), testAccount, bytes.NewReader(test.content))
		refusedAs(t, name, err, fault.Invalid, test.says)
	}
	left, err := os.ReadDir(h.codeFolder())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if e.IsDir() {
			t.Errorf("%s is left of what was refused", e.Name())
		}
	}
	if rows := rowsOf(t, h, "agent_code"); rows != 0 {
		t.Errorf("%d archives are kept of what was refused", rows)
	}
}

func rowsOf(t testing.TB, h *hosted, table string) (rows int64) {
	t.Helper()
	if err := h.db.View(t.Context(), func(tx *store.Tx) error { return tx.QueryRow("SELECT count(*) FROM " + table).Scan(&rows) }); err != nil {
		t.Fatal(err)
	}
	return rows
}

// A directory without end is not read to its end.
func TestDirectoryIsBounded(t *testing.T) {
	t.Parallel()
	b := &budget{from: endless{}, left: maxDirectory}
	read := 0
	for piece := make([]byte, 4096); ; read += len(piece) {
		if _, err := b.ReadAt(piece, int64(read)); err != nil {
			break
		}
	}
	if read > maxDirectory {
		t.Errorf("%d bytes of a directory were read", read)
	}
}

type endless struct{}

func (endless) ReadAt(p []byte, _ int64) (int, error) { return len(p), nil }

// Of many who need the same code at once, one unpacks it; half a folder of an
// earlier process, and folders of before the machine started, are not trusted.
func TestCodeFolders(t *testing.T) {
	t.Parallel()
	h := serving(t, nil)
	content := zipped(t, entry{"main.py", "print()", 0})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, _, err := h.PutCode(t.Context(), testAccount, bytes.NewReader(content)); err != nil {
				t.Error(err)
			}
			if _, err := h.code(t.Context(), testAccount, sumOf(content)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if rows := rowsOf(t, h, "agent_code"); rows != 1 {
		t.Errorf("%d rows of one archive", rows)
	}
	place := h.placeOf(testAccount, sumOf(content))
	for _, name := range []string{"half-earlier-1", "gone-x"} {
		if err := os.MkdirAll(filepath.Join(h.codeFolder(), name, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	again := func(boot string) {
		t.Helper()
		if boot != "" {
			if err := os.WriteFile(filepath.Join(h.codeFolder(), "of-boot"), []byte(boot), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		(&Service{options: h.options}).distrust()
	}
	again("")
	if left, _ := filepath.Glob(filepath.Join(h.codeFolder(), "[hg]*")); len(left) != 0 || !there(place) {
		t.Errorf("after a start of the platform: %v, code there: %v", left, there(place))
	}
	again("another start of the machine")
	if there(place) {
		t.Error("code of before the machine started is trusted")
	}
	if _, err := h.code(t.Context(), testAccount, sumOf(content)); err != nil || !there(place) {
		t.Errorf("it does not come back: %v", err)
	}
	if folder, err := h.code(t.Context(), "111111111111", sumOf(content)); !fault.Is(err, fault.RuntimeClient) {
		t.Errorf("another account has it in %s, %v", folder, err)
	}
}

// Who leaves while his code is being unpacked does not take the work away from others.
func TestUnpackingOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	h := serving(t, nil)
	content := zipped(t, entry{"main.py", "print()", 0})
	begun, go_ := make(chan struct{}), make(chan struct{})
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		left <- h.unpacked(ctx, testAccount, sumOf(content), func(context.Context) (io.ReaderAt, int64, func(), error) {
			close(begun)
			<-go_
			return bytes.NewReader(content), int64(len(content)), func() {}, nil
		})
	}()
	<-begun
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("who left is told %v", err)
	}
	close(go_)
	if err := h.unpacked(t.Context(), testAccount, sumOf(content), nil); err != nil || !there(h.placeOf(testAccount, sumOf(content))) {
		t.Errorf("the next one finds %v", err)
	}
}

// Archives that no version names go after a day, with their folders; those that
// are named, were put again, or were let go today stay.
func TestUnusedCodeIsForgotten(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		var mu sync.Mutex
		ahead := time.Duration(0)
		o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(ahead) }
		forward := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); ahead += d }
		db, err := store.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		h := servingOn(t, db, nil)
		h.now = o.Now
		made := h.create(t, "clerk", nil)
		used := h.get(t, made.AgentRuntimeId).AgentRuntimeArtifact.CodeConfiguration
		noise := make([]byte, 5<<20) // parts that are taken away in several steps
		_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
		unused := zipped(t, entry{"main.py", string(noise), 0})
		if _, _, err := h.PutCode(t.Context(), testAccount, bytes.NewReader(unused)); err != nil {
			t.Fatal(err)
		}
		kept := func() string {
			if err := h.sweepCode(t.Context()); err != nil {
				t.Fatal(err)
			}
			sum, _ := codeSum(testAccount, used)
			return fmt.Sprint(rowsOf(t, h, "agent_code"), there(h.placeOf(testAccount, sum)), there(h.placeOf(testAccount, sumOf(unused))))
		}
		forward(23 * time.Hour)
		if got := kept(); got != "2 true true" {
			t.Errorf("within its day: %s", got)
		}
		if _, _, err := h.PutCode(t.Context(), testAccount, bytes.NewReader(unused)); err != nil {
			t.Fatal(err)
		}
		forward(2 * time.Hour)
		if got := kept(); got != "2 true true" {
			t.Errorf("after it was put again: %s", got)
		}
		forward(23 * time.Hour)
		if got := kept(); got != "1 true false" {
			t.Errorf("after its day: %s", got)
		}
		if rows := rowsOf(t, h, "agent_code_parts"); rows != 1 {
			t.Errorf("%d parts are left", rows)
		}
		if _, _, err := h.PutCode(t.Context(), testAccount, bytes.NewReader(unused)); err != nil {
			t.Errorf("putting it once more: %v", err)
		}
		if _, err := h.DeleteAgentRuntime(t.Context(), h.admin(), &api.DeleteAgentRuntimeRequest{AgentRuntimeId: made.AgentRuntimeId}); err != nil {
			t.Fatal(err)
		}
		forward(time.Hour)
		if got := kept(); got != "2 true true" {
			t.Errorf("after its runtime was deleted: %s", got)
		}
		forward(24 * time.Hour)
		if got := kept(); got != "0 false false" {
			t.Errorf("a day later: %s", got)
		}
	})
}

// PutAgentCode takes who may, and records what was put.
func TestPutAgentCode(t *testing.T) {
	t.Parallel()
	h := serving(t, nil)
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.Code().ServeHTTP(w, r.WithContext(principal.WithRequest(r.Context(), principal.Request{ID: api.NewUUID(), Region: testRegion})))
	}))
	t.Cleanup(door.Close)
	content := string(zipped(t, entry{"main.py", strings.Repeat("print()\n", 1000), 0}))
	put := func(content string, change func(*http.Request)) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, door.URL+PathCode, strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		h.sign(t, r, content)
		if change != nil {
			change(r)
		}
		response, body := answer(t, r)
		return response.StatusCode, body
	}
	for range 2 {
		status, body := put(content, nil)
		want := fmt.Sprintf(`{"bucket":"onbehalf-code-000000000000","prefix":"sha256/%s.zip","sha256":"%s","size":%d}`, sumOf([]byte(content)), sumOf([]byte(content)), len(content))
		if status != http.StatusOK || body != want {
			t.Errorf("%d %s, want %s", status, body, want)
		}
	}
	if status, body := put(content, func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader(strings.Replace(content, "main", "evil", 2)))
	}); status == http.StatusOK {
		t.Errorf("code that is not what was signed: %s", body)
	}
	if status, body := put(content, func(r *http.Request) { r.Header.Del("Authorization") }); status == http.StatusOK {
		t.Errorf("unsigned: %s", body)
	}
	if status, body := put("no archive", nil); status == http.StatusOK || !strings.Contains(body, "no ZIP") {
		t.Errorf("no archive: %d %s", status, body)
	}
	if rows := rowsOf(t, h, "agent_code"); rows != 1 {
		t.Errorf("%d archives are kept", rows)
	}
	records, _, err := audit.NewReader(h.db, nil).List(t.Context(), audit.Query{Account: testAccount, Action: actionPutCode})
	if err != nil || len(records) != 3 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for i, record := range records { // the last one first
		if ok := i > 0; ok != (record.Outcome == audit.OK) || ok && (record.Detail["sha256"] != sumOf([]byte(content)) || record.Detail["size"] != fmt.Sprint(len(content))) {
			t.Errorf("recorded: %+v", record)
		}
	}
	if err := h.db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec("INSERT INTO agent_code (account, sha256, size, created) VALUES ($1, 'much', $2, 1)", testAccount, int64(maxCode))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if status, body := put(string(zipped(t, entry{"other.py", "", 0})), nil); status == http.StatusOK || !strings.Contains(body, "go") {
		t.Errorf("beyond the account's room: %d %s", status, body)
	}
}

// A disk without room is told of, in words; anything else is the log's.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	full := &fs.PathError{Op: "write", Path: "/secret/place", Err: syscall.ENOSPC}
	if err := noRoom(fmt.Errorf("copying: %w", full)); !fault.Is(err, fault.Unavailable) || strings.Contains(fault.Of(err).Message, "/secret") {
		t.Errorf("%v", err)
	}
	if err := noRoom(io.ErrUnexpectedEOF); err != io.ErrUnexpectedEOF {
		t.Errorf("%v", err)
	}
	// What would fill the disk is not begun.
	some := &zip.File{FileHeader: zip.FileHeader{Name: "some", UncompressedSize64: 1 << 10}}
	tooMuch := &zip.File{FileHeader: zip.FileHeader{Name: "too much", UncompressedSize64: 1 << 60}}
	if err := roomFor(t.TempDir(), []*zip.File{some, tooMuch}); !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.Of(err).Message, "no room") {
		t.Errorf("%v", err)
	}
}

// Whatever an archive holds, what is unpacked of it lies in its folder, and is
// files and folders.
func FuzzArchive(f *testing.F) {
	f.Add(zipped(f, entry{"main.py", "print()", 0o644}, entry{"a/b/c", "x", 0o755}))
	f.Add(zipped(f, entry{"a", "1", 0}, entry{"a/b", "2", 0}))
	f.Add(zipped(f, entry{"../x", "x", 0}, entry{"link", "/etc", fs.ModeSymlink | 0o777}))
	f.Add(zipped(f, entry{"./", "", fs.ModeDir | 0o755}, entry{"./a", strings.Repeat("\x00", 4096), 0}))
	f.Fuzz(func(t *testing.T, content []byte) {
		archive, err := openArchive(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatalf("refused as %v", err)
			}
			return
		}
		outer := t.TempDir()
		inner := filepath.Join(outer, "code")
		if err := os.Mkdir(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(inner)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		left := int64(64 << 20)
		for _, e := range archive.File {
			if left -= int64(e.UncompressedSize64); left < 0 {
				return // a test's disk
			}
			if err := extract(root, e); err != nil && !fault.Is(err, fault.Invalid) {
				t.Fatalf("%q: %v", e.Name, err)
			}
		}
		if err := filepath.WalkDir(outer, func(path string, e fs.DirEntry, err error) error {
			if err == nil && path != outer && !strings.HasPrefix(path, inner) {
				t.Errorf("%s is outside", path)
			}
			if err == nil && !e.IsDir() && !e.Type().IsRegular() {
				t.Errorf("%s is a %v", path, e.Type())
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	})
}
