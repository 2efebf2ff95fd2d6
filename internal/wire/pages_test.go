package wire

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// FuzzPageToken: no text that a list did not give out becomes a cursor, here or
// in another list, account or path, and none is worse than a ValidationException.
func FuzzPageToken(f *testing.F) {
	h := &handler{keeper: storetest.Keeper(f, storetest.Open(f), account)}
	list := func(op *api.Info, account, path string) *call {
		return &call{handler: h, op: op, r: httptest.NewRequest(http.MethodPost, path, nil), caller: principal.Caller{Account: account}}
	}
	const path = "/identities/ListWorkloadIdentities"
	own := list(api.ListWorkloadIdentities.Info, account, path)
	cursor := "the-last-name"
	given := &api.ListWorkloadIdentitiesResponse{NextToken: &cursor}
	if err := own.sealPageToken(given); err != nil {
		f.Fatal(err)
	}
	good := *given.NextToken
	sealed, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(good + "AA")
	f.Add("")
	f.Add("====")
	f.Add(base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0}, 64)))
	f.Fuzz(func(t *testing.T, token string) {
		for name, c := range map[string]*call{
			"its own list":    own,
			"another list":    list(api.ListOauth2CredentialProviders.Info, account, path),
			"another path":    list(api.ListWorkloadIdentities.Info, account, path+"/x"),
			"another account": list(api.ListWorkloadIdentities.Info, "999999999999", path),
		} {
			text := token
			request := &api.ListWorkloadIdentitiesRequest{NextToken: &text}
			err := c.openPageToken(request)
			if err != nil {
				if !fault.Is(err, fault.Invalid) {
					t.Fatalf("%s: %v", name, err)
				}
				continue
			}
			// Base64 has a few spellings of the same bytes; there are no others.
			if raw, _ := base64.RawURLEncoding.DecodeString(token); c != own || !bytes.Equal(raw, sealed) || *request.NextToken != cursor {
				t.Fatalf("%s: %q opens as %q", name, token, *request.NextToken)
			}
		}
	})
}
