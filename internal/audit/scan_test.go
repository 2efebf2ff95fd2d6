package audit

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkScan is a list that finds nothing in 50,000 records: ns/record is what a search of all costs.
func BenchmarkScan(b *testing.B) {
	for _, size := range []int{1, 16} {
		b.Run(fmt.Sprintf("block=%d", size), func(b *testing.B) {
			l := open(b, onDisk(b), "bench")
			w := committer(l)
			w.now = func() time.Time { return time.Now().Add(time.Hour) }
			const records = 50_000
			for n := 0; n < records; n += size {
				if err := w.write(together(b, n, size)); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if found, _, err := l.List(b.Context(), Query{Account: account, User: "id:nobody"}); err != nil || len(found) != 0 {
					b.Fatal(found, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
		})
	}
}
