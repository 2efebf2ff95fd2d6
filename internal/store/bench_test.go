package store_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// benchmarkRows is a table of 10,000 rows with a sealed value of 1.2 KB each: what
// a server with a few thousand users looks like.
const benchmarkRows = 10_000

func fill(b *testing.B) *store.DB {
	b.Helper()
	db := storetest.Open(b)
	err := db.Update(b.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(`CREATE TABLE benched (id TEXT PRIMARY KEY, account TEXT NOT NULL, name TEXT NOT NULL,
			sealed ` + map[string]string{"sqlite": "BLOB", "postgres": "BYTEA"}[db.Engine()] + ` NOT NULL, expires BIGINT NOT NULL, UNIQUE (account, name))`); err != nil {
			return err
		}
		for i := range benchmarkRows {
			if _, err := tx.Exec("INSERT INTO benched (id, account, name, sealed, expires) VALUES ($1, $2, $3, $4, $5)",
				id(i), "000000000000", fmt.Sprint("name-", i), make([]byte, 1200), i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return db
}

func id(i int) string { return fmt.Sprintf("%08x-row", uint32(i)*2654435761) }

func readOne(tx *store.Tx, i int) error {
	var name string
	var sealed []byte
	var expires int64
	return tx.QueryRow("SELECT name, sealed, expires FROM benched WHERE account = $1 AND id = $2", "000000000000", id(i%benchmarkRows)).
		Scan(&name, &sealed, &expires)
}

// BenchmarkView is a transaction of one and of three small reads, as the hot path makes.
func BenchmarkView(b *testing.B) {
	for _, reads := range []int{0, 1, 3} {
		b.Run(fmt.Sprint("reads=", reads), func(b *testing.B) {
			db := fill(b)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			var next atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := int(next.Add(1))
					err := db.View(ctx, func(tx *store.Tx) error {
						for n := range reads {
							if err := readOne(tx, i+n); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkViewWhileWriting is BenchmarkView of three reads beside one writer
// that commits all the time, as the audit log does.
func BenchmarkViewWhileWriting(b *testing.B) {
	db := fill(b)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan int)
	go func() {
		n := 0
		for ctx.Err() == nil {
			_ = db.Update(ctx, func(tx *store.Tx) error {
				_, err := tx.Exec("UPDATE benched SET expires = expires + 1 WHERE id = $1", id(n%benchmarkRows))
				return err
			})
			n++
		}
		done <- n
	}()
	var next atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := int(next.Add(1))
			err := db.View(b.Context(), func(tx *store.Tx) error {
				for n := range 3 {
					if err := readOne(tx, i+n); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Error(err)
			}
		}
	})
	b.StopTimer()
	cancel()
	b.ReportMetric(float64(<-done)/b.Elapsed().Seconds(), "commits/s")
}

// BenchmarkUpdate is one small durable commit; rows=32 is what a group commit of
// 32 records costs.
func BenchmarkUpdate(b *testing.B) {
	for _, rows := range []int{1, 32} {
		b.Run(fmt.Sprint("rows=", rows), func(b *testing.B) {
			db := fill(b)
			b.ReportAllocs()
			next := benchmarkRows
			for b.Loop() {
				err := db.Update(b.Context(), func(tx *store.Tx) error {
					for i := range rows {
						if _, err := tx.Exec("INSERT INTO benched (id, account, name, sealed, expires) VALUES ($1, $2, $3, $4, $5)",
							id(next+i), "000000000000", fmt.Sprint("name-", next+i), make([]byte, 400), next); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
				next += rows
			}
		})
	}
}

// BenchmarkOpen is the store's part of a server's start on existing data.
func BenchmarkOpen(b *testing.B) {
	path := storetest.SQLite(b)
	for b.Loop() {
		db, err := store.Open(b.Context(), store.Options{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		if err := db.Ping(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
