package runtime

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// storing is the storage of an agent of these tests: one text, which it has from the
// session before, and leaves to the next. What a driver has to do with a folder,
// package process tests.
type storing struct {
	storage *Archive
	mu      sync.Mutex
	text    string
}

func (s *storing) restore() error {
	if s.storage == nil {
		return nil
	}
	file, _, err := s.storage.Open()
	if file == nil || err != nil {
		return err
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	s.text = string(text)
	return err
}

func (s *storing) write(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = text
}

func (s *storing) read() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

func (s *storing) save() {
	if s.storage == nil || !s.storage.Wanted() {
		return
	}
	var err error
	if text := s.read(); text == "" {
		err = s.storage.Clear()
	} else {
		draft := s.storage.Draft(1 << 20)
		defer draft.Discard()
		if _, err = io.WriteString(draft, text); err == nil {
			err = draft.Keep()
		}
	}
	if err != nil {
		s.storage.Failed(err)
	}
}

func storingAt(r *api.CreateAgentRuntimeRequest) {
	r.FilesystemConfigurations = []api.FilesystemConfiguration{{SessionStorage: &api.SessionStorageConfiguration{MountPath: "/mnt/data"}}}
}

// life begins a session, looks at what it finds, leaves something, and ends it.
func (h *hosted) life(t testing.TB, who principal.Caller, at *served, id, leaves string) (finds string) {
	t.Helper()
	n := h.begin(t, who, at, id)
	finds = h.lastAgent().read()
	h.lastAgent().write(leaves)
	n.stop("It was stopped.")
	<-n.over
	return finds
}

// stored are the files of a runtime's storage.
func (h *hosted) stored(t testing.TB, runtime string) (paths []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(h.storageFolder(runtime), "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// What a session stores its next life finds, however it ended, and nobody else.
func TestStorageOfSessions(t *testing.T) {
	t.Parallel()
	h := serving(t, silent)
	made := h.create(t, "storing", storingAt)
	at := h.at(t, made)
	ada := h.admin()
	ada.User = principal.User{ID: "ada"}
	bob := h.admin()
	bob.User = principal.User{ID: "bob"}
	key := principal.Caller{Kind: principal.Key, Account: testAccount, ARN: "arn:aws:iam::" + testAccount + ":user/other", User: ada.User}
	other := h.at(t, h.create(t, "other", storingAt))
	for _, step := range []struct {
		what          string
		who           principal.Caller
		at            *served
		id            string
		finds, leaves string
	}{
		{"the first life", ada, at, named("a"), "", "ada's"},
		{"the same session", ada, at, named("a"), "ada's", "ada's again"},
		{"another session", ada, at, named("b"), "", ""},
		{"another user", bob, at, named("a"), "", "bob's"},
		{"another key", key, at, named("a"), "", ""},
		{"no user", h.admin(), at, named("a"), "", ""},
		{"another runtime", ada, other, named("a"), "", ""},
		{"the same session, after all these", ada, at, named("a"), "ada's again", "ada's again"},
		{"bob's", bob, at, named("a"), "bob's", ""},
		{"bob's, emptied", bob, at, named("a"), "", ""},
	} {
		if finds := h.life(t, step.who, step.at, step.id, step.leaves); finds != step.finds {
			t.Errorf("%s finds %q", step.what, finds)
		}
	}
	if files := h.stored(t, made.AgentRuntimeId); len(files) != 1 || strings.Contains(files[0], "ada") || strings.Contains(files[0], named("a")) {
		t.Errorf("there are %v", files)
	}

	n := h.begin(t, ada, at, named("a"))
	h.lastAgent().write("before the crash")
	h.lastAgent().end("The agent ended with exit code 1.")
	<-n.over
	if finds := h.life(t, ada, at, named("a"), "before the platform stops"); finds != "before the crash" {
		t.Errorf("after a crash: %q", finds)
	}
	h.begin(t, ada, at, named("a"))
	h.lastAgent().write("when the platform stopped")
	h.Close()
	h.Service = New(h.db, h.keeper, h.identity, h.guard, h.gate, h.options)
	t.Cleanup(h.Service.Close)
	if finds := h.life(t, ada, at, named("a"), ""); finds != "when the platform stopped" {
		t.Errorf("after a restart: %q", finds)
	}
	if at := h.at(t, h.create(t, "without", nil)); h.life(t, ada, at, named("a"), "x") != "" || h.lastAgent().storage != nil {
		t.Error("a runtime without storage has some")
	}
}

// Where whoever may call may use anybody's session, its storage is whoever's, too.
func TestStorageOfSharedSessions(t *testing.T) {
	t.Parallel()
	h := serving(t, silent)
	h.options.SharedSessions = true
	at := h.at(t, h.create(t, "shared", storingAt))
	ada := h.admin()
	ada.User = principal.User{ID: "ada"}
	h.life(t, ada, at, named("a"), "for all")
	if finds := h.life(t, h.admin(), at, named("a"), ""); finds != "for all" {
		t.Errorf("%q", finds)
	}
}

// A session that comes back with another version finds its storage empty. One that
// never answers with it leaves what there was.
func TestStorageOfVersions(t *testing.T) {
	t.Parallel()
	h := serving(t, silent)
	made := h.create(t, "versioned", storingAt)
	first := h.at(t, made)
	h.life(t, h.admin(), first, named("a"), "of version 1")
	h.life(t, h.admin(), first, named("b"), "of another")
	h.update(t, made.AgentRuntimeId, func(r *api.UpdateAgentRuntimeRequest) {
		r.FilesystemConfigurations = []api.FilesystemConfiguration{{SessionStorage: &api.SessionStorageConfiguration{MountPath: "/mnt/data"}}}
	})
	second := h.at(t, made)
	if second.version.version != 2 {
		t.Fatalf("version %d", second.version.version)
	}
	h.agents.ping = func(w http.ResponseWriter, _ *http.Request) {
		h.lastAgent().write("broken")
		h.lastAgent().end("The agent ended with exit code 1.")
	}
	if _, _, err := h.acquire(t.Context(), h.admin(), second, named("a")); err == nil {
		t.Fatal("it started")
	}
	h.agents.ping = nil
	h.eventually(t, func() bool { return len(h.those(func(*session) bool { return true })) == 0 }) // its row is gone a moment before
	if finds := h.life(t, h.admin(), first, named("a"), "of version 1"); finds != "of version 1" {
		t.Errorf("after version 2 failed: %q", finds)
	}
	if finds := h.life(t, h.admin(), second, named("a"), "of version 2"); finds != "" {
		t.Errorf("version 2 finds %q", finds)
	}
	if finds := h.life(t, h.admin(), first, named("a"), "of version 1 again"); finds != "" {
		t.Errorf("version 1 finds %q after version 2 had it", finds)
	}
	if finds := h.life(t, h.admin(), first, named("b"), "of another"); finds != "of another" {
		t.Errorf("the other session finds %q", finds)
	}

	// Storage goes with its version, and with its runtime.
	h.life(t, h.admin(), second, named("a"), "of version 2")
	one := "1"
	if _, err := h.DeleteAgentRuntime(t.Context(), h.admin(), &api.DeleteAgentRuntimeRequest{AgentRuntimeId: made.AgentRuntimeId, AgentRuntimeVersion: &one}); err != nil {
		t.Fatal(err)
	}
	h.eventually(t, func() bool {
		files := h.stored(t, made.AgentRuntimeId)
		return len(files) == 1 && strings.HasSuffix(files[0], "/2")
	})
	h.begin(t, h.admin(), second, named("c"))
	h.lastAgent().write("running")
	if _, err := h.DeleteAgentRuntime(t.Context(), h.admin(), &api.DeleteAgentRuntimeRequest{AgentRuntimeId: made.AgentRuntimeId}); err != nil {
		t.Fatal(err)
	}
	h.eventually(t, func() bool {
		_, err := os.Stat(h.storageFolder(made.AgentRuntimeId))
		return errors.Is(err, os.ErrNotExist)
	})
}

// Storage that nobody comes back for goes after 14 days, and so does what nobody could
// come back for.
func TestUnusedStorage(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		h := servingOn(t, db, silent)
		made := h.create(t, "unused", storingAt)
		at := h.at(t, made)
		used := func(ago time.Duration) {
			t.Helper()
			for _, path := range h.stored(t, made.AgentRuntimeId) {
				then := time.Now().Add(-ago)
				if err := os.Chtimes(path, then, then); err != nil {
					t.Fatal(err)
				}
			}
			h.sweepStorage(t.Context())
		}
		old := func(path, content string) {
			t.Helper()
			then := time.Now().Add(-2 * time.Hour)
			if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chtimes(path, then, then)); err != nil {
				t.Fatal(err)
			}
		}
		h.life(t, h.admin(), at, named("a"), "kept")
		used(storageUnused - time.Hour)
		n := h.begin(t, h.admin(), at, named("a"))
		if finds := h.lastAgent().read(); finds != "kept" {
			t.Errorf("after 13 days: %q", finds)
		}
		if info, err := os.Stat(h.stored(t, made.AgentRuntimeId)[0]); err != nil || time.Since(info.ModTime()) > time.Hour {
			t.Errorf("a session that begins does not use it: %v %v", info, err)
		}
		n.stop("It was stopped.")
		<-n.over
		folder := filepath.Dir(h.stored(t, made.AgentRuntimeId)[0])
		for name, content := range map[string]string{draftPrefix + "anotherprocess-1": "half", draftPrefix + thisProcess + "-2": "at work", "7": "of no version", "stray": "?"} {
			old(filepath.Join(folder, name), content)
		}
		gone := h.storageFolder("gone-0123456789")
		if err := os.MkdirAll(filepath.Join(gone, "session"), 0o700); err != nil {
			t.Fatal(err)
		}
		old(filepath.Join(gone, "session", "1"), "of no runtime")
		h.sweepStorage(t.Context())
		if files := h.stored(t, made.AgentRuntimeId); len(files) != 2 || !strings.Contains(strings.Join(files, " "), draftPrefix+thisProcess) {
			t.Errorf("there are %v", files)
		}
		if _, err := os.Stat(gone); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a deleted runtime's: %v", err)
		}
		used(storageUnused + time.Hour)
		if files := h.stored(t, made.AgentRuntimeId); len(files) != 1 {
			t.Errorf("there are %v", files)
		}
		if finds := h.life(t, h.admin(), at, named("a"), ""); finds != "" {
			t.Errorf("after 15 days: %q", finds)
		}
	})
}

// What a process that was killed left half written goes when the next one begins, and
// no session waits for that.
func TestHalfWrittenStorage(t *testing.T) {
	t.Parallel()
	h := serving(t, silent)
	folder := filepath.Join(h.storageFolder("gone-0123456789"), "session")
	half := filepath.Join(folder, draftPrefix+"anotherprocess-1")
	if err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(half, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var keeping sync.WaitGroup
	keeping.Go(func() { _ = h.KeepCode(ctx) })
	h.eventually(t, func() bool {
		_, err := os.Stat(half)
		return errors.Is(err, os.ErrNotExist)
	})
	cancel()
	keeping.Wait()
}

// What its session waits for no longer does not come to the next life of it, late.
func TestStorageThatIsLate(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	a := NewArchive(folder, 1, func(string, error) {})
	keep := func(text string, meanwhile func(*Draft)) {
		t.Helper()
		draft := a.Draft(1 << 20)
		if _, err := io.WriteString(draft, text); err != nil {
			t.Skip("skipped: ", err) // the disk is nearly full
		}
		meanwhile(draft)
		if err := draft.Keep(); err != nil {
			t.Error(err)
		}
		draft.Discard()
	}
	keep("before", func(*Draft) {})
	keep("late", (*Draft).GiveUp)
	entries, _ := os.ReadDir(folder)
	if content, err := os.ReadFile(a.path()); err != nil || string(content) != "before" || len(entries) != 1 {
		t.Errorf("%q %v, %v", content, err, entries)
	}
}
