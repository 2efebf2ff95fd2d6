package seal_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// The tests seal into a table of their own with the shape of grants and one with
// that of providers, made from what their rooms made: rooms are not imported here.
var shelves = []seal.Table{
	{Name: "shelf", Row: "id", Version: "version", Columns: []seal.Column{{Name: "a", Kind: "shelf.a"}, {Name: "b", Kind: "shelf.b"}}},
	{Name: "drawer", Purpose: seal.Secrets, Row: "id", Version: "1", Columns: []seal.Column{{Name: "a", Kind: "drawer.a"}}},
	{Name: "data_keys", Clear: map[string]string{"wrapped": "not sealed"}},
}

func makeShelves(t *testing.T, db *store.DB) {
	t.Helper()
	bytesType := "BLOB"
	if db.Engine() == "postgres" {
		bytesType = "BYTEA"
	}
	update(t, db, func(tx *store.Tx) error {
		for _, statement := range []string{
			"CREATE TABLE IF NOT EXISTS shelf (id TEXT PRIMARY KEY, account TEXT NOT NULL, version BIGINT NOT NULL, a " + bytesType + " NOT NULL, b " + bytesType + ")",
			"CREATE TABLE IF NOT EXISTS drawer (id TEXT PRIMARY KEY, account TEXT NOT NULL, a " + bytesType + " NOT NULL)",
		} {
			if _, err := tx.Exec(statement); err != nil {
				return err
			}
		}
		return nil
	})
}

func update(t *testing.T, db *store.DB, fn func(*store.Tx) error) {
	t.Helper()
	if err := db.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func onShelf(account, id, column string, version int64) seal.Context {
	return seal.Context{Account: account, Kind: "shelf." + column, Row: id, Version: version}
}

func inDrawer(account, id string) seal.Context {
	return seal.Context{Account: account, Purpose: seal.Secrets, Kind: "drawer.a", Row: id, Version: 1}
}

// fill puts n rows of each kind into the account; every third has no b.
func fill(t *testing.T, db *store.DB, k *seal.Keeper, account string, n int) {
	t.Helper()
	update(t, db, func(tx *store.Tx) error {
		for i := range n {
			id := fmt.Sprintf("%s-%05d", account, i)
			var b []byte
			if i%3 != 0 {
				b = mustSeal(t, k, onShelf(account, id, "b", int64(i)), "b of "+id)
			}
			if _, err := tx.Exec("INSERT INTO shelf (id, account, version, a, b) VALUES ($1, $2, $3, $4, $5)", id, account, i, mustSeal(t, k, onShelf(account, id, "a", int64(i)), "a of "+id), b); err != nil {
				return err
			}
			if _, err := tx.Exec("INSERT INTO drawer (id, account, a) VALUES ($1, $2, $3)", id, account, mustSeal(t, k, inDrawer(account, id), "a of "+id)); err != nil {
				return err
			}
		}
		return nil
	})
}

// heads counts the rows of a table's column a by the first five bytes, in hex.
func heads(t *testing.T, db *store.DB, table, account string) map[string]int {
	t.Helper()
	found := map[string]int{}
	err := db.View(t.Context(), func(tx *store.Tx) error {
		rows, err := tx.Query("SELECT substr(a, 1, 5) FROM "+table+" WHERE account = $1", account)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var head []byte
			if err := rows.Scan(&head); err != nil {
				return err
			}
			found[fmt.Sprintf("%x", head)]++
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func verify(t *testing.T, db *store.DB, c *seal.Custodian, want int64) {
	t.Helper()
	var n int64
	if err := db.View(t.Context(), func(tx *store.Tx) (err error) { n, err = c.Verify(tx, seal.Undamaged); return err }); err != nil || n != want {
		t.Fatalf("%d values open, %v; want %d", n, err, want)
	}
}

func TestRowsAreSealedAnew(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		_, wrapper := newFileKey(t)
		db := storetest.OpenWith(t, o)
		makeShelves(t, db)
		k := newKeeper(t, db, wrapper)
		for _, a := range []string{account, neighbour} {
			if err := k.EnsureAccount(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			fill(t, db, k, a, 1500)
		}
		derived, err := k.Derive(t.Context(), account, seal.Vault, "x")
		if err != nil {
			t.Fatal(err)
		}
		c := seal.NewCustodian(k, shelves)
		if resumed, err := c.Begin(t.Context(), account); err != nil || resumed {
			t.Fatalf("begun: %v, %v", resumed, err)
		}
		if resumed, err := c.Begin(t.Context(), account); err != nil || !resumed {
			t.Fatalf("begun twice: %v, %v", resumed, err)
		}
		if err := c.Work(t.Context(), account, false); err != nil {
			t.Fatal(err)
		}
		verify(t, db, c, 2*(1500+1000+1500))
		if got := heads(t, db, "shelf", account); len(got) != 1 || got["0100000002"] != 1500 {
			t.Errorf("the account's rows: %v", got)
		}
		if got := heads(t, db, "drawer", account); len(got) != 1 || got["0200000002"] != 1500 {
			t.Errorf("the account's secrets: %v", got)
		}
		if got := heads(t, db, "shelf", neighbour); got["0100000001"] != 1500 {
			t.Errorf("the neighbour's rows were touched: %v", got)
		}
		r, err := c.Rotations(t.Context(), account)
		if err != nil || len(r) != 1 || r[0].Total != 3000 || r[0].Done != 3000 || r[0].Failed != 0 || r[0].Finished.IsZero() {
			t.Errorf("%+v, %v", r, err)
		}

		// The old keys go once nothing needs them, and not before.
		if n, err := c.Destroy(t.Context(), "", time.Hour); err != nil || n != 0 {
			t.Errorf("destroyed %d keys at once, %v", n, err)
		}
		if n, err := c.Destroy(t.Context(), account, 0); err != nil || n != 2 {
			t.Errorf("destroyed %d keys, %v; want vault and secrets", n, err)
		}
		restarted := newKeeper(t, db, wrapper)
		for _, keeper := range []*seal.Keeper{k, restarted} {
			if again, err := keeper.Derive(t.Context(), account, seal.Vault, "x"); err != nil || string(again) != string(derived) {
				t.Errorf("what was derived has changed: %v", err)
			}
		}
		verify(t, db, seal.NewCustodian(restarted, shelves), 2*(1500+1000+1500))
		old := mustSeal(t, k, onShelf(account, "x", "a", 1), "x")
		for _, generation := range []byte{0, 1} {
			old[4] = generation
			if _, err := restarted.Open(t.Context(), onShelf(account, "x", "a", 1), old); !fault.Is(err, fault.Undecryptable) {
				t.Errorf("generation %d: %v", generation, err)
			}
		}
		if err := restarted.EnsureAccount(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		if n := generations(t, db, account, seal.Vault); n != 2 { // the newest, and what is left of the first
			t.Errorf("%d keys", n)
		}
	})
}

// What a replica seals with the old key after the work looked done keeps that key, and is found.
func TestStragglersKeepTheirKey(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		makeShelves(t, db)
		k := storetest.Keeper(t, db, account)
		c := seal.NewCustodian(k, shelves)
		late := mustSeal(t, k, onShelf(account, "late", "a", 1), "late")
		for _, step := range []func() error{
			func() error { _, err := c.Begin(t.Context(), account); return err },
			func() error { return c.Work(t.Context(), account, false) },
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		update(t, db, func(tx *store.Tx) error {
			_, err := tx.Exec("INSERT INTO shelf (id, account, version, a) VALUES ('late', $1, 1, $2)", account, late)
			return err
		})
		if n, err := c.Destroy(t.Context(), account, 0); err != nil || n != 1 { // that of the secrets
			t.Fatalf("destroyed %d, %v", n, err)
		}
		verify(t, db, c, 1)
		if resumed, err := c.Begin(t.Context(), account); err != nil || !resumed {
			t.Errorf("the work is over although something is left: %v", err)
		}
		if err := c.Work(t.Context(), account, true); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Destroy(t.Context(), account, 0); err != nil || n != 1 {
			t.Errorf("destroyed %d, %v", n, err)
		}
		verify(t, db, c, 1)
	})
}

// A row that was altered is left as it is, and its key with it.
func TestRowsThatDoNotOpen(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	makeShelves(t, db)
	k := storetest.Keeper(t, db, account)
	fill(t, db, k, account, 10)
	update(t, db, func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE shelf SET version = 77 WHERE id = $1", account+"-00004")
		return err
	})
	c := seal.NewCustodian(k, shelves)
	if _, err := c.Begin(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	if err := c.Work(t.Context(), account, false); err != nil {
		t.Fatal(err)
	}
	r, err := c.Rotations(t.Context(), account)
	if err != nil || r[0].Failed != 2 || r[0].Finished.IsZero() { // a and b
		t.Errorf("%+v, %v", r, err)
	}
	if n, err := c.Destroy(t.Context(), account, 0); err != nil || n != 0 {
		t.Errorf("destroyed %d, %v", n, err)
	}
	update(t, db, func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE shelf SET version = 4 WHERE id = $1", account+"-00004")
		return err
	})
	verify(t, db, c, 10+6+10)
}

// A row that changes while it is sealed anew keeps the change.
func TestWhatChangesMeanwhileStays(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		makeShelves(t, db)
		k := storetest.Keeper(t, db, account)
		const rows = 2000
		fill(t, db, k, account, rows)
		c := seal.NewCustodian(k, shelves)
		if _, err := c.Begin(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		refreshed := make(chan map[string]int64)
		go func() { // as refreshes do: a new version with new tokens
			versions := map[string]int64{}
			for ctx.Err() == nil {
				id := fmt.Sprintf("%s-%05d", account, rand.IntN(rows))
				var next int64
				err := db.Update(t.Context(), func(tx *store.Tx) error {
					var version int64
					if err := tx.QueryRow("SELECT version FROM shelf WHERE id = $1", id).Scan(&version); err != nil {
						return err
					}
					next = version + 1
					sealed, err := k.Seal(t.Context(), onShelf(account, id, "a", next), []byte("refreshed"))
					if err != nil {
						return err
					}
					_, err = tx.Exec("UPDATE shelf SET version = $1, a = $2, b = NULL WHERE id = $3 AND version = $4", next, sealed, id, version)
					return err
				})
				if err != nil {
					t.Error(err)
					break
				}
				versions[id] = next
			}
			refreshed <- versions
		}()
		err := c.Work(t.Context(), account, false)
		stop()
		versions := <-refreshed
		if err != nil {
			t.Fatal(err)
		}
		for id, version := range versions {
			var found int64
			var a []byte
			if err := db.View(t.Context(), func(tx *store.Tx) error {
				return tx.QueryRow("SELECT version, a FROM shelf WHERE id = $1", id).Scan(&found, &a)
			}); err != nil {
				t.Fatal(err)
			}
			opened, err := k.Open(t.Context(), onShelf(account, id, "a", version), a)
			if found != version || err != nil || string(opened) != "refreshed" {
				t.Fatalf("%s: version %d, %q, %v; want version %d", id, found, opened, err, version)
			}
		}
		if got := heads(t, db, "shelf", account); got["0100000001"] != 0 {
			t.Errorf("left with the old key: %v", got)
		}
	})
}

// A process that is killed between its note and its new keys leaves a rotation
// that has none yet: whoever goes on with it makes them.
func TestARotationWithoutKeys(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		makeShelves(t, db)
		k := storetest.Keeper(t, db, account)
		fill(t, db, k, account, 10)
		update(t, db, func(tx *store.Tx) error {
			_, err := tx.Exec("INSERT INTO key_rotations (account, begun, total, done, failed, worked, finished) VALUES ($1, $2, 0, 0, 0, 0, 0)", account, store.Micros(tx.Now))
			return err
		})
		c := seal.NewCustodian(k, shelves)
		if resumed, err := c.Begin(t.Context(), account); err != nil || !resumed {
			t.Fatal(resumed, err)
		}
		if err := c.Work(t.Context(), account, false); err != nil {
			t.Fatal(err)
		}
		if got := heads(t, db, "shelf", account); got["0100000002"] != 10 {
			t.Errorf("%v", got)
		}
	})
}

func TestOneProcessWorks(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		_, wrapper := newFileKey(t)
		db := storetest.OpenWith(t, o)
		makeShelves(t, db)
		k := newKeeper(t, db, wrapper)
		if err := k.EnsureAccount(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		fill(t, db, k, account, 100)
		c := seal.NewCustodian(k, shelves)
		if _, err := c.Begin(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		update(t, db, func(tx *store.Tx) error {
			_, _, err := tx.Lease("reseal "+account, "somebody else", time.Minute)
			return err
		})
		if err := c.Work(t.Context(), account, false); !seal.Busy(err) {
			t.Errorf("worked beside another: %v", err)
		}
		if err := c.Work(t.Context(), account, true); err != nil {
			t.Errorf("whoever is alone: %v", err)
		}
	})
}

// The process that seals anew is killed at random points, and every value opens
// after each; whoever comes next finishes.
func TestKilledWhileSealingAnew(t *testing.T) {
	if path := os.Getenv("ONBEHALF_TEST_RESEAL"); path != "" {
		resealUntilKilled(t, path)
		return
	}
	t.Parallel()
	folder := t.TempDir()
	path := folder + "/onbehalf.db"
	db := storetest.OpenWith(t, store.Options{Path: path})
	makeShelves(t, db)
	wrapper, err := seal.FileKey(t.Context(), db, folder+"/key")
	if err != nil {
		t.Fatal(err)
	}
	k := newKeeper(t, db, wrapper)
	if err := k.EnsureAccount(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	fill(t, db, k, account, 3000)
	want := int64(3000 + 2000 + 3000)
	for range 10 {
		child := exec.Command(os.Args[0], "-test.run=^TestKilledWhileSealingAnew$")
		child.Env = append(os.Environ(), "ONBEHALF_TEST_RESEAL="+folder)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() && !strings.Contains(lines.Text(), "begun") {
		}
		time.Sleep(rand.N(120 * time.Millisecond)) // the point of the kill: what the test is about
		_ = child.Process.Kill()
		_ = child.Wait()
		fresh := newKeeper(t, db, wrapper)
		verify(t, db, seal.NewCustodian(fresh, shelves), want)
	}
	c := seal.NewCustodian(newKeeper(t, db, wrapper), shelves)
	if _, err := c.Begin(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	if err := c.Work(t.Context(), account, true); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Destroy(t.Context(), account, 0); err != nil {
		t.Fatal(err)
	}
	verify(t, db, c, want)
	if got := heads(t, db, "shelf", account); len(got) != 1 {
		t.Errorf("several keys at the end: %v", got)
	}
}

func resealUntilKilled(t *testing.T, folder string) {
	db := storetest.OpenWith(t, store.Options{Path: folder + "/onbehalf.db"})
	wrapper, err := seal.OpenFileKey(folder + "/key")
	if err != nil {
		t.Fatal(err)
	}
	c := seal.NewCustodian(newKeeper(t, db, wrapper), shelves)
	fmt.Println("begun")
	for {
		if _, err := c.Begin(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		if err := c.Work(t.Context(), account, true); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Destroy(t.Context(), account, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAVaultWhoseKeyIsGone(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		v := newVaults(t, o)
		makeShelves(t, v.db)
		fill(t, v.db, v.Keeper, account, 30)
		fill(t, v.db, v.Keeper, neighbour, 30)
		c := seal.NewCustodian(v.Keeper, shelves)
		if _, err := c.Reset(t.Context(), account); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "platform's own key") {
			t.Errorf("under the platform's key: %v", err)
		}
		if _, err := c.Move(t.Context(), account, kmsARN); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Reset(t.Context(), account); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "still exists") {
			t.Errorf("under a key that exists: %v", err)
		}
		v.kms.answer = respondDisabled
		if _, err := c.Reset(t.Context(), account); !fault.Is(err, fault.Unavailable) {
			t.Errorf("under a key that is disabled: %v", err)
		}
		verify(t, v.db, c, 2*(30+20+30))
		v.kms.answer = nil
		delete(v.kms.keys, kmsARN)
		chosen, err := c.Reset(t.Context(), account)
		if err != nil || chosen.ARN != "" {
			t.Fatalf("%+v, %v", chosen, err)
		}
		verify(t, v.db, c, 30+30+20+30) // the account's secrets, and all of the neighbour's
		if got := heads(t, v.db, "shelf", account); len(got) != 0 {
			t.Errorf("left in the vault: %v", got)
		}
		// A replica that had the lost key in memory stored one more value.
		update(t, v.db, func(tx *store.Tx) error {
			_, err := tx.Exec("INSERT INTO shelf (id, account, version, a) VALUES ('late', $1, 1, $2)", account, append([]byte{1, 0, 0, 0, 1}, make([]byte, 40)...))
			return err
		})
		if _, err := c.Destroy(t.Context(), "", 0); err != nil {
			t.Fatal(err)
		}
		restarted := seal.NewCustodian(v.start(t, v.db), shelves)
		verify(t, v.db, restarted, 30+30+20+30)
		wantOpen(t, v.Keeper, mustSeal(t, v.Keeper, grant, "a new life"), "a new life")
		if n := generations(t, v.db, account, seal.Vault); n != 1 {
			t.Errorf("%d keys", n)
		}
	})
}
