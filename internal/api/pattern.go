package api

import (
	"regexp"
	"regexp/syntax"
	"sync"
)

// pattern is a regular expression of the model, compiled when first needed:
// most of the hundred are never used by one server.
type pattern struct {
	java    string // as the model, and so the error message, has it
	compile func() matcher
}

// matcher reports a full match.
type matcher func(string) bool

func newPattern(java, re2 string) *pattern {
	return &pattern{java: java, compile: sync.OnceValue(func() matcher { return newMatcher(re2) })}
}

func (p *pattern) match(value string) bool { return p.compile()(value) }

// newMatcher compiles an expression. The commonest form, one class of ASCII
// characters repeated, becomes a table: names and tokens are matched by it on
// every request, some 20 times faster than the regexp engine does it.
func newMatcher(re2 string) matcher {
	if table, least, ok := charTable(re2); ok {
		return func(value string) bool {
			for i := 0; i < len(value); i++ {
				if !table[value[i]] {
					return false
				}
			}
			return len(value) >= least
		}
	}
	return regexp.MustCompile(`\A(?:` + re2 + `)\z`).MatchString
}

// charTable recognises [class]+ and [class]*.
func charTable(re2 string) (table [256]bool, least int, ok bool) {
	tree, err := syntax.Parse(re2, syntax.Perl)
	if err != nil || tree.Op != syntax.OpPlus && tree.Op != syntax.OpStar || tree.Sub[0].Op != syntax.OpCharClass {
		return table, 0, false
	}
	if tree.Op == syntax.OpPlus {
		least = 1
	}
	for class := tree.Sub[0].Rune; len(class) > 0; class = class[2:] {
		if class[1] >= 0x80 {
			return table, 0, false
		}
		for c := class[0]; c <= class[1]; c++ {
			table[c] = true
		}
	}
	return table, least, true
}
