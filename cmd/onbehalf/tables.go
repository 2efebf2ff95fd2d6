package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// What commands print: a table for people, JSON for programs.
//
// A table cell is what a person may have chosen: its control characters are
// shown, never obeyed, so that no name moves the cursor, hides a row or makes
// two of one. JSON has the same values in full, and times exact. Its members are
// stable: new ones come, none is renamed or removed.

// column is one column of a table.
type column struct {
	head     string
	flexible bool // cut at the end where the screen is too narrow; never on a pipe
}

// columns makes them of their heads; a trailing ~ marks the flexible ones.
func columns(heads ...string) []column {
	list := make([]column, len(heads))
	for i, head := range heads {
		name, flexible := strings.CutSuffix(head, "~")
		list[i] = column{name, flexible}
	}
	return list
}

// widthSample is how many rows decide on the widths: longer lists are printed as they come.
const widthSample = 500

// list prints items as they come: as a table of the cells that row makes of one,
// or as a JSON array. empty is said, to people only, where there are none.
func list[T any](t *terminal, output string, heads []column, row func(T) []string, empty string, items iter.Seq2[T, error]) error {
	if output == "json" {
		return listJSON(t.out, items)
	}
	table := table{out: t.out, columns: heads}
	for item, err := range items {
		if err != nil {
			if table.count > 0 { // what came is shown
				_ = table.flush()
			}
			return err
		}
		if err := table.add(row(item)); err != nil {
			return err
		}
	}
	if table.count == 0 && empty != "" {
		if _, is := screen(t.err); is {
			fmt.Fprintln(t.err, plain(empty))
			return nil
		}
	}
	return table.flush()
}

// table aligns its columns by the first rows, and keeps what came too late for that readable.
type table struct {
	out     io.Writer
	columns []column
	waiting [][]string
	widths  []int // nil until the sample is full
	count   int
}

func (t *table) add(cells []string) error {
	t.count++
	for i := range cells {
		cells[i] = plain(cells[i])
	}
	if t.widths != nil {
		return t.print(cells, "")
	}
	t.waiting = append(t.waiting, cells)
	if len(t.waiting) < widthSample {
		return nil
	}
	return t.flush()
}

// flush prints what waits, with the heads in front of the first row.
func (t *table) flush() error {
	if t.widths != nil {
		return nil
	}
	heads := make([]string, len(t.columns))
	for i, c := range t.columns {
		heads[i] = c.head
	}
	t.measure(append([][]string{heads}, t.waiting...))
	bold := ""
	if colored(t.out) {
		bold = "\x1b[1m"
	}
	if err := t.print(heads, bold); err != nil {
		return err
	}
	for _, cells := range t.waiting {
		if err := t.print(cells, ""); err != nil {
			return err
		}
	}
	t.waiting = nil
	return nil
}

// gap is what stands between two columns.
const gap = "  "

// measure finds the widths, and takes from the flexible columns what a screen lacks.
func (t *table) measure(rows [][]string) {
	t.widths = make([]int, len(t.columns))
	total := len(gap) * (len(t.columns) - 1)
	for i := range t.columns {
		for _, cells := range rows {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cells[i]))
		}
		total += t.widths[i]
	}
	width, is := screen(t.out)
	for is && total > width {
		widest := -1
		for i, c := range t.columns {
			if c.flexible && t.widths[i] > max(len(c.head), 12) && (widest < 0 || t.widths[i] > t.widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return // the terminal wraps
		}
		t.widths[widest]--
		total--
	}
}

func (t *table) print(cells []string, style string) error {
	var line strings.Builder
	for i, cell := range cells {
		length := utf8.RuneCountInString(cell)
		if _, is := screen(t.out); is && t.columns[i].flexible && length > t.widths[i] {
			cell = string([]rune(cell)[:t.widths[i]-1]) + "…"
			length = t.widths[i]
		}
		line.WriteString(cell)
		if i < len(cells)-1 {
			line.WriteString(strings.Repeat(" ", max(0, t.widths[i]-length)) + gap)
		}
	}
	text := strings.TrimRight(line.String(), " ")
	if style != "" {
		text = style + text + "\x1b[0m"
	}
	_, err := fmt.Fprintln(t.out, text)
	return err
}

// field is one line of what `show` prints.
type field struct{ name, value string }

// show prints one thing: its fields, or value as JSON. Empty fields are left out.
func show(t *terminal, output string, value any, fields ...field) error {
	if output == "json" {
		return writeJSON(t.out, value)
	}
	width := 0
	for _, f := range fields {
		if f.value != "" {
			width = max(width, len(f.name))
		}
	}
	for _, f := range fields {
		if f.value == "" {
			continue
		}
		for i, line := range strings.Split(f.value, "\n") { // our own line breaks: what people chose is plain
			name := f.name + ":"
			if i > 0 {
				name = ""
			}
			if _, err := fmt.Fprintf(t.out, "%-*s  %s\n", width+1, name, plain(line)); err != nil {
				return err
			}
		}
	}
	return nil
}

// lines joins values for a field, one below the other.
func lines(values []string) string {
	shown := make([]string, len(values))
	for i, value := range values {
		shown[i] = plain(value)
	}
	return strings.Join(shown, "\n")
}

func listJSON[T any](out io.Writer, items iter.Seq2[T, error]) error {
	before, after := "[\n  ", "[]\n"
	for item, err := range items {
		if err != nil {
			return err // the array stays open, so that nobody takes a part for the whole
		}
		text, err := encodeJSON(item, "  ")
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s%s", before, text); err != nil {
			return err
		}
		before, after = ",\n  ", "\n]\n"
	}
	_, err := io.WriteString(out, after)
	return err
}

func writeJSON(out io.Writer, value any) error {
	text, err := encodeJSON(value, "")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", text)
	return err
}

// encodeJSON is JSON that a terminal can show: characters that it would obey are escaped.
func encodeJSON(value any, prefix string) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent(prefix, "  ")
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	var safe bytes.Buffer
	for _, r := range strings.TrimSuffix(buffer.String(), "\n") {
		switch {
		case r != '\n' && obeyed(r) && r > 0xffff:
			high, low := utf16Pair(r)
			fmt.Fprintf(&safe, `\u%04x\u%04x`, high, low)
		case r != '\n' && obeyed(r):
			fmt.Fprintf(&safe, `\u%04x`, r)
		default:
			safe.WriteRune(r)
		}
	}
	return safe.Bytes(), nil
}

func utf16Pair(r rune) (high, low rune) {
	r -= 0x10000
	return 0xd800 + r>>10, 0xdc00 + r&0x3ff
}

// obeyed are the characters that a terminal acts on or that change what stands
// beside them: controls, line separators, directions, what has no width.
func obeyed(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co)
}

// plain shows such characters instead of sending them.
func plain(text string) string {
	if strings.IndexFunc(text, obeyed) < 0 && utf8.ValidString(text) {
		return text
	}
	var safe strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			fmt.Fprintf(&safe, `\x%02x`, text[i])
		case obeyed(r) && r < 0x100:
			fmt.Fprintf(&safe, `\x%02x`, r)
		case obeyed(r):
			fmt.Fprintf(&safe, `\u{%x}`, r)
		default:
			safe.WriteRune(r)
		}
	}
	return safe.String()
}

// moment is a time in JSON: RFC 3339, UTC, to the second or as exact as it is; nil where there is none.
func moment(at *time.Time) *time.Time {
	if at == nil || at.IsZero() {
		return nil
	}
	exact := at.UTC()
	return &exact
}

// ago is a time in a table, as far as people care. show has it exact.
func ago(at *time.Time, now time.Time) string {
	if at == nil || at.IsZero() {
		return "never"
	}
	past := now.Sub(*at)
	if past < 0 {
		return "in " + span(-past)
	}
	if past < time.Second {
		return "now"
	}
	return span(past) + " ago"
}

func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d < 2*365*day:
		return fmt.Sprintf("%dd", d/day)
	}
	return fmt.Sprintf("%dy", d/(365*day))
}

// exactly is a time in show: exact, and readable.
func exactly(at *time.Time, now time.Time) string {
	if at == nil || at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339) + " (" + ago(at, now) + ")"
}
