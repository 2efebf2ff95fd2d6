package api

import (
	"unicode/utf16"
	"unicode/utf8"
)

// escapes are the one-letter escapes of JSON strings.
var escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escaped reads the rest of a string from its first backslash on.
func (d *reader) escaped(start int) []byte {
	text := append(make([]byte, 0, 2*(d.pos-start)+32), d.data[start:d.pos]...)
	for d.pos < len(d.data) {
		c := d.data[d.pos]
		switch {
		case c == '"':
			if !utf8.Valid(text) {
				d.malformed()
				return nil
			}
			d.pos++
			return text
		case c < 0x20:
			d.malformed()
			return nil
		case c != '\\':
			text = append(text, c)
			d.pos++
		case d.pos+1 < len(d.data) && d.data[d.pos+1] == 'u':
			text = utf8.AppendRune(text, d.unicode())
		default:
			d.pos++
			if d.pos >= len(d.data) || escapes[d.data[d.pos]] == 0 {
				d.malformed()
				return nil
			}
			text = append(text, escapes[d.data[d.pos]])
			d.pos++
		}
	}
	d.malformed()
	return nil
}

// unicode reads \uXXXX, and the second one of a surrogate pair. Half a pair is U+FFFD.
func (d *reader) unicode() rune {
	first := d.hex4()
	if !utf16.IsSurrogate(first) {
		return first
	}
	if after := d.pos; after+1 < len(d.data) && d.data[after] == '\\' && d.data[after+1] == 'u' {
		if pair := utf16.DecodeRune(first, d.hex4()); pair != utf8.RuneError {
			return pair
		}
		if d.err == nil {
			d.pos = after
		}
	}
	return utf8.RuneError
}

func (d *reader) hex4() rune {
	if len(d.data)-d.pos < 6 {
		d.malformed()
		return utf8.RuneError
	}
	var r rune
	for _, c := range d.data[d.pos+2 : d.pos+6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			d.malformed()
			return utf8.RuneError
		}
		r = r<<4 | rune(c)
	}
	d.pos += 6
	return r
}
