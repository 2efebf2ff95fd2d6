package wire

import (
	"encoding/base64"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
)

// paged is a request or a response with a nextToken.
type paged interface{ PageToken() **string }

// pages binds a page token to the account, the operation and the path that it
// came from: a cursor cannot be carried over to another list.
func (c *call) pages() seal.Context {
	return seal.Context{Account: c.caller.Account, Purpose: seal.Pages, Kind: c.op.Name, Row: strings.TrimSuffix(c.r.URL.EscapedPath(), "/")}
}

// openPageToken turns the caller's nextToken into the cursor that the room made.
func (c *call) openPageToken(input any) error {
	list, is := input.(paged)
	if !is || *list.PageToken() == nil {
		return nil
	}
	token := list.PageToken()
	sealed, err := base64.RawURLEncoding.DecodeString(**token)
	if err != nil {
		return badPageToken(err)
	}
	cursor, err := c.keeper.Open(c.r.Context(), c.pages(), sealed)
	if err != nil {
		return badPageToken(err)
	}
	text := string(cursor)
	*token = &text
	return nil
}

func badPageToken(cause error) error {
	return fault.InvalidField("nextToken", "The nextToken is not one that this list gave out. Start again without it.").Because(cause)
}

// sealPageToken hides the room's cursor from the caller.
func (c *call) sealPageToken(output any) error {
	list, is := output.(paged)
	if !is || *list.PageToken() == nil {
		return nil
	}
	token := list.PageToken()
	sealed, err := c.keeper.Seal(c.r.Context(), c.pages(), []byte(**token))
	if err != nil {
		return fault.Wrap(err, "sealing a page token")
	}
	text := base64.RawURLEncoding.EncodeToString(sealed)
	*token = &text
	return nil
}
