package openapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gateway"
)

// What a call may make of the at most 6 MB that it came as: a list is repeated
// under its parameter's name for each of its elements, so that it could come to
// many times that.
const (
	maxAddress = 64 << 10 // bytes of a URL; servers take 8 to 64 KB
	maxList    = 64 << 10 // bytes of JSON of a list that is written as text
	maxForm    = 6 << 20  // bytes of names and values
)

// mistake is what the model is told about arguments that do not fit; it can do
// better with it on the next call.
func mistake(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }

// extra is a body member without a place of its own.
type extra struct {
	name  string
	value json.RawMessage
}

// request makes the HTTP request of a call.
func (o *operation) request(ctx context.Context, server string, arguments []gateway.Argument) (*http.Request, error) {
	values, extras, err := o.sort(arguments)
	if err != nil {
		return nil, err
	}
	address, err := o.address(server, values)
	if err != nil {
		return nil, err
	}
	content, err := o.content(values, extras)
	if err != nil {
		return nil, err
	}
	var reader io.Reader
	if content != nil {
		reader = bytes.NewReader(content)
	}
	request, err := http.NewRequestWithContext(ctx, o.Method, address, reader)
	if err != nil {
		return nil, fault.Wrap(err, "building the target's request")
	}
	request.Header["Accept"] = []string{"application/json, */*;q=0.8"}
	request.Header["User-Agent"] = []string{"onbehalf-gateway"}
	if content != nil {
		request.Header["Content-Type"] = []string{o.Body.Media}
	}
	return request, o.headers(request.Header, values)
}

// sort lays the arguments beside their places and says which are missing.
func (o *operation) sort(arguments []gateway.Argument) ([]json.RawMessage, []extra, error) {
	values := make([]json.RawMessage, len(o.Arguments))
	var extras []extra
	bodied := o.Body != nil && o.Body.Required
	for _, given := range arguments {
		i, known := o.byName[given.Name]
		if !known {
			if o.Body == nil || !o.Body.Open {
				return nil, nil, mistake("There is no argument %q. The arguments are: %s.", clip(given.Name, 100), o.names())
			}
			extras, bodied = append(extras, extra{given.Name, given.Value}), true
			continue
		}
		a := &o.Arguments[i]
		inTheBody := a.Place == inBody || a.Place == asBody
		if string(given.Value) == "null" && !inTheBody {
			continue // nothing was chosen
		}
		if !fits(a, given.Value) {
			return nil, nil, mistake("The argument %q must be of type %s.", a.Name, a.Type)
		}
		values[i] = given.Value
		bodied = bodied || inTheBody
	}
	var missing []string
	for i := range o.Arguments {
		a := &o.Arguments[i]
		if values[i] != nil || !a.Required {
			continue
		}
		if a.Default != nil {
			values[i] = a.Default
			continue
		}
		if a.Place == inBody && !bodied {
			continue
		}
		missing = append(missing, a.Name)
	}
	if len(missing) > 0 {
		return nil, nil, mistake("These arguments are required and missing: %s.", strings.Join(missing, ", "))
	}
	return values, extras, nil
}

func (o *operation) names() string {
	names := make([]string, 0, len(o.Arguments))
	for _, a := range o.Arguments {
		names = append(names, a.Name)
	}
	if len(names) == 0 {
		return "none"
	}
	return clip(strings.Join(names, ", "), 1000)
}

// address is the URL: the server, the path with its arguments, the query.
func (o *operation) address(server string, values []json.RawMessage) (string, error) {
	var b strings.Builder
	b.WriteString(server)
	for _, s := range o.Path {
		b.WriteByte('/')
		start := b.Len()
		argued := false
		for _, p := range s {
			if p.Argument == nil {
				b.WriteString(p.Text)
				continue
			}
			argued = true
			text, err := pathText(&o.Arguments[*p.Argument], values[*p.Argument])
			if err != nil {
				return "", err
			}
			b.WriteString(text)
		}
		if argued && climbs(b.String()[start:]) {
			return "", mistake("The arguments would make a path segment of dots.")
		}
		if b.Len() > maxAddress {
			return "", errAddress
		}
	}
	separator := byte('?')
	if o.Query != "" {
		b.WriteByte(separator)
		b.WriteString(o.Query)
		separator = '&'
	}
	for i, value := range values {
		a := &o.Arguments[i]
		if a.Place != inQuery || value == nil {
			continue
		}
		list, err := texts(a, value)
		if err != nil {
			return "", err
		}
		if !a.Explode && len(list) > 0 {
			escaped := make([]string, len(list))
			for j, text := range list {
				escaped[j] = url.QueryEscape(text)
			}
			b.WriteByte(separator)
			b.WriteString(url.QueryEscape(a.Wire) + "=" + strings.Join(escaped, ","))
			separator = '&'
			list = nil
		}
		for _, text := range list {
			b.WriteByte(separator)
			b.WriteString(url.QueryEscape(a.Wire) + "=" + url.QueryEscape(text))
			separator = '&'
			if b.Len() > maxAddress {
				break
			}
		}
		if b.Len() > maxAddress {
			return "", errAddress
		}
	}
	return b.String(), nil
}

var errAddress = mistake("The arguments make the URL longer than %d KB.", maxAddress>>10)

// pathText is an argument as part of one path segment. What a server might take
// for a segment of its own, or for the way up, is refused even though it would
// be sent escaped: too many servers decode before they route.
func pathText(a *argument, value json.RawMessage) (string, error) {
	list, err := texts(a, value)
	if err != nil {
		return "", err
	}
	for i, text := range list {
		if text == "" {
			return "", mistake("The argument %q must not be empty.", a.Name)
		}
		if strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0 {
			return "", mistake("The argument %q must not have control characters.", a.Name)
		}
		if climbs(text) {
			return "", mistake("The argument %q must not have . or .. as a path segment.", a.Name)
		}
		list[i] = url.PathEscape(text)
	}
	if len(list) == 0 {
		return "", mistake("The argument %q must not be empty.", a.Name)
	}
	return strings.Join(list, ","), nil
}

// climbs reports whether a text has dots between slashes or backslashes, as it is
// or after it is decoded once more. Java servers take what follows a semicolon
// for a parameter of the segment: "..;" is "..".
func climbs(text string) bool {
	decoded, err := url.PathUnescape(text)
	if err != nil {
		decoded = text
	}
	for _, form := range [...]string{text, decoded} {
		for part := range strings.FieldsFuncSeq(form, func(r rune) bool { return r == '/' || r == '\\' }) {
			if part, _, _ = strings.Cut(part, ";"); dots(part) {
				return true
			}
		}
	}
	return false
}

// escapePath is for the document's own text, which may be escaped already.
func escapePath(text string) string {
	if _, err := url.PathUnescape(text); err == nil && strings.Contains(text, "%") && printable(text) {
		return text
	}
	return (&url.URL{Path: text}).EscapedPath()
}

func printable(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) < 0
}

func (o *operation) headers(header http.Header, values []json.RawMessage) error {
	for i, value := range values {
		a := &o.Arguments[i]
		if a.Place != inHeader || value == nil {
			continue
		}
		list, err := texts(a, value)
		if err != nil {
			return err
		}
		text := strings.Join(list, ",")
		if strings.IndexFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r >= 0x7f }) >= 0 || len(text) > 8<<10 {
			return mistake("The argument %q goes into a header: it must be printable ASCII of at most 8 KB.", a.Name)
		}
		header.Set(a.Wire, text)
	}
	return nil
}
