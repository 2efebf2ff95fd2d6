package main

import (
	"fmt"
	"strconv"
	"strings"
)

// Java and RE2 agree on nearly all that the models write. They differ in three
// things, which translate rewrites: what a dot and \s stand for, and that RE2
// refuses to repeat more than a thousand times.
const (
	dot      = `[^\n\r\x{85}\x{2028}\x{2029}]`
	space    = `[\t-\r ]`
	nonSpace = `[^\t-\r ]`
	limit    = 1000
)

// translate turns a model's Java pattern into one that Go's regexp takes, with the same meaning.
func translate(pattern string) string {
	var out strings.Builder
	atom := 0 // where in out the last atom starts: what a repetition repeats
	var groups []int
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '\\':
			i++
			atom = out.Len()
			switch pattern[i] {
			case 's':
				out.WriteString(space)
			case 'S':
				out.WriteString(nonSpace)
			case '/':
				out.WriteString("/")
			default:
				out.WriteString(pattern[i-1 : i+1])
			}
		case '.':
			atom = out.Len()
			out.WriteString(dot)
		case '[':
			end := i + 1
			for pattern[end] != ']' || end == i+1 {
				if pattern[end] == '\\' {
					end++
				}
				end++
			}
			atom = out.Len()
			out.WriteString(strings.ReplaceAll(pattern[i:end+1], `\s`, `\t-\r `))
			i = end
		case '(':
			groups = append(groups, out.Len())
			out.WriteByte(c)
		case ')':
			atom, groups = groups[len(groups)-1], groups[:len(groups)-1]
			out.WriteByte(c)
		case '{':
			end := i + strings.IndexByte(pattern[i:], '}')
			repeated := out.String()[atom:]
			rest := out.String()[:atom]
			out.Reset()
			out.WriteString(rest)
			out.WriteString(repeat(repeated, pattern[i+1:end]))
			i = end
		case '?', '*', '+', '|', '^', '$':
			out.WriteByte(c)
		default:
			atom = out.Len()
			out.WriteByte(c)
		}
	}
	return out.String()
}

// repeat spells {least,most} out in steps that RE2 takes.
func repeat(atom, bounds string) string {
	low, high, ranged := strings.Cut(bounds, ",")
	least, err := strconv.Atoi(low)
	if err != nil {
		panic("repetition {" + bounds + "}")
	}
	most := least
	if ranged {
		if most, err = strconv.Atoi(high); err != nil {
			panic("repetition {" + bounds + "}")
		}
	}
	if most <= limit {
		return atom + "{" + bounds + "}"
	}
	var out strings.Builder
	for most > 0 {
		step, floor := min(most, limit), min(least, limit)
		fmt.Fprintf(&out, "%s{%d,%d}", atom, floor, step)
		most, least = most-step, least-floor
	}
	return out.String()
}
