package audit

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"time"
)

// Head is the end of one writer's chain. Who keeps a head somewhere else (the
// log, a colleague's mail) can later prove that nothing before it was cut off.
type Head struct {
	Writer   string
	Sequence int64  // of the chain's last record; 0 for a chain without one
	MAC      string // that record's, in hex
}

// link is the end of a chain while it is written or proven. The zero link is
// what the first record refers to.
type link struct {
	sequence int64
	mac      [sha256.Size]byte
}

func (l link) head(writer string) Head {
	return Head{Writer: writer, Sequence: l.sequence, MAC: hex.EncodeToString(l.mac[:])}
}

// chain computes MACs under one writer's key. It is not safe for concurrent use.
type chain struct {
	keyed hash.Hash
	input []byte // reused
}

func newChain(key []byte) *chain { return &chain{keyed: hmac.New(sha256.New, key)} }

// next is the link of a record: MAC(previous MAC ‖ sequence ‖ text). The writer
// is in the key, so a record cannot move to another chain.
func (c *chain) next(previous link, text string) link {
	after := link{sequence: previous.sequence + 1}
	c.input = append(c.input[:0], previous.mac[:]...)
	c.input = binary.BigEndian.AppendUint64(c.input, uint64(after.sequence))
	c.input = append(c.input, text...)
	c.keyed.Reset()
	c.keyed.Write(c.input)
	c.keyed.Sum(after.mac[:0])
	return after
}

// chainKey is the Derive info of a writer's key.
func chainKey(writer string) string { return "audit chain " + writer }

// newWriter names a process. The time comes first so that writers sort by their start.
func newWriter() string {
	return time.Now().UTC().Format("20060102T150405.000Z") + "-" + rand.Text()[:10]
}
