package policy

import (
	"regexp"
	"strings"
	"testing"
)

func TestPatterns(t *testing.T) {
	t.Parallel()
	values := func(key string) []string {
		return map[string][]string{"aws:username": {"ad*a"}, "aws:sourceip": {"1.2.3.4"}}[key]
	}
	for _, c := range []struct {
		form    form
		pattern string
		text    string
		want    bool
	}{
		{plainText, "*", "", true},
		{plainText, "", "", true},
		{plainText, "", "a", false},
		{plainText, "?", "", false},
		{plainText, "?", "é", true},
		{plainText, "??", "é", false},
		{plainText, "a*b*c", "axxbyyc", true},
		{plainText, "a*b*c", "axxbyycd", false},
		{plainText, "*ab", "aab", true},
		{plainText, "a**b", "ab", true},
		{plainText, "*?x", "x", false},
		{plainText, "a", "A", false},
		{plainText, "${*}", "x", false},
		{plainText, "${*}${?}${$}", "*?$", true},
		{plainText, "$x", "$x", true},
		{plainText, "${aws:username}", "ad*a", true},
		{plainText, "${aws:username}", "adxa", false}, // a value is no pattern
		{plainText, "${AWS:UserName}/*", "ad*a/x", true},
		{plainText, "${aws:PrincipalType, 'none'}", "none", true},
		{plainText, "${aws:PrincipalType}", "", false},
		{resourceARN, "arn:aws:s3:::b/*", "arn:aws:s3:::b/c:d", true},
		{resourceARN, "arn:aws:s:us-*-1:1:x", "arn:aws:s:us-east-1:1:x", true},
		{resourceARN, "arn:aws:s:us-*-1:1:x", "arn:aws:s:us-east:2:a-1:1:x", false}, // the * is inside its segment
		{resourceARN, "arn:aws:s:*:1:x", "arn:aws:s:us:2:1:x", true},                // the * ends its segment
		{resourceARN, "arn:aws:s:*", "arn:aws:s:us:1:x", true},
		{resourceARN, "arn:aws:s:?:1:x", "arn:aws:s:::1:x", false},
		{resourceARN, "arn:aws:s3:::b/a1", "arn:aws:s3:::b/\x00\x00", true}, // letters of a secret's ARN that are not known
		{resourceARN, "arn:aws:s3:::b/--", "arn:aws:s3:::b/\x00\x00", false},
		{plainText, "ada", "\x00da", false}, // and nothing else is
		{strictARN, "arn:aws:iam::1:user/ada", "arn:aws:iam::1:user/\x00da", false},
		{strictARN, "arn:aws:s:*:1:x", "arn:aws:s:us:2:1:x", false},
		{strictARN, "arn:*:s:*:*:x*", "arn:aws:s:us:1:x:y", true},
		{strictARN, "arn:aws:iam::1:user/${aws:username}", "arn:aws:iam::1:user/ad*a", true},
		{strictARN, "arn:aws:s:*a*b*c*d*e:1:x", "arn:aws:s:" + strings.Repeat("abcd", 200) + ":1:x", false},
	} {
		p, err := compilePattern(c.pattern, c.form, true, true)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := p.match(c.text, values); got != c.want {
			t.Errorf("%q on %q: %t", c.pattern, c.text, got)
		}
	}
}

// FuzzPattern compares with the same pattern as a regular expression.
func FuzzPattern(f *testing.F) {
	f.Add("a*b?c", "axbyc", false)
	f.Add("arn:aws:s:u*-1:*:x*", "arn:aws:s:us-1:2:x:y", true)
	f.Add("*:*a*:?", "::a::é", true)
	f.Fuzz(func(t *testing.T, source, text string, strict bool) {
		form := plainText
		if strict {
			form = strictARN
		}
		if len(source) > 60 || len(text) > 200 || strings.ContainsRune(text, unknown) || !validUTF8(source, text) {
			return
		}
		p, err := compilePattern(source, form, true, false)
		if err != nil {
			t.Fatal(err)
		}
		var expression strings.Builder
		colons := 0
		for _, r := range source {
			inside := strict && colons < arnColons
			switch {
			case r == '*' && inside:
				expression.WriteString("[^:]*")
			case r == '?' && inside:
				expression.WriteString("[^:]")
			case r == '*':
				expression.WriteString(".*")
			case r == '?':
				expression.WriteString(".")
			default:
				expression.WriteString(regexp.QuoteMeta(string(r)))
			}
			if r == ':' {
				colons++
			}
		}
		want := regexp.MustCompile(`(?s)\A` + expression.String() + `\z`).MatchString(text)
		if got, ok := p.match(text, nil); got != want || !ok {
			t.Errorf("%q on %q: %t, want %t", source, text, got, want)
		}
	})
}

func validUTF8(texts ...string) bool {
	for _, text := range texts {
		if strings.ToValidUTF8(text, "") != text {
			return false
		}
	}
	return true
}
