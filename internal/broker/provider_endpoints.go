package broker

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
)

// privateEndpoints are AWS's ways into networks of its own. They are stored and
// echoed, so that a program that manages providers finds what it wrote; here an
// operator says with --egress-allow which private addresses may be reached.
type privateEndpoints struct {
	Endpoint  *api.PrivateEndpoint          `json:"privateEndpoint,omitempty"`
	Overrides []api.PrivateEndpointOverride `json:"privateEndpointOverrides"`
}

// givenEndpoints are those of a create or an update; nil where there are none.
func givenEndpoints(in *api.CustomOauth2ProviderConfigInput) *privateEndpoints {
	if in.PrivateEndpoint == nil && in.PrivateEndpointOverrides == nil {
		return nil
	}
	return &privateEndpoints{in.PrivateEndpoint, in.PrivateEndpointOverrides}
}

// tell says in the log what somebody may be waiting for in vain.
func (e *privateEndpoints) tell(ctx context.Context, providerARN string) {
	if e != nil {
		slog.WarnContext(ctx, "the private endpoints of a credential provider are stored and have no effect: --egress-allow lets this server reach private addresses", "provider", providerARN)
	}
}

func encodeEndpoints(e *privateEndpoints) (string, error) {
	if e == nil {
		return "", nil
	}
	encoded, err := json.Marshal(e)
	return string(encoded), fault.Wrap(err, "encoding private endpoints")
}

func decodeEndpoints(stored string) (*privateEndpoints, error) {
	if stored == "" {
		return nil, nil
	}
	var e privateEndpoints
	err := json.Unmarshal([]byte(stored), &e)
	return &e, fault.Wrap(err, "decoding a credential provider")
}
