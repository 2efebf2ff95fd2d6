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
	Writer   string `json:"writer"`
	Sequence int64  `json:"sequence"` // of the chain's last record; 0 for a chain without one
	MAC      string `json:"mac"`      // that record's, in hex
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

// enter is the state before a block's first record: MAC('B' ‖ MAC before ‖ first
// sequence ‖ id ‖ number of records). It binds the block to its place in time
// and in the chain, which the records' own MACs do not name. The writer is in
// the key, so that nothing can move to another chain.
func (c *chain) enter(before link, id int64, records int) link {
	c.input = append(append(c.input[:0], 'B'), before.mac[:]...)
	c.input = binary.BigEndian.AppendUint64(c.input, uint64(before.sequence+1))
	c.input = binary.BigEndian.AppendUint64(c.input, uint64(id))
	c.input = binary.BigEndian.AppendUint64(c.input, uint64(records))
	return c.sum(before.sequence)
}

// next is the link of a record: MAC('R' ‖ MAC before ‖ sequence ‖ entry).
func (c *chain) next(before link, entry []byte) link {
	c.input = append(append(c.input[:0], 'R'), before.mac[:]...)
	c.input = binary.BigEndian.AppendUint64(c.input, uint64(before.sequence+1))
	c.input = append(c.input, entry...)
	return c.sum(before.sequence + 1)
}

// nextText is the link of a record of an earlier version, which had another key: MAC(MAC before ‖ sequence ‖ text).
func (c *chain) nextText(before link, text string) link {
	c.input = append(c.input[:0], before.mac[:]...)
	c.input = binary.BigEndian.AppendUint64(c.input, uint64(before.sequence+1))
	c.input = append(c.input, text...)
	return c.sum(before.sequence + 1)
}

// prune is the proof that a chain was pruned up to a record: MAC('P' ‖ number ‖ sequence ‖ MAC).
func (c *chain) prune(number int64, base link) []byte {
	c.input = binary.BigEndian.AppendUint64(append(c.input[:0], 'P'), uint64(number))
	c.input = binary.BigEndian.AppendUint64(c.input, uint64(base.sequence))
	c.input = append(c.input, base.mac[:]...)
	after := c.sum(base.sequence)
	return after.mac[:]
}

func (c *chain) sum(sequence int64) link {
	after := link{sequence: sequence}
	c.keyed.Reset()
	c.keyed.Write(c.input)
	c.keyed.Sum(after.mac[:0])
	return after
}

// Derive infos of a writer's key: of blocks, and of an earlier version's rows.
func chainKey(writer string) string { return "audit blocks " + writer }
func textKey(writer string) string  { return "audit chain " + writer }

// newWriter names a process. The time comes first so that writers sort by their start.
func newWriter() string {
	return time.Now().UTC().Format("20060102T150405.000Z") + "-" + rand.Text()[:10]
}
