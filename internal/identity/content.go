package identity

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/onbehalf/onbehalf/internal/principal"
)

// content is what a workload access token says, before it is sealed. The
// account is not in it: the token is sealed with the account's own key.
//
// A hand-written binary form, because every call of the data plane opens one:
//
//	version byte | issued, expires (8 bytes each) | workload id | issuer |
//	subject | user id | authorizer | inbound JWT | stored JWT's id
//
// where each text is a uvarint of its length, then its bytes.
type content struct {
	issued, expires time.Time
	workloadID      string
	user            principal.User
	authorizer      string
	userToken       string // the inbound JWT, where it is small
	storedToken     string // row of workload_inbound_tokens, where it is not
}

const contentVersion = 1

var errContent = errors.New("malformed workload access token")

func (c *content) texts() [7]*string {
	return [...]*string{&c.workloadID, &c.user.Issuer, &c.user.Subject, &c.user.ID, &c.authorizer, &c.userToken, &c.storedToken}
}

func (c *content) append(to []byte) []byte {
	to = append(to, contentVersion)
	to = binary.BigEndian.AppendUint64(to, uint64(c.issued.UnixMicro()))
	to = binary.BigEndian.AppendUint64(to, uint64(c.expires.UnixMicro()))
	for _, text := range c.texts() {
		to = binary.AppendUvarint(to, uint64(len(*text)))
		to = append(to, *text...)
	}
	return to
}

func parseContent(from []byte) (*content, error) {
	if len(from) < 17 || from[0] != contentVersion {
		return nil, errContent
	}
	c := &content{
		issued:  time.UnixMicro(int64(binary.BigEndian.Uint64(from[1:9]))).UTC(),
		expires: time.UnixMicro(int64(binary.BigEndian.Uint64(from[9:17]))).UTC(),
	}
	from = from[17:]
	for _, text := range c.texts() {
		length, size := binary.Uvarint(from)
		if size <= 0 || length > uint64(len(from)-size) {
			return nil, errContent
		}
		*text = string(from[size : size+int(length)])
		from = from[size+int(length):]
	}
	if len(from) != 0 {
		return nil, errContent
	}
	return c, nil
}
