//go:build unix

package deploy

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/servertest"
)

// The folders of the settings are the runtime's: from the first version on, and no more when they are taken out.
func TestSessionStorage(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	c := newClient(t, p, nil)
	a := New(folder(t, map[string]string{"run.sh": "sleep 1"}), "")
	a.Name, a.Language, a.Entrypoint = "storing", Command, "sh run.sh"
	for _, paths := range [][]string{{"/mnt/data", "/mnt/more/"}, nil, {"/mnt/data"}} {
		a.Storage = paths
		if err := a.Save(); err != nil {
			t.Fatal(err)
		}
		saved, err := Load(a.Settings())
		if err != nil {
			t.Fatal(err)
		}
		made, err := c.Launch(t.Context(), saved, LaunchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var has struct {
			FilesystemConfigurations []struct {
				SessionStorage struct{ MountPath string }
			}
		}
		if err := c.ask(t.Context(), http.MethodGet, "/runtimes/"+url.PathEscape(made.ID)+"/", nil, &has); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range has.FilesystemConfigurations {
			got = append(got, f.SessionStorage.MountPath)
		}
		if diff := cmp.Diff(paths, got); diff != "" {
			t.Error(diff)
		}
	}
}

// What the platform would refuse is refused where the file is read.
func TestSessionStorageThatNoRuntimeHas(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), File)
	for _, paths := range []string{
		"[/data]", "[/mnt]", "[/mnt/]", "[/mnt/a/b]", "[/mnt/..]", "[/mnt/./]", `["/mnt/a b"]`, "[mnt/a]", "[/mnt/a, /mnt/a/]", "[/mnt/a, /mnt/b, /mnt/c, /mnt/d, /mnt/e, /mnt/f]",
		"[/mnt/" + strings.Repeat("a", 196) + "]", `["/mnt/a\n"]`, "[/mnt/ä]",
	} {
		if err := os.WriteFile(file, []byte("name: a\nlanguage: python\nentrypoint: m.py\nsession-storage: "+paths+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(file); err == nil || !strings.Contains(err.Error(), "such as /mnt/data") {
			t.Errorf("%s: got %v", paths, err)
		}
	}
}
