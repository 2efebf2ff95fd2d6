package audit

import "github.com/onbehalf/onbehalf/internal/seal"

// Sealed are the room's columns of bytes. Records are authenticated, not sealed.
var Sealed = []seal.Table{
	{Name: "audit_chains", Clear: map[string]string{"mac": "a record's MAC", "proof": "a prune's MAC"}},
	{Name: "audit_blocks", Clear: map[string]string{"mac": "a record's MAC", "body": "records, without secrets"}},
}
