package external

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Somebody exchanges links while they are followed: a reference opens what lies
// inside, or nothing; never what lies outside, and never the platform's own.
func TestLinksThatAreExchanged(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	folder, data := filepath.Join(base, "in"), filepath.Join(base, "in", "data")
	write(t, filepath.Join(folder, "good", "secret"), "inside")
	write(t, filepath.Join(data, "secret"), "canary-own")
	write(t, filepath.Join(base, "out", "secret"), "canary-outside")
	s := secretsOf(t, Options{Protected: []string{data}}, "name=file,kind=file,folder="+folder)
	var tick atomic.Int64
	start := time.Now()
	s.now = func() time.Time { return start.Add(time.Duration(tick.Add(1)) * 2 * lastGoodFor) } // nothing is remembered
	link, next := filepath.Join(folder, "link"), filepath.Join(folder, "next")
	if err := os.Symlink("good", link); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Symlink([]string{"good", "../out", "data"}[i%3], next)
			_ = os.Rename(next, link)
		}
	}()
	opened := 0
	for range 2000 {
		value, err := s.Resolve(t.Context(), account, Reference{"file/link/secret", WholeValue}, 2048)
		if err == nil && value.Reveal() != "inside" {
			t.Fatalf("opened %q", value.Reveal())
		}
		if err == nil {
			opened++
		}
	}
	close(stop)
	<-stopped
	if opened == 0 {
		t.Error("nothing led inside")
	}
}
