package policy

import (
	"encoding/json"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// condition is one key under one operator: {"StringLike": {"aws:username": ["a*", "b*"]}}.
type condition struct {
	operator string // as written, for explanations
	key      string // in lower case
	values   []string

	set      quantifier
	ifExists bool
	negated  bool // the request's value must match none of the values
	null     bool // the operator Null: nothing but presence counts
	tests    []test
}

type quantifier int

const (
	single quantifier = iota
	forAll
	forAny
)

// test compares one value of the request with one of the policy. ok is false
// where the policy's value has a variable without a value.
type test func(got string, values lookup) (matched, ok bool)

// operator makes tests of a policy's values.
type operator struct {
	negated bool
	compile func(value string, variables bool) (test, error)
}

// operators without their prefixes and suffixes. Names are exact, as AWS writes them.
var operators = map[string]operator{
	"StringEquals":              {false, stringTest(func(want, got string) bool { return want == got })},
	"StringNotEquals":           {true, stringTest(func(want, got string) bool { return want == got })},
	"StringEqualsIgnoreCase":    {false, stringTest(strings.EqualFold)},
	"StringNotEqualsIgnoreCase": {true, stringTest(strings.EqualFold)},
	"StringLike":                {false, likeTest},
	"StringNotLike":             {true, likeTest},
	"ArnEquals":                 {false, arnTest}, // AWS: "ArnEquals and ArnLike behave identically"
	"ArnLike":                   {false, arnTest},
	"ArnNotEquals":              {true, arnTest},
	"ArnNotLike":                {true, arnTest},
	"NumericEquals":             {false, numberTest(func(want, got float64) bool { return got == want })},
	"NumericNotEquals":          {true, numberTest(func(want, got float64) bool { return got == want })},
	"NumericLessThan":           {false, numberTest(func(want, got float64) bool { return got < want })},
	"NumericLessThanEquals":     {false, numberTest(func(want, got float64) bool { return got <= want })},
	"NumericGreaterThan":        {false, numberTest(func(want, got float64) bool { return got > want })},
	"NumericGreaterThanEquals":  {false, numberTest(func(want, got float64) bool { return got >= want })},
	"DateEquals":                {false, dateTest(func(want, got time.Time) bool { return got.Equal(want) })},
	"DateNotEquals":             {true, dateTest(func(want, got time.Time) bool { return got.Equal(want) })},
	"DateLessThan":              {false, dateTest(func(want, got time.Time) bool { return got.Before(want) })},
	"DateLessThanEquals":        {false, dateTest(func(want, got time.Time) bool { return !got.After(want) })},
	"DateGreaterThan":           {false, dateTest(func(want, got time.Time) bool { return got.After(want) })},
	"DateGreaterThanEquals":     {false, dateTest(func(want, got time.Time) bool { return !got.Before(want) })},
	"Bool":                      {false, boolTest},
	"IpAddress":                 {false, addressTest},
	"NotIpAddress":              {true, addressTest},
	"Null":                      {false, boolTest},
}

// compileCondition reads one operator and key.
func compileCondition(name, key string, values []string, variables bool) (*condition, error) {
	c := &condition{operator: name, values: values}
	base := name
	if rest, ok := strings.CutPrefix(base, "ForAllValues:"); ok {
		base, c.set = rest, forAll
	} else if rest, ok := strings.CutPrefix(base, "ForAnyValue:"); ok {
		base, c.set = rest, forAny
	}
	base, c.ifExists = strings.CutSuffix(base, "IfExists")
	op, known := operators[base]
	if !known {
		return nil, fault.New(fault.Invalid, "The condition operator %q is not known.", name)
	}
	c.negated, c.null = op.negated, base == "Null"
	if c.null && (c.ifExists || c.set != single) {
		return nil, fault.New(fault.Invalid, "The condition operator Null stands alone: %q is not known.", name)
	}
	var err error
	if c.key, err = knownKey(key); err != nil {
		return nil, err
	}
	if len(values) == 0 {
		return nil, fault.New(fault.Invalid, "The condition key %q has no values under %s.", key, name)
	}
	if c.null && len(values) != 1 {
		return nil, fault.New(fault.Invalid, "The condition operator Null takes one value, true or false.")
	}
	for _, value := range values {
		t, err := op.compile(value, variables)
		if err != nil {
			return nil, err
		}
		c.tests = append(c.tests, t)
	}
	return c, nil
}

// holds asks the request. ok is false where a variable of the policy had no value.
func (c *condition) holds(values lookup) (holds, ok bool) {
	got := values(c.key)
	if c.null {
		wanted, _ := c.tests[0](strconv.FormatBool(len(got) == 0), values)
		return wanted, true
	}
	if len(got) == 0 {
		switch {
		case c.ifExists, c.set == forAll:
			return true, true
		case c.set == forAny:
			return false, true
		}
		return c.negated, true // AWS: an absent key does not match
	}
	matches := 0
	for _, value := range got {
		matched, ok := c.any(value, values)
		if !ok {
			return c.negated, false
		}
		if matched {
			matches++
		}
	}
	switch {
	case c.set == forAll && c.negated, c.set == single && c.negated:
		return matches == 0, true
	case c.set == forAll:
		return matches == len(got), true
	case c.set == forAny && c.negated:
		return matches < len(got), true
	}
	return matches > 0, true
}

// any: the values of a policy are alternatives.
func (c *condition) any(got string, values lookup) (matched, ok bool) {
	complete := true
	for _, t := range c.tests {
		matched, ok := t(got, values)
		if matched {
			return true, true
		}
		complete = complete && ok
	}
	return false, complete
}

func (c *condition) String() string {
	values, _ := json.Marshal(c.values)
	return c.operator + " " + c.key + " " + string(values)
}

// stringTest compares whole texts; * and ? are themselves.
func stringTest(same func(want, got string) bool) func(string, bool) (test, error) {
	return func(value string, variables bool) (test, error) {
		p, err := compilePattern(value, plainText, false, variables)
		if err != nil {
			return nil, err
		}
		return func(got string, values lookup) (bool, bool) {
			tokens, ok := p.resolved(values)
			if !ok {
				return false, false
			}
			want := ""
			if len(tokens) > 0 {
				want = tokens[0].text // literals are joined
			}
			return same(want, got), true
		}, nil
	}
}

func likeTest(value string, variables bool) (test, error) {
	p, err := compilePattern(value, plainText, true, variables)
	if err != nil {
		return nil, err
	}
	return p.match, nil
}

func arnTest(value string, variables bool) (test, error) {
	p, err := compilePattern(value, strictARN, true, variables)
	if err != nil {
		return nil, err
	}
	if value == "*" {
		p.form, p.tokens = plainText, []token{{kind: many}}
	} else if !p.variable && (!strings.HasPrefix(value, "arn:") || strings.Count(value, ":") < arnColons) {
		return nil, fault.New(fault.Invalid, "The condition value %q is not an ARN: it needs the form arn:partition:service:region:account:resource.", value)
	}
	return func(got string, values lookup) (bool, bool) {
		matched, ok := p.match(got, values)
		return matched && strings.HasPrefix(got, "arn:"), ok
	}, nil
}

func numberTest(compare func(want, got float64) bool) func(string, bool) (test, error) {
	return func(value string, _ bool) (test, error) {
		want, ok := number(value)
		if !ok {
			return nil, fault.New(fault.Invalid, "The condition value %q is not a number.", value)
		}
		return func(got string, _ lookup) (bool, bool) {
			n, ok := number(got)
			return ok && compare(want, n), true
		}, nil
	}
}

// number is an integer or a decimal; the words and bases of Go are no numbers here.
func number(text string) (float64, bool) {
	if text == "" || strings.Trim(text, "+-.0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil && !math.IsInf(n, 0)
}

func dateTest(compare func(want, got time.Time) bool) func(string, bool) (test, error) {
	return func(value string, _ bool) (test, error) {
		want, ok := date(value)
		if !ok {
			return nil, fault.New(fault.Invalid, "The condition value %q is not a date: write 2026-01-31T12:00:00Z, or seconds since 1970.", value)
		}
		return func(got string, _ lookup) (bool, bool) {
			at, ok := date(got)
			return ok && compare(want, at), true
		}, nil
	}
}

// The forms of ISO 8601 that W3C's note lists, and AWS with it.
var dateForms = []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02", "2006-01", "2006"}

func date(text string) (time.Time, bool) {
	for _, form := range dateForms {
		if at, err := time.Parse(form, text); err == nil {
			return at, true
		}
	}
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil && len(text) > 4 && seconds >= 0 && seconds < 1<<40 {
		return time.Unix(seconds, 0), true
	}
	return time.Time{}, false
}

func boolTest(value string, _ bool) (test, error) {
	if !strings.EqualFold(value, "true") && !strings.EqualFold(value, "false") {
		return nil, fault.New(fault.Invalid, "The condition value %q is neither true nor false.", value)
	}
	return func(got string, _ lookup) (bool, bool) { return strings.EqualFold(got, value), true }, nil
}

func addressTest(value string, _ bool) (test, error) {
	prefix, err := netip.ParsePrefix(value)
	if err != nil {
		a, err := netip.ParseAddr(value)
		if err != nil || a.Zone() != "" {
			return nil, fault.New(fault.Invalid, "The condition value %q is neither an IP address nor a CIDR range.", value)
		}
		prefix = netip.PrefixFrom(a, a.BitLen())
	}
	if prefix.Addr().Is4In6() {
		return nil, fault.New(fault.Invalid, "Write the condition value %q as an IPv4 range.", value)
	}
	prefix = prefix.Masked()
	return func(got string, _ lookup) (bool, bool) {
		a, err := netip.ParseAddr(got)
		return err == nil && prefix.Contains(a.Unmap()), true
	}, nil
}
