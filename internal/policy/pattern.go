package policy

import (
	"strings"
	"unicode/utf8"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// pattern is a text of a policy with * and ? and ${variables}, compiled once.
type pattern struct {
	source   string
	tokens   []token
	form     form
	variable bool // some token is a variable: the rest is decided per request
	fold     bool // ASCII letters match in either case
}

// form says how the wildcards of a pattern treat the colons of an ARN.
type form int

const (
	plainText   form = iota // * crosses anything
	resourceARN             // * stays within its segment, unless it ends it (AWS: "it can expand to match beyond the colon boundaries")
	strictARN               // ArnLike: each of the six segments is compared on its own
)

type token struct {
	kind     tokenKind
	text     string // of a literal; the key, in lower case, of a variable
	fallback string // of a variable
	optional bool   // the variable has a fallback
}

type tokenKind int

const (
	literal      tokenKind = iota
	one                    // ?
	many                   // *
	oneInside              // ? that matches no colon
	manyInside             // * that matches no colon
	variableKind           // ${key} or ${key, 'fallback'}
)

// segments of an ARN before the resource, which may have colons of its own.
const arnColons = 5

// unknown stands, in the text that is matched, for one letter or digit that is
// not known: it equals every one. Only denials are asked with it, and only the
// resources of a policy take it so: elsewhere it is a character like others,
// which a request may have in a user's id or a tag.
const unknown = 0

// lookup gives the values of a condition key, in lower case; none when the request has no such key.
type lookup func(key string) []string

// compilePattern reads a text with the wildcards, where wild, and the variables, where vars.
func compilePattern(source string, f form, wild, vars bool) (*pattern, error) {
	p := &pattern{source: source, form: f}
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			p.tokens = append(p.tokens, token{kind: literal, text: text.String()})
			text.Reset()
		}
	}
	for i := 0; i < len(source); i++ {
		switch c := source[i]; {
		case wild && c == '*':
			flush()
			if n := len(p.tokens); n == 0 || p.tokens[n-1].kind != many {
				p.tokens = append(p.tokens, token{kind: many})
			}
		case wild && c == '?':
			flush()
			p.tokens = append(p.tokens, token{kind: one})
		case vars && c == '$' && strings.HasPrefix(source[i:], "${"):
			end := strings.IndexByte(source[i:], '}')
			if end < 0 {
				return nil, fault.New(fault.Invalid, "The policy variable in %q does not end: a } is missing.", source)
			}
			inside := source[i+2 : i+end]
			i += end
			if inside == "*" || inside == "?" || inside == "$" { // AWS's escapes
				text.WriteString(inside)
				continue
			}
			t, err := compileVariable(inside)
			if err != nil {
				return nil, err
			}
			flush()
			p.tokens, p.variable = append(p.tokens, t), true
		default:
			text.WriteByte(c)
		}
	}
	flush()
	if !p.variable {
		p.tokens = bounded(p.tokens, f)
	}
	return p, nil
}

// compileVariable reads what is between ${ and }.
func compileVariable(inside string) (token, error) {
	key, fallback, optional := strings.Cut(inside, ",")
	t := token{kind: variableKind, text: strings.ToLower(strings.TrimSpace(key)), optional: optional}
	if _, err := knownKey(t.text); err != nil {
		return token{}, err
	}
	if optional {
		fallback = strings.TrimSpace(fallback)
		if len(fallback) < 2 || fallback[0] != '\'' || fallback[len(fallback)-1] != '\'' {
			return token{}, fault.New(fault.Invalid, "The default of the policy variable ${%s} must be in single quotes.", inside)
		}
		t.fallback = fallback[1 : len(fallback)-1]
	}
	return t, nil
}

// bounded tells the wildcards of an ARN's first segments which colons they may not cross.
func bounded(tokens []token, f form) []token {
	if f == plainText {
		return tokens
	}
	colons := 0
	for i := range tokens {
		inside := colons < arnColons
		switch tokens[i].kind {
		case literal:
			colons += strings.Count(tokens[i].text, ":")
		case one:
			if inside {
				tokens[i].kind = oneInside
			}
		case many:
			ends := i+1 == len(tokens) || tokens[i+1].kind == literal && tokens[i+1].text[0] == ':'
			if inside && (f == strictARN || !ends) {
				tokens[i].kind = manyInside
			}
		}
	}
	return tokens
}

// resolved is the pattern's tokens with the variables' values, taken literally:
// a * in a user's name is no wildcard. ok is false where a value is missing.
func (p *pattern) resolved(values lookup) (tokens []token, ok bool) {
	if !p.variable {
		return p.tokens, true
	}
	tokens = make([]token, len(p.tokens))
	for i, t := range p.tokens {
		if t.kind == variableKind {
			value, found := t.value(values)
			if !found {
				return nil, false
			}
			t = token{kind: literal, text: value}
		}
		tokens[i] = t
	}
	tokens = merged(tokens)
	return bounded(tokens, p.form), true
}

func (t token) value(values lookup) (string, bool) {
	if got := values(t.text); len(got) == 1 {
		return got[0], true
	}
	return t.fallback, t.optional
}

// merged drops empty literals and joins neighbours, as compilePattern leaves them.
func merged(tokens []token) []token {
	out := tokens[:0]
	for _, t := range tokens {
		if n := len(out); t.kind == literal && n > 0 && out[n-1].kind == literal {
			out[n-1].text += t.text
		} else if t.kind != literal || t.text != "" {
			out = append(out, t)
		}
	}
	return out
}

// match compares the whole text. ok is false where a variable has no value; such
// a pattern matches nothing.
func (p *pattern) match(text string, values lookup) (matched, ok bool) {
	tokens, ok := p.resolved(values)
	if !ok {
		return false, false
	}
	if len(tokens) == 1 && tokens[0].kind == many {
		return true, true
	}
	for _, t := range tokens {
		if t.kind == manyInside {
			return p.search(tokens, text, make([]bool, (len(tokens)+1)*(len(text)+1)), 0, 0), true
		}
	}
	return p.greedy(tokens, text), true
}

// greedy is enough where every * is free: going back to the last one finds a match if there is any.
func (p *pattern) greedy(tokens []token, text string) bool {
	at, back, from := 0, -1, 0
	for i := 0; ; {
		switch {
		case at == len(tokens) && i == len(text):
			return true
		case at < len(tokens) && tokens[at].kind == many:
			back, from = at, i
			at++
			continue
		case at < len(tokens):
			if n := p.step(tokens[at], text[i:]); n >= 0 {
				i += n
				at++
				continue
			}
		}
		if back < 0 || from >= len(text) {
			return false
		}
		from += width(text[from:])
		at, i = back+1, from
	}
}

// search tries every way; tried holds the states that failed, so that it ends in
// tokens times text steps.
func (p *pattern) search(tokens []token, text string, tried []bool, at, i int) bool {
	if at == len(tokens) {
		return i == len(text)
	}
	state := at*(len(text)+1) + i
	if tried[state] {
		return false
	}
	tried[state] = true
	t := tokens[at]
	if t.kind != many && t.kind != manyInside {
		n := p.step(t, text[i:])
		return n >= 0 && p.search(tokens, text, tried, at+1, i+n)
	}
	for {
		if p.search(tokens, text, tried, at+1, i) {
			return true
		}
		if i == len(text) || t.kind == manyInside && text[i] == ':' {
			return false
		}
		i += width(text[i:])
	}
}

// step is how many bytes a token that is no * takes from the beginning of text; -1 when it does not match.
func (p *pattern) step(t token, text string) int {
	if t.kind == literal {
		if len(text) < len(t.text) || !p.same(t.text, text[:len(t.text)]) {
			return -1
		}
		return len(t.text)
	}
	if text == "" || t.kind == oneInside && text[0] == ':' {
		return -1
	}
	return width(text)
}

func (p *pattern) same(want, got string) bool {
	if want == got {
		return true
	}
	for i := 0; i < len(want); i++ {
		a, b := want[i], got[i]
		if a == b || b == unknown && p.form == resourceARN && !notIdentifier(rune(a)) || p.fold && lower(a) == lower(b) {
			continue
		}
		return false
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// width is the length of the first character.
func width(text string) int {
	_, n := utf8.DecodeRuneInString(text)
	return n
}
