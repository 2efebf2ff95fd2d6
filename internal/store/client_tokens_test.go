package store_test

import (
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// A token is one account's and one operation's, tells requests apart, and gives
// its result again for a day. An act without an owner is remembered, too.
func TestClientTokens(t *testing.T) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
		o.Now = func() time.Time { return now }
		db := storetest.OpenWith(t, o)
		prepare(t, db)
		update(t, db, "INSERT INTO things (id, n) VALUES ('thing', 1)")
		update(t, db, `CREATE TABLE tokens (account TEXT NOT NULL, operation TEXT NOT NULL, token TEXT NOT NULL, request `+map[string]string{"sqlite": "BLOB", "postgres": "BYTEA"}[db.Engine()]+` NOT NULL,
			thing TEXT REFERENCES things (id), made TEXT NOT NULL, created BIGINT NOT NULL, PRIMARY KEY (account, operation, token))`)
		tokens := store.NewClientTokens("tokens", "thing", "made")
		earlier := func(c *store.Claim) (owner, result string, found bool, err error) {
			_ = db.View(t.Context(), func(tx *store.Tx) error {
				owner, result, found, err = c.Earlier(tx)
				return nil
			})
			return owner, result, found, err
		}
		keep := func(c *store.Claim, owner, result string) {
			t.Helper()
			if err := db.Update(t.Context(), func(tx *store.Tx) error { return c.Keep(tx, owner, result) }); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(c *store.Claim, wantOwner, wantResult string, want bool) {
			t.Helper()
			if owner, result, found, err := earlier(c); owner != wantOwner || result != wantResult || found != want || err != nil {
				t.Errorf("%q, %q, %v, %v", owner, result, found, err)
			}
		}

		made, deleted := tokens.Claim("1", "Create", "token", []byte("request")), tokens.Claim("1", "Delete", "token", []byte("request"))
		expect(made, "", "", false)
		keep(made, "thing", "one")
		keep(deleted, "", "two")
		expect(made, "thing", "one", true)
		expect(deleted, "", "two", true)
		expect(tokens.Claim("2", "Create", "token", []byte("request")), "", "", false)
		expect(tokens.Claim("1", "Create", "another", []byte("request")), "", "", false)
		if _, _, found, err := earlier(tokens.Claim("1", "Create", "token", []byte("another"))); found || !fault.Is(err, fault.Invalid) || fault.Of(err).Reason != fault.ReasonIdempotentMismatch {
			t.Errorf("another request: %v, %v", found, err)
		}

		now = now.Add(24 * time.Hour)
		expect(made, "thing", "one", true)
		now = now.Add(time.Second)
		expect(made, "", "", false)
		keep(made, "thing", "three") // in the place of the old one
		expect(made, "thing", "three", true)
		expect(deleted, "", "", false)

		var none *store.Claim
		keep(none, "thing", "four")
		expect(none, "", "", false)
	})
}
