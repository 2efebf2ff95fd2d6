package runtime

import "github.com/onbehalf/onbehalf/internal/seal"

// Sealed are the room's sealed columns, as sealContext binds them.
var Sealed = []seal.Table{
	{Name: "agent_runtime_versions", Purpose: seal.Secrets, Row: "runtime_id", Version: "version", Columns: []seal.Column{{Name: "settings", Kind: "agent-runtime"}}},
	{Name: "agent_code_parts", Clear: map[string]string{"content": "programs, as a registry keeps them"}},
	{Name: "agent_runtime_client_tokens", Clear: map[string]string{"request": "keyed MAC over a request"}},
}
