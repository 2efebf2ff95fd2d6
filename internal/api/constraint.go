package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// What a request may cost us: how much of a bad value an error message repeats
// (in bytes), and how many complaints it lists.
const (
	echoLimit      = 1024
	complaintLimit = 32
)

// rule is what the model demands of one shape: a length for text, lists and
// maps, a value for numbers.
type rule struct {
	least, most float64
	floored     bool // least is a bound also when it is zero
	bounded     bool // most is a bound
	pattern     *pattern
	values      []string // of an enum
}

// checker collects the complaints about one request.
type checker struct {
	trail
	fields []fault.Field
	hidden int // inside this many structures whose content is sensitive
}

// complain records one violation. value is what to repeat of the offending
// value, with its leading space; empty for what must not or cannot be shown.
func (c *checker) complain(name, value, constraint string, args ...any) {
	if len(c.fields) >= complaintLimit {
		return
	}
	path := c.path(name)
	c.fields = append(c.fields, fault.Field{
		Name:    path,
		Message: "Value" + value + " at '" + path + "' failed to satisfy constraint: " + fmt.Sprintf(constraint, args...),
	})
}

// echo is a value as complaints repeat it.
func (c *checker) echo(value string) string {
	if c.hidden > 0 {
		return ""
	}
	if len(value) > echoLimit {
		value = strings.ToValidUTF8(value[:echoLimit], "") + "…"
	}
	return " '" + value + "'"
}

func (c *checker) missing(name string) { c.complain(name, " null", "Member must not be null") }

func (c *checker) union(names string, set ...bool) {
	count := 0
	for _, given := range set {
		if given {
			count++
		}
	}
	if count != 1 {
		c.complain("", "", "Member must have exactly one of its members set: [%s]", names)
	}
}

func (c *checker) text(name, value string, r *rule) {
	if broken := r.brokenText(value); broken {
		c.complainText(name, c.echo(value), value, r)
	}
}

func (c *checker) secret(name string, value secret.Text, r *rule) {
	if clear := value.Reveal(); r.brokenText(clear) {
		c.complainText(name, "", clear, r)
	}
}

// brokenText decides without counting characters where the bytes already tell.
func (r *rule) brokenText(value string) bool {
	if float64(len(value)) < r.least || r.bounded && float64(len(value)) > r.most || float64(len(value)) < r.least*utf8.UTFMax {
		characters := float64(utf8.RuneCountInString(value))
		if characters < r.least || r.bounded && characters > r.most {
			return true
		}
	}
	return r.pattern != nil && !r.pattern.match(value)
}

func (c *checker) complainText(name, echo, value string, r *rule) {
	characters := float64(utf8.RuneCountInString(value))
	if characters < r.least {
		c.complain(name, echo, "Member must have length greater than or equal to %.0f", r.least)
	}
	if r.bounded && characters > r.most {
		c.complain(name, echo, "Member must have length less than or equal to %.0f", r.most)
	}
	if r.pattern != nil && !r.pattern.match(value) {
		c.complain(name, echo, "Member must satisfy regular expression pattern: %s", r.pattern.java)
	}
}

func (c *checker) enum(name, value string, r *rule) {
	if !slices.Contains(r.values, value) {
		c.complain(name, c.echo(value), "Member must satisfy enum value set: [%s]", strings.Join(r.values, ", "))
	}
}

func (c *checker) integer(name string, value int64, r *rule) {
	c.number(name, float64(value), strconv.FormatInt(value, 10), r)
}

func (c *checker) double(name string, value float64, r *rule) {
	c.number(name, value, strconv.FormatFloat(value, 'g', -1, 64), r)
}

func (c *checker) number(name string, value float64, shown string, r *rule) {
	if r.floored && value < r.least {
		c.complain(name, c.echo(shown), "Member must have value greater than or equal to %s", strconv.FormatFloat(r.least, 'f', -1, 64))
	}
	if r.bounded && value > r.most {
		c.complain(name, c.echo(shown), "Member must have value less than or equal to %s", strconv.FormatFloat(r.most, 'f', -1, 64))
	}
}

// size checks a list, a map or a blob. Their content is not repeated: it may be long, and secret.
func (c *checker) size(name string, length int, r *rule) {
	if float64(length) < r.least {
		c.complain(name, "", "Member must have length greater than or equal to %.0f", r.least)
	}
	if r.bounded && float64(length) > r.most {
		c.complain(name, "", "Member must have length less than or equal to %.0f", r.most)
	}
}

// key checks a map's key.
func (c *checker) key(name, key string, r *rule) {
	if !r.brokenText(key) {
		return
	}
	inner := checker{hidden: c.hidden}
	inner.complainText("", "", key, r)
	var constraints []string
	for _, field := range inner.fields {
		_, constraint, _ := strings.Cut(field.Message, "constraint: ")
		constraints = append(constraints, constraint)
	}
	c.complain(name, c.echo(key), "Map keys must satisfy constraint: [%s]", strings.Join(constraints, ", "))
}

// Invalid is the ValidationException for complaints, worded as AWS words it; nil when there are none.
func Invalid(fields []fault.Field) error {
	if len(fields) == 0 {
		return nil
	}
	plural := "error"
	if len(fields) > 1 {
		plural = "errors"
	}
	messages := make([]string, len(fields))
	for i, field := range fields {
		messages[i] = field.Message
	}
	return &fault.Error{
		Kind: fault.Invalid, Reason: fault.ReasonFieldValidation, Fields: fields,
		Message: fmt.Sprintf("%d validation %s detected: %s", len(fields), plural, strings.Join(messages, "; ")),
	}
}

// parseInteger reads a number from a query parameter.
func parseInteger(name, value string) (int32, error) {
	number, err := strconv.ParseInt(value, 10, 32)
	if err != nil {
		return 0, unreadable(name, "an integer")
	}
	return int32(number), nil
}

// unreadable is the ValidationException for a member of the wrong JSON type.
func unreadable(path, wanted string) error {
	message := fmt.Sprintf("Value at '%s' could not be read: %s is expected", path, wanted)
	return &fault.Error{Kind: fault.Invalid, Reason: fault.ReasonCannotParse, Message: message, Fields: []fault.Field{{Name: path, Message: message}}}
}
