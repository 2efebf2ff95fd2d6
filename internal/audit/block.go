package audit

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/onbehalf/onbehalf/internal/store"
)

// A block's body is a row of entries, each with its length in front and the
// beginning of its MAC behind, by which a proof names the one that was altered:
//
//	length ‖ entry ‖ 8 bytes of MAC ‖ length ‖ …
//	entry: what is there ‖ time since the entry before ‖ the members that differ from it
//	text:  how many bytes are those of the same member before ‖ how many follow ‖ these
//
// Numbers are varints. The first entry is compared with an empty record, so that
// each block is read on its own. This layout never changes: a later one gets
// another column or a mark of its own, because a proof authenticates these bytes.
const tagSize = 8

// Bits of an entry's first number: frequent ones are low, so that it is one byte
// for a record that is like the one before it.
const (
	bitDeny    = 1 << iota // the decision is Deny
	bitIntent              // the phase is Intent
	bitID                  // a request id of 16 bytes follows
	bitText                // a request id that is no UUID follows
	bitOutcome             // from here on: the member differs
	bitUser
	bitAddress
	bitWorkload
	bitWorkloadID
	bitAction
	bitResources
	bitDetail
	bitPrincipal
	bitKeyID
	bitKind
	bitAuthorizer
	bitAccount
	knownBits = bitAccount<<1 - 1
)

// members are the texts that are compared with those of the entry before, in
// their order in an entry.
func members(r *Record) [11]member {
	return [11]member{
		{bitOutcome, &r.Outcome}, {bitUser, &r.User}, {bitAddress, &r.Address}, {bitWorkload, &r.Workload}, {bitWorkloadID, &r.WorkloadID}, {bitAction, &r.Action},
		{bitPrincipal, &r.Principal}, {bitKeyID, &r.KeyID}, {bitKind, &r.PrincipalKind}, {bitAuthorizer, &r.Authorizer}, {bitAccount, &r.Account},
	}
}

type member struct {
	bit  uint64
	text *string
}

// state is what the next entry is compared with.
type state struct {
	record Record
	micros int64
	detail []string // key, value, key, value …, sorted by key
}

// appendEntry writes a prepared record. detail is its Detail, sorted.
func (s *state) appendEntry(b []byte, r *Record, detail []string) []byte {
	now, before := members(r), members(&s.record)
	var present uint64
	if r.Decision == Deny {
		present |= bitDeny
	}
	if r.Phase == Intent {
		present |= bitIntent
	}
	id, isUUID := parseUUID(r.RequestID)
	switch {
	case isUUID:
		present |= bitID
	case r.RequestID != "":
		present |= bitText
	}
	for i := range now {
		if *now[i].text != *before[i].text {
			present |= now[i].bit
		}
	}
	if !slices.Equal(r.Resources, s.record.Resources) {
		present |= bitResources
	}
	if !slices.Equal(detail, s.detail) {
		present |= bitDetail
	}
	micros := store.Micros(r.Time)
	b = binary.AppendUvarint(b, present)
	b = binary.AppendVarint(b, micros-s.micros)
	switch {
	case isUUID:
		b = append(b, id[:]...)
	case r.RequestID != "":
		b = appendText(b, "", r.RequestID)
	}
	for i := range now {
		if present&now[i].bit != 0 {
			b = appendText(b, *before[i].text, *now[i].text)
		}
	}
	if present&bitResources != 0 {
		b = binary.AppendUvarint(b, uint64(len(r.Resources)))
		for i, resource := range r.Resources {
			b = appendText(b, resourceBefore(s.record.Resources, r, i), resource)
		}
	}
	if present&bitDetail != 0 {
		b = binary.AppendUvarint(b, uint64(len(detail)/2))
		for i, text := range detail {
			b = appendText(b, at(s.detail, i), text)
		}
	}
	s.record, s.micros, s.detail = *r, micros, detail
	return b
}

// resourceBefore is what a resource is likely to begin like.
func resourceBefore(before []string, r *Record, i int) string {
	switch {
	case i < len(before):
		return before[i]
	case i > 0:
		return r.Resources[i-1]
	}
	return r.Workload
}

func at(texts []string, i int) string {
	if i < len(texts) {
		return texts[i]
	}
	return ""
}

func appendText(b []byte, before, text string) []byte {
	same := 0
	for most := min(len(before), len(text)); same < most && before[same] == text[same]; same++ {
	}
	b = binary.AppendUvarint(b, uint64(same))
	b = binary.AppendUvarint(b, uint64(len(text)-same))
	return append(b, text[same:]...)
}

// sortedDetail is a Detail as an entry has it.
func sortedDetail(detail map[string]string) []string {
	if len(detail) == 0 {
		return nil
	}
	sorted := make([]string, 0, 2*len(detail))
	for _, key := range slices.Sorted(maps.Keys(detail)) {
		sorted = append(sorted, key, detail[key])
	}
	return sorted
}

// errMalformed is a body that this version did not write.
var errMalformed = errors.New("audit: a block that cannot be read")

// readEntry is the inverse of appendEntry. The bytes may be anybody's: a proof
// looks at the MAC first, a list does not.
func (s *state) readEntry(entry []byte) (Record, error) {
	r := reader{rest: entry}
	present := r.number()
	s.micros += r.signed()
	record := Record{Decision: Allow, Phase: Done}
	if present&bitDeny != 0 {
		record.Decision = Deny
	}
	if present&bitIntent != 0 {
		record.Phase = Intent
	}
	switch {
	case present&bitID != 0:
		record.RequestID = uuidText(r.bytes(16))
	case present&bitText != 0:
		record.RequestID = r.text("")
	}
	now, before := members(&record), members(&s.record)
	for i := range now {
		*now[i].text = *before[i].text
		if present&now[i].bit != 0 {
			*now[i].text = r.text(*before[i].text)
		}
	}
	record.Resources = s.record.Resources
	if present&bitResources != 0 {
		record.Resources = nil
		for i := range r.count(mostResources) {
			record.Resources = append(record.Resources, r.text(resourceBefore(s.record.Resources, &record, i)))
		}
	}
	if present&bitDetail != 0 {
		var detail []string
		for i := range 2 * r.count(mostDetails) {
			detail = append(detail, r.text(at(s.detail, i)))
		}
		s.detail = detail
	}
	for i := 0; i+1 < len(s.detail); i += 2 {
		if record.Detail == nil {
			record.Detail = make(map[string]string, len(s.detail)/2)
		}
		record.Detail[s.detail[i]] = s.detail[i+1]
	}
	if r.bad || len(r.rest) > 0 || present&^knownBits != 0 {
		return Record{}, errMalformed
	}
	record.Time = time.UnixMicro(s.micros).UTC()
	s.record = record
	return record, nil
}

// reader takes values off bytes until one is not there.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) signed() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) count(most uint64) int {
	n := r.number()
	if n > most {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *reader) bytes(size uint64) []byte {
	if size > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	taken := r.rest[:size]
	r.rest = r.rest[size:]
	return taken
}

// text is at most as long as prepare lets a text be, so that a few bytes cannot
// stand for very many.
func (r *reader) text(before string) string {
	same := r.number()
	more := r.bytes(r.number())
	if same > uint64(len(before)) || same+uint64(len(more)) > longestField {
		r.bad = true
		return ""
	}
	return before[:same] + string(more)
}

// parseUUID reads the usual form of a request id, in lower case.
func parseUUID(text string) (id [16]byte, ok bool) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return id, false
	}
	at := 0
	for i := 0; i < 36; i += 2 {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			i++
		}
		high, low := hexValue(text[i]), hexValue(text[i+1])
		if high > 15 || low > 15 {
			return id, false
		}
		id[at] = high<<4 | low
		at++
	}
	return id, true
}

func hexValue(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

func uuidText(id []byte) string {
	if len(id) != 16 {
		return ""
	}
	var text [36]byte
	at := 0
	for i, from := range []int{0, 4, 6, 8, 10} {
		until := []int{4, 6, 8, 10, 16}[i]
		at += hex.Encode(text[at:], id[from:until])
		if until < 16 {
			text[at] = '-'
			at++
		}
	}
	return string(text[:])
}
