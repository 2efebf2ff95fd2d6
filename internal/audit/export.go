package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
)

// An export is lines of JSON: one that says what it is, one for each chain when
// its first record comes, one for each record, and one at the end with the
// SHA-256 of all lines before, signed. A record's line has its MAC; the first of
// each block has the block as it is stored, so that the MACs can be computed
// again by who has the installation's key. Who has not checks the signature.

const exportFormat = "onbehalf-audit-1"

type exportHead struct {
	Format string    `json:"format"`
	Made   time.Time `json:"made"`
	Until  time.Time `json:"until,omitzero"` // records committed before; absent where the export is of all
}

type exportChain struct {
	Number   int64  `json:"number"`
	Writer   string `json:"writer"`
	Sequence int64  `json:"sequence"`        // of the last record that had been pruned before, 0 for none
	MAC      string `json:"mac,omitempty"`   // that record's
	Proof    string `json:"proof,omitempty"` // that it was
}

type exportBlock struct {
	ID      int64  `json:"id"`
	Records int64  `json:"records"`
	Body    []byte `json:"body,omitempty"`
	Text    string `json:"text,omitempty"`
}

// ExportedRecord is a record in an export.
type ExportedRecord struct {
	Writer   string          `json:"writer"`
	Sequence int64           `json:"sequence"`
	MAC      string          `json:"mac"`
	Record   json.RawMessage `json:"record"`
	Block    *exportBlock    `json:"block,omitempty"`
}

// ExportEnd says how much an export holds, and seals it.
type ExportEnd struct {
	Records   int64  `json:"records"`
	Heads     []Head `json:"heads"` // of each chain, as far as the export goes
	SHA256    string `json:"sha256"`
	Signature string `json:"signature"` // Ed25519, of "onbehalf-audit-1 " and the hash in hex
	PublicKey string `json:"publicKey"`
}

type exportLine struct {
	Export *exportHead  `json:"export,omitempty"`
	Chain  *exportChain `json:"chain,omitempty"`
	End    *ExportEnd   `json:"end,omitempty"`
	*ExportedRecord
}

// Export proves the records and writes them to out, oldest first, as it goes.
// With a time, only what was committed before; heads are as in Verify.
func (r *Reader) Export(ctx context.Context, out io.Writer, until time.Time, heads ...Head) (ExportEnd, error) {
	e := &exporter{reader: r, out: bufio.NewWriterSize(out, 1<<16), sum: sha256.New(), known: make(map[int64]*walk)}
	v := newVerification(r, heads)
	v.tell = e.block
	if err := e.line(exportLine{Export: &exportHead{exportFormat, time.Now().UTC().Truncate(time.Second), until}}); err != nil {
		return ExportEnd{}, err
	}
	last := int64(math.MaxInt64)
	if !until.IsZero() {
		last = blockID(until) - 1
	}
	if _, err := v.run(ctx, last); err != nil {
		return ExportEnd{}, asFault(err)
	}
	return e.finish(ctx)
}

type exporter struct {
	reader  *Reader
	out     *bufio.Writer
	sum     hash.Hash
	known   map[int64]*walk // chains that have a line
	order   []*walk
	records int64
	buffer  bytes.Buffer
}

func (e *exporter) line(l exportLine) error {
	e.buffer.Reset()
	encoder := json.NewEncoder(&e.buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(l); err != nil {
		return err
	}
	e.sum.Write(e.buffer.Bytes())
	_, err := e.out.Write(e.buffer.Bytes())
	return err
}

// block writes a block that was proven: before is the link that it follows.
func (e *exporter) block(w *walk, keyed *chain, before link, b *block, records []Record) error {
	if e.known[b.number] == nil {
		e.known[b.number] = w
		e.order = append(e.order, w)
		c := &exportChain{Number: b.number, Writer: w.row.writer, Sequence: w.row.base.sequence}
		if c.Sequence > 0 {
			c.MAC, c.Proof = w.row.base.head("").MAC, hex.EncodeToString(w.row.proof)
		}
		if err := e.line(exportLine{Chain: c}); err != nil {
			return err
		}
	}
	stored := &exportBlock{ID: b.id, Records: b.records, Body: b.body}
	if b.text != nil {
		stored.Text = *b.text
	}
	n := 0
	return links(keyed, before, b, func(end link) error {
		line := exportLine{ExportedRecord: &ExportedRecord{Writer: w.row.writer, Sequence: end.sequence, MAC: end.head("").MAC, Record: json.RawMessage(records[n].text()), Block: stored}}
		stored = nil
		n++
		e.records++
		return e.line(line)
	})
}

// links computes the link of each record of a block.
func links(keyed *chain, before link, b *block, do func(link) error) error {
	if b.text != nil {
		return do(keyed.nextText(before, *b.text))
	}
	end := keyed.enter(before, b.id, int(b.records))
	return b.entries(func(entry, _ []byte) error {
		end = keyed.next(end, entry)
		return do(end)
	})
}

func (e *exporter) finish(ctx context.Context) (ExportEnd, error) {
	key, err := e.reader.signer(ctx)
	if err != nil {
		return ExportEnd{}, err
	}
	end := ExportEnd{Records: e.records, SHA256: hex.EncodeToString(e.sum.Sum(nil)), PublicKey: base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))}
	end.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(key, signed(end.SHA256)))
	for _, w := range e.order {
		end.Heads = append(end.Heads, w.end.head(w.row.writer))
	}
	if err := e.line(exportLine{End: &end}); err != nil {
		return ExportEnd{}, err
	}
	return end, e.out.Flush()
}

func signed(sum string) []byte { return []byte(exportFormat + " " + sum) }

// signer signs exports; it is derived, so that it is in no database.
func (r *Reader) signer(ctx context.Context) (ed25519.PrivateKey, error) {
	seed, err := r.keeper.Derive(ctx, seal.Platform, seal.AuditMAC, "audit export signature")
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	return ed25519.NewKeyFromSeed(seed), nil
}

// PublicKey is what exports of this installation are signed with, in base64.
func (r *Reader) PublicKey(ctx context.Context) (string, error) {
	key, err := r.signer(ctx)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey)), nil
}

// badExport is a complaint about an export, with the line.
func badExport(line int, why string) error {
	return fault.New(fault.Invalid, "Line %d of the export: %s.", line, why)
}

// CheckExport proves an export. With a Reader, whose installation made it, every
// MAC is computed again; a nil Reader checks the signature alone, for which the
// installation's public key must have come by another way.
func CheckExport(ctx context.Context, r *Reader, in io.Reader, publicKey string) (ExportEnd, error) {
	c := &exportCheck{reader: r, sum: sha256.New(), chains: make(map[string]*exportWalk)}
	if r != nil {
		ours, err := r.PublicKey(ctx)
		if err != nil {
			return ExportEnd{}, err
		}
		if publicKey == "" {
			publicKey = ours
		}
	}
	lines := bufio.NewReaderSize(in, 1<<16)
	for {
		text, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return ExportEnd{}, err
		}
		c.number++
		if c.end != nil {
			return ExportEnd{}, badExport(c.number, "something follows the end")
		}
		if err := c.line(ctx, text); err != nil {
			return ExportEnd{}, err
		}
	}
	if c.end == nil {
		return ExportEnd{}, badExport(c.number+1, "the end is missing: the file was cut off")
	}
	return *c.end, c.signature(publicKey)
}

type exportCheck struct {
	reader  *Reader
	sum     hash.Hash
	hashed  string // of all lines before the end
	number  int    // of the line
	chains  map[string]*exportWalk
	current *exportWalk // whose block is being read
	records int64
	end     *ExportEnd
}

// exportWalk is a chain in an export.
type exportWalk struct {
	number        int64
	end           link
	blocks, texts *chain
	due           []Record // of the block under way, those whose lines are to come
	links         []link
}

func (c *exportCheck) line(ctx context.Context, text []byte) error {
	var l exportLine
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&l); err != nil {
		return badExport(c.number, "it is not a line of an export")
	}
	if c.current != nil && len(c.current.due) > 0 && l.ExportedRecord == nil {
		return badExport(c.number, "a record is missing")
	}
	if l.End != nil {
		c.hashed = hex.EncodeToString(c.sum.Sum(nil))
		c.end = l.End
		if l.End.Records != c.records {
			return badExport(c.number, fmt.Sprintf("it speaks of %d records, and there are %d", l.End.Records, c.records))
		}
		return nil
	}
	c.sum.Write(text)
	switch {
	case c.number == 1:
		if l.Export == nil || l.Export.Format != exportFormat {
			return badExport(1, "it is not an export of an audit log, or one of a newer version")
		}
		return nil
	case l.Chain != nil:
		return c.chain(ctx, l.Chain)
	case l.ExportedRecord != nil:
		return c.record(ctx, l.ExportedRecord)
	}
	return badExport(c.number, "it says nothing")
}

func (c *exportCheck) chain(ctx context.Context, said *exportChain) error {
	if c.chains[said.Writer] != nil {
		return badExport(c.number, "the chain "+said.Writer+" begins twice")
	}
	w := &exportWalk{number: said.Number, end: link{sequence: said.Sequence}}
	mac, _ := hex.DecodeString(said.MAC)
	copy(w.end.mac[:], mac)
	if c.reader != nil {
		var errBlocks, errTexts error
		w.blocks, errBlocks = c.reader.key(ctx, chainKey(said.Writer))
		w.texts, errTexts = c.reader.key(ctx, textKey(said.Writer))
		if err := errors.Join(errBlocks, errTexts); err != nil {
			return err
		}
		if said.Sequence != 0 || said.Proof != "" {
			if hex.EncodeToString(w.blocks.prune(said.Number, w.end)) != said.Proof {
				return badExport(c.number, "the chain is said to have been pruned, and nobody did that")
			}
		}
	}
	c.chains[said.Writer] = w
	return nil
}

func (c *exportCheck) record(ctx context.Context, said *ExportedRecord) error {
	w := c.chains[said.Writer]
	if w == nil {
		return badExport(c.number, "nobody knows whose record it is")
	}
	if c.current != nil && len(c.current.due) > 0 && c.current != w {
		return badExport(c.number, "a record is missing")
	}
	c.current = w
	if said.Block != nil {
		if err := c.block(w, said); err != nil {
			return err
		}
	}
	if len(w.due) == 0 {
		return badExport(c.number, "it belongs to no block")
	}
	record, end := w.due[0], w.links[0]
	w.due, w.links = w.due[1:], w.links[1:]
	if said.Sequence != end.sequence || c.reader != nil && said.MAC != end.head("").MAC || record.text() != string(said.Record) {
		return badExport(c.number, fmt.Sprintf("it is not record %d of %s as it was kept", end.sequence, said.Writer))
	}
	w.end = end
	c.records++
	return nil
}

func (c *exportCheck) block(w *exportWalk, said *ExportedRecord) error {
	if len(w.due) > 0 {
		return badExport(c.number, "a record is missing")
	}
	b := &block{id: said.Block.ID, number: w.number, sequence: said.Sequence, records: said.Block.Records, body: said.Block.Body}
	keyed := w.blocks
	if said.Block.Text != "" {
		b.text, keyed = &said.Block.Text, w.texts
	}
	records, err := b.decode()
	if err != nil {
		return badExport(c.number, "its block cannot be read")
	}
	if keyed == nil {
		for n := range records {
			w.links = append(w.links, link{sequence: said.Sequence + int64(n)})
		}
	} else {
		if said.Sequence != w.end.sequence+1 {
			return badExport(c.number, fmt.Sprintf("record %d of %s is missing", w.end.sequence+1, said.Writer))
		}
		if err := links(keyed, w.end, b, func(end link) error { w.links = append(w.links, end); return nil }); err != nil {
			return badExport(c.number, "its block cannot be read")
		}
	}
	w.due = records
	return nil
}

func (c *exportCheck) signature(publicKey string) error {
	key, err := base64.StdEncoding.DecodeString(publicKey)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return fault.New(fault.Invalid, "The public key is not one: it is 32 bytes in base64, as audit verify prints it.")
	}
	signature, _ := base64.StdEncoding.DecodeString(c.end.Signature)
	if c.end.SHA256 != c.hashed || !ed25519.Verify(key, signed(c.hashed), signature) {
		return badExport(c.number, "the signature does not hold: a line was changed, or another installation made the export")
	}
	return nil
}
