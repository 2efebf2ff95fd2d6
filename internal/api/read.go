package api

import (
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// depthLimit bounds how deep objects and arrays may nest: JSON schemas go the
// deepest, and stay far below.
const depthLimit = 200

// reader reads one JSON text from front to back, for the generated readers.
// The first error ends everything: data is cut off, so that loops end.
type reader struct {
	trail
	data   []byte
	pos    int
	depth  int
	fresh  bool   // just after an opening bracket or brace
	key    []byte // of the member under way
	err    error
	absent []fault.Field
}

func (d *reader) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.data, d.pos = nil, 0
}

// malformed fails because this is not JSON.
func (d *reader) malformed() {
	message := fmt.Sprintf("The body could not be parsed as JSON, at byte %d.", d.pos)
	d.fail(&fault.Error{Kind: fault.Invalid, Reason: fault.ReasonCannotParse, Message: message})
}

// mistyped fails because a member is of another JSON type than the model's.
func (d *reader) mistyped(name, wanted string) {
	path := d.path(name)
	if path == "" {
		path = "body"
	}
	d.fail(unreadable(path, wanted))
}

// peek is the first byte after white space, or 0 at the end.
func (d *reader) peek() byte {
	for d.pos < len(d.data) {
		switch c := d.data[d.pos]; c {
		case ' ', '\t', '\n', '\r':
			d.pos++
		case 0:
			d.malformed()
			return 0
		default:
			return c
		}
	}
	return 0
}

// open steps into an object or an array.
func (d *reader) open(bracket byte, name, wanted string) bool {
	if d.peek() != bracket {
		d.mistypedOrMalformed(name, wanted)
		return false
	}
	if d.depth++; d.depth > depthLimit {
		d.malformed()
		return false
	}
	d.pos++
	d.fresh = true
	return true
}

func (d *reader) object(name string) bool { return d.open('{', name, "an object") }
func (d *reader) array(name string) bool  { return d.open('[', name, "an array") }

// mistypedOrMalformed tells a value of another type from no value at all.
func (d *reader) mistypedOrMalformed(name, wanted string) {
	probe := reader{data: d.data, pos: d.pos, depth: d.depth}
	if probe.skip(); probe.err != nil || d.err != nil {
		d.malformed()
		return
	}
	d.mistyped(name, wanted)
}

// next steps to the next item before the closing bracket, or over that.
func (d *reader) next(closing byte) bool {
	fresh := d.fresh
	d.fresh = false
	c := d.peek()
	if c == closing {
		d.pos++
		d.depth--
		return false
	}
	if !fresh {
		if c != ',' {
			d.malformed()
			return false
		}
		d.pos++
	}
	return d.err == nil
}

// element steps to an array's next item. There is no null in the model's lists.
func (d *reader) element() bool { return d.next(']') }

// member steps to an object's next member that is not null; its name is in key.
func (d *reader) member() bool {
	for d.next('}') {
		if d.peek() != '"' {
			d.malformed()
			return false
		}
		d.key = d.quoted()
		if d.peek() != ':' {
			d.malformed()
			return false
		}
		d.pos++
		if d.peek() != 'n' {
			return true
		}
		d.literal("null")
	}
	return false
}

func (d *reader) literal(word string) {
	if len(d.data)-d.pos < len(word) || string(d.data[d.pos:d.pos+len(word)]) != word {
		d.malformed()
		return
	}
	d.pos += len(word)
}

// text reads a string.
func (d *reader) text(name string) string {
	if d.peek() != '"' {
		d.mistypedOrMalformed(name, "a string")
		return ""
	}
	return string(d.quoted())
}

// boolean reads true or false.
func (d *reader) boolean(name string) bool {
	switch d.peek() {
	case 't':
		d.literal("true")
		return true
	case 'f':
		d.literal("false")
	default:
		d.mistypedOrMalformed(name, "true or false")
	}
	return false
}

// integer reads a whole number of 32 bits.
func (d *reader) integer(name string) int32 {
	number, err := strconv.ParseInt(d.number(name, "an integer"), 10, 32)
	if err != nil && d.err == nil {
		d.mistyped(name, "an integer")
	}
	return int32(number)
}

// double reads a number.
func (d *reader) double(name string) float64 {
	number, err := strconv.ParseFloat(d.number(name, "a number"), 64)
	if (err != nil || math.IsInf(number, 0)) && d.err == nil {
		d.mistyped(name, "a number")
	}
	return number
}

func (d *reader) number(name, wanted string) string {
	if c := d.peek(); c != '-' && (c < '0' || c > '9') {
		d.mistypedOrMalformed(name, wanted)
		return "0"
	}
	start, data := d.pos, d.data
	d.skipNumber()
	if d.err != nil {
		return "0"
	}
	return string(data[start:d.pos])
}

// document reads any value as it is.
func (d *reader) document() []byte {
	d.peek()
	start, data := d.pos, d.data
	d.skip()
	if d.err != nil {
		return nil
	}
	return append([]byte(nil), data[start:d.pos]...)
}

// rest reads the whole body as it is.
func (d *reader) rest() []byte {
	content := append([]byte(nil), d.data[d.pos:]...)
	d.pos = len(d.data)
	return content
}

// skip steps over any value, checking that it is one.
func (d *reader) skip() {
	switch c := d.peek(); {
	case c == '"':
		d.quoted()
	case c == '{':
		for d.object(""); d.next('}'); d.skip() {
			if d.peek() != '"' {
				d.malformed()
				return
			}
			d.quoted()
			if d.peek() != ':' {
				d.malformed()
				return
			}
			d.pos++
		}
	case c == '[':
		for d.array(""); d.element(); d.skip() {
		}
	case c == 't':
		d.literal("true")
	case c == 'f':
		d.literal("false")
	case c == 'n':
		d.literal("null")
	case c == '-' || '0' <= c && c <= '9':
		d.skipNumber()
	default:
		d.malformed()
	}
}

func (d *reader) skipNumber() {
	d.accept("-")
	if !d.accept("0") && !d.digits() {
		d.malformed()
		return
	}
	if d.accept(".") && !d.digits() {
		d.malformed()
		return
	}
	if d.accept("eE") {
		d.accept("+-")
		if !d.digits() {
			d.malformed()
		}
	}
}

// accept steps over one of the characters.
func (d *reader) accept(characters string) bool {
	for i := 0; d.pos < len(d.data) && i < len(characters); i++ {
		if d.data[d.pos] == characters[i] {
			d.pos++
			return true
		}
	}
	return false
}

func (d *reader) digits() bool {
	start := d.pos
	for d.pos < len(d.data) && '0' <= d.data[d.pos] && d.data[d.pos] <= '9' {
		d.pos++
	}
	return d.pos > start
}

// quoted reads the string that starts here: a part of data where nothing is
// escaped, else a copy. Text that is not UTF-8 is malformed.
func (d *reader) quoted() []byte {
	start, ascii := d.pos+1, true
	for i := start; i < len(d.data); i++ {
		c := d.data[i]
		if plain[c] {
			continue
		}
		switch {
		case c == '"':
			text := d.data[start:i]
			if !ascii && !utf8.Valid(text) {
				d.malformed()
				return nil
			}
			d.pos = i + 1
			return text
		case c == '\\':
			d.pos = i
			return d.escaped(start)
		case c < 0x20:
			d.pos = i
			d.malformed()
			return nil
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	d.malformed()
	return nil
}
