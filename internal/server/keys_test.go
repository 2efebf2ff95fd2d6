package server

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// A column of bytes that no room declares could hold a secret that re-sealing
// never finds: it would be lost with the key that sealed it.
func TestEveryColumnOfBytesIsDeclared(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		declared := map[string]int{}
		for _, table := range sealedTables() {
			for _, column := range table.Columns {
				declared[table.Name+"."+column.Name]++
			}
			for column, what := range table.Clear {
				if what == "" {
					t.Errorf("%s.%s is not sealed: say what is in it", table.Name, column)
				}
				declared[table.Name+"."+column]++
			}
		}
		var tables []store.TableInfo
		if err := db.View(t.Context(), func(tx *store.Tx) (err error) { tables, err = tx.Tables(); return err }); err != nil {
			t.Fatal(err)
		}
		for _, table := range tables {
			for _, column := range table.Columns {
				name := table.Name + "." + column.Name
				if column.Type != "BYTES" {
					continue
				}
				if declared[name] != 1 {
					t.Errorf("%s is declared %d times: declare it in sealed.go of its room, as sealed or with what else is in it", name, declared[name])
				}
				delete(declared, name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(declared)) {
			t.Errorf("%s is declared and is no column of bytes", name)
		}
	})
}

func TestSettingsOfKeys(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555"
	for name, test := range map[string]struct {
		config Config
		wanted string // in the complaint; empty: none
	}{
		"nothing":           {Config{}, ""},
		"a file":            {Config{KeyFile: "/etc/onbehalf/key"}, ""},
		"a server":          {Config{KeyWrapper: "transit:https://bao.example.com#onbehalf", KMSKeys: []string{arn + "=awskms:" + arn, arn[:len(arn)-1] + "6=gone"}}, ""},
		"both":              {Config{KeyFile: "/k", KeyWrapper: "file:/k"}, "--key-file and --key-wrapper both"},
		"no kind":           {Config{KeyWrapper: "/etc/onbehalf/key"}, "--key-wrapper"},
		"gone":              {Config{KeyWrapper: "gone"}, "gone is for --kms-key"},
		"no ARN":            {Config{KMSKeys: []string{"file:/k"}}, "does not begin with the ARN"},
		"no wrapper":        {Config{KMSKeys: []string{arn}}, "--kms-key " + arn},
		"an alias":          {Config{KMSKeys: []string{"arn:aws:kms:eu-central-1:111122223333:alias/x=file:/k"}}, "does not begin with the ARN"},
		"twice":             {Config{KMSKeys: []string{arn + "=file:/k", arn + "=file:/l"}}, "twice"},
		"a token in a flag": {Config{KeyWrapper: "transit:https://bao.example.com#onbehalf,token=hvs.x"}, "unknown"},
	} {
		err := test.config.WithDefaults().Check()
		if got := fmt.Sprint(err); (test.wanted == "") != (err == nil) || test.wanted != "" && !strings.Contains(got, test.wanted) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
