package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"

	"github.com/onbehalf/onbehalf/internal/demoidp"
)

// At whatever step the power goes, what was answered before is there after, and
// the story goes on where it was: the same link, the same browser, one consent.
func TestKilledBetweenSteps(t *testing.T) {
	t.Parallel()
	for i, last := range legs {
		t.Run("after "+last.name, func(t *testing.T) {
			t.Parallel()
			w := startWreck(t)
			j := startJourney(t, w.platform, w.idp, &w.seen, "traveller")
			if err := j.travel(t.Context(), legs[:i+1]); err != nil {
				t.Fatal(err)
			}
			j.greeting = ""
			w.crash()
			if err := j.travel(t.Context(), legs[i+1:]); err != nil {
				t.Fatalf("after the crash the story does not go on: %v", err)
			}
			j.greeting = ""
			if err := j.greet(t.Context()); err != nil {
				t.Fatalf("after the crash there is no greeting: %v", err)
			}
			if got := w.idp.redeemed(); got != 1 {
				t.Errorf("%d codes were redeemed for one consent", got)
			}
			w.intact()

			// Or it begins anew, on what is there.
			again := startJourney(t, w.platform, w.idp, &w.seen, "traveller")
			if err := again.travel(t.Context(), legs); err != nil || again.greeting == "" {
				t.Errorf("the story cannot begin anew: %v", err)
			}
		})
	}
}

// In the middle of a step, too. What was asked of others then has an answer that nobody heard.
func TestKilledDuringAStep(t *testing.T) {
	t.Parallel()
	for _, moment := range []struct {
		name     string
		path     string // of the provider, which is slow then
		answered bool   // the provider has done its part
		begun    int    // legs that are over
	}{
		{"provider being discovered", "/.well-known/openid-configuration", false, 1},
		{"completion, before the code arrives", "/token", false, 8},
		{"completion, after the tokens are issued", "/token", true, 8},
		{"tool call under way", "/v1/people/me", false, 9},
	} {
		t.Run(moment.name, func(t *testing.T) {
			t.Parallel()
			w := startWreck(t)
			j := startJourney(t, w.platform, w.idp, &w.seen, "traveller")
			if err := j.travel(t.Context(), legs[:moment.begun]); err != nil {
				t.Fatal(err)
			}
			w.killIn(moment.path, moment.answered, func(ctx context.Context) error { return j.travel(ctx, legs[moment.begun:moment.begun+1]) })

			if moment.path == "/token" {
				// Nobody knows whether the code was sent: it is not sent again, and the session is over, at once.
				started := time.Now()
				refused(t, j.complete(t.Context()), "AccessDeniedException")
				if waited := time.Since(started); waited > 10*time.Second {
					t.Errorf("it waits %s for a process that is dead", waited)
				}
				if got := w.idp.redeemed(); got != 1 {
					t.Errorf("the code was sent %d times", got)
				}
			}
			again := startJourney(t, w.platform, w.idp, &w.seen, "traveller")
			if err := again.travel(t.Context(), legs); err != nil || again.greeting == "" {
				t.Fatalf("the story cannot begin anew: %v", err)
			}
			if moment.path == "/token" && again.link == j.link {
				t.Error("the person is given the link that broke")
			}
			w.intact()
		})
	}
}

// A refresh that breaks off after the provider has rotated its token is the one
// place where a grant can be lost: then it is asked for again, and nothing else is wrong.
func TestKilledDuringRefresh(t *testing.T) {
	t.Parallel()
	for _, rotated := range []bool{false, true} {
		t.Run(fmt.Sprintf("rotated %t", rotated), func(t *testing.T) {
			t.Parallel()
			w := startWreck(t)
			j := startJourney(t, w.platform, w.idp, &w.seen, "traveller")
			w.idp.SetLifetime(shortLife)
			if err := j.travel(t.Context(), legs[:len(legs)-1]); err != nil { // a greeting could be under way as the token ends
				t.Fatal(err)
			}
			time.Sleep(shortLife + 20*time.Millisecond)
			w.idp.SetLifetime(time.Hour)
			tokens, err := w.idp.Issue(demoidp.Ada, demoidp.SignInClientID, "openid", "profile")
			if err != nil {
				t.Fatal(err)
			}
			j.jwt, j.greeting = tokens.ID, ""
			w.killIn("/token", rotated, j.greet)
			j.greeting = ""
			started := time.Now()
			if err := j.ask(t.Context()); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(started); waited > 10*time.Second {
				t.Errorf("it waits %s for a process that is dead", waited)
			}
			if asked := j.link != "" && j.greeting == ""; asked != rotated {
				t.Errorf("the person is asked again: %t", asked)
			}
			again := startJourney(t, w.platform, w.idp, &w.seen, "traveller")
			if err := again.travel(t.Context(), legs); err != nil || again.greeting == "" {
				t.Fatalf("the story cannot begin anew: %v", err)
			}
			w.intact()
		})
	}
}

// Anywhere, over and over, on the same data.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	times := 1
	if long() {
		times = 20
	}
	for i := range times {
		t.Run(fmt.Sprint(i+1), func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			killAnywhere(t, startWreck(t), rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

// killAnywhere kills the platform after a number of steps that three travellers
// have taken together, not after a time: how many stories fit into that is up to
// the machine. More with each round, so that some story has ended by the last.
func killAnywhere(t *testing.T, w *wreck, random *rand.Rand) {
	var ended, broken atomic.Int64
	for round := range 12 {
		var begun atomic.Int64
		last, reached := int64(1+random.IntN(len(legs))+round*3*len(legs)/2), make(chan struct{})
		counted := make([]leg, len(legs))
		for i, l := range legs {
			counted[i] = leg{l.name, func(j *journey, ctx context.Context) error {
				if begun.Add(1) == last {
					close(reached)
				}
				return l.take(j, ctx)
			}}
		}
		stop, stopped := context.WithCancel(t.Context())
		var travellers sync.WaitGroup
		for i := range 3 {
			travellers.Go(func() {
				for n := 0; stop.Err() == nil; n++ {
					j := startJourney(t, w.platform, w.idp, &w.seen, fmt.Sprintf("r%d-t%d-n%d", round, i, n))
					if j.travel(stop, counted) == nil {
						ended.Add(1)
					} else {
						broken.Add(1) // the platform is gone
					}
				}
			})
		}
		select {
		case <-reached:
		case <-time.After(5 * time.Minute):
			t.Fatalf("round %d: the travellers stand still", round)
		}
		time.Sleep(time.Duration(random.IntN(10)) * time.Millisecond) // anywhere in a step
		w.kill()
		stopped()
		travellers.Wait()
		w.start()
		w.intact()
		j := startJourney(t, w.platform, w.idp, &w.seen, fmt.Sprintf("r%d-t0-n0", round))
		if err := j.travel(t.Context(), legs); err != nil || j.greeting == "" {
			t.Fatalf("round %d: on what the crash left the story does not come to its end: %v", round, err)
		}
	}
	t.Logf("%d stories ended and %d were cut off", ended.Load(), broken.Load())
	if ended.Load() == 0 || broken.Load() == 0 {
		t.Error("the platform was killed at one kind of moment only")
	}
}

// The examination finds what it is for: it is made on damaged copies.
func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	w := startWreck(t)
	if err := startJourney(t, w.platform, w.idp, &w.seen, "traveller").travel(t.Context(), legs); err != nil {
		t.Fatal(err)
	}
	w.intact()
	w.stop()
	whole, heads, seen := w.data, w.heads, w.seen.ids
	for _, damage := range []struct{ name, statement, found string }{
		{"nothing", `SELECT 1`, ""},
		{"a record that says something else", `UPDATE audit_blocks SET body = zeroblob(length(body)) WHERE id = (SELECT max(id) FROM audit_blocks WHERE sequence < 8)`, "the audit does not hold"},
		{"a cut tail", `DELETE FROM audit_blocks WHERE sequence = (SELECT max(sequence) FROM audit_blocks)`, "the audit does not hold"},
		{"a row that others refer to", `DELETE FROM workload_identities WHERE name = 'traveller'; DELETE FROM oauth2_providers`, "refer to what is not there"},
		{"a byte", ``, "the database is corrupt"},
		{"an answer without a record", `SELECT 1`, "has no record of it"},
	} {
		t.Run(damage.name, func(t *testing.T) {
			w.data, w.heads, w.seen.ids = filepath.Join(t.TempDir(), "data"), heads, slices.Clone(seen)
			if err := errors.Join(os.CopyFS(w.data, os.DirFS(whole)), os.Chmod(filepath.Join(w.data, "key-encryption-key"), 0o600)); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(w.data, "onbehalf.db")
			db, err := sql.Open("sqlite", file) // as the platform opens it, but for the constraints
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(damage.statement); err != nil {
				t.Fatal(err)
			}
			var page, size int64 // of an index: its last byte belongs to the number of a row
			if err := db.QueryRow(`SELECT rootpage, page_size FROM sqlite_master, pragma_page_size WHERE name = 'grants_of_user'`).Scan(&page, &size); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			switch damage.name {
			case "a byte":
				overwrite(t, file, page*size-1, 'x')
			case "an answer without a record":
				w.seen.ids = append(w.seen.ids, "another")
			}
			err = w.examine()
			if (err == nil) != (damage.found == "") || err != nil && !strings.Contains(err.Error(), damage.found) {
				t.Errorf("found: %v", err)
			}
		})
	}
}

func overwrite(t *testing.T, path string, at int64, with byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		_, err = file.WriteAt([]byte{with}, at)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A first start makes the database, the key-encryption key and the root key. If
// it is killed there, the next one finishes what it began, or begins again.
func TestKilledWhileStarting(t *testing.T) {
	t.Parallel()
	rounds := 15
	if long() {
		rounds = 300
	}
	random, began := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0)), 0
	for round := range rounds {
		folder := filepath.Join(t.TempDir(), "data")
		for range 1 + random.IntN(3) {
			process := exec.Command(onbehalfBinary, "serve", "--addr", "127.0.0.1:0", "--data", folder)
			if err := process.Start(); err != nil {
				t.Fatal(err)
			}
			if round%2 == 1 { // however long a machine takes to begin
				awaitFile(t, filepath.Join(folder, "onbehalf.db"))
			}
			time.Sleep(time.Duration(random.IntN(80)) * time.Millisecond)
			_ = process.Process.Kill()
			_ = process.Wait()
		}
		if _, err := os.Stat(filepath.Join(folder, "onbehalf.db")); err == nil {
			began++
		}
		p := startPlatformIn(t, folder)
		name := "works"
		if _, err := p.control.CreateWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: &name}); err != nil {
			t.Fatalf("after a first start that was killed, the root key does not work: %v", err)
		}
		p.stop()
	}
	if began == 0 {
		t.Error("no start was killed after it had begun")
	}
}

// awaitFile waits until there is a file.
func awaitFile(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if exists(path) {
			return
		}
	}
	t.Fatalf("%s never came", filepath.Base(path))
}
