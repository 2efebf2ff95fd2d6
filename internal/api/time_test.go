package api

import (
	"encoding/json"
	"testing"
	"time"
)

func TestTimesOnTheWire(t *testing.T) {
	t.Parallel()
	berlin := time.FixedZone("CET", 3600)
	for _, test := range []struct {
		time       time.Time
		epoch, iso string
	}{
		{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), `1767323045`, `"2026-01-02T03:04:05Z"`},
		{time.Date(2026, 1, 2, 4, 4, 5, 0, berlin), `1767323045`, `"2026-01-02T03:04:05Z"`},
		{time.Date(2026, 1, 2, 3, 4, 5, 120_000_000, time.UTC), `1767323045.12`, `"2026-01-02T03:04:05.12Z"`},
		{time.Date(2026, 1, 2, 3, 4, 5, 7_000_000, time.UTC), `1767323045.007`, `"2026-01-02T03:04:05.007Z"`},
		{time.Date(1969, 12, 31, 23, 59, 58, 500_000_000, time.UTC), `-1.5`, `"1969-12-31T23:59:58.5Z"`},
	} {
		if got := string(Epoch(test.time).AppendJSON(nil)); got != test.epoch {
			t.Errorf("%v is %s, want %s", test.time, got, test.epoch)
		}
		if got := string(ISO(test.time).AppendJSON(nil)); got != test.iso {
			t.Errorf("%v is %s, want %s", test.time, got, test.iso)
		}
		var epoch EpochTime
		var iso ISOTime
		if err := json.Unmarshal([]byte(test.epoch), &epoch); err != nil || !epoch.Equal(test.time) {
			t.Errorf("%s reads as %v, %v", test.epoch, epoch, err)
		}
		if err := json.Unmarshal([]byte(test.iso), &iso); err != nil || !iso.Equal(test.time) {
			t.Errorf("%s reads as %v, %v", test.iso, iso, err)
		}
	}
}

func TestTimesRefuse(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{`"2026-01-02"`, `true`, `1e30`, `""`} {
		var epoch EpochTime
		if err := json.Unmarshal([]byte(bad), &epoch); err == nil {
			t.Errorf("epoch takes %s", bad)
		}
		var iso ISOTime
		if err := json.Unmarshal([]byte(bad), &iso); err == nil {
			t.Errorf("ISO takes %s", bad)
		}
	}
}
