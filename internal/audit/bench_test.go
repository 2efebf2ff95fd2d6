package audit

import (
	"fmt"
	"testing"

	"github.com/onbehalf/onbehalf/internal/store"
)

// BenchmarkAppend is the price of a durable record; ns/op with many callers is
// the inverse of the throughput. BenchmarkCommit is its floor.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{4, 32, 128} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			l := open(b, onDisk(b), "bench")
			r := full()
			r.Detail = map[string]string{"grant": "4b6a4c1e7a3f4a0e", "provider": "google"}
			b.SetParallelism(callers / 4)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := l.Append(b.Context(), r); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkCommit is one row, one commit, one caller.
func BenchmarkCommit(b *testing.B) {
	db := onDisk(b)
	for b.Loop() {
		if err := db.Update(b.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec("INSERT INTO leases (name, holder, fence, expires) VALUES ('a', 'b', 1, 2) ON CONFLICT (name) DO UPDATE SET fence = leases.fence + 1")
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
}

func onDisk(b *testing.B) *store.DB {
	b.Helper()
	db, err := store.Open(b.Context(), store.Options{Path: b.TempDir() + "/onbehalf.db"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	return db
}
