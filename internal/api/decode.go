package api

import (
	"net/http"
	"net/url"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// Request is what every generated request type can do.
type Request interface {
	BindHTTP(label func(string) string, query url.Values, header http.Header) error
	Validate() []fault.Field
	readBody(*reader)
}

// Decode reads a body into a request. Unknown members are ignored and null is
// the same as absent. It returns a complaint for each required scalar that is
// absent and each enum that is empty, which the struct cannot show; Validate
// finds everything else. A body
// that is not JSON, or has a member of the wrong type, is fault.Invalid.
//
// It does not use encoding/json, which matches names in any case, does not say
// what is absent, and takes several times as long. Every string is copied, so
// that the caller may clear the body.
func Decode(body []byte, into Request) ([]fault.Field, error) {
	d := reader{data: body}
	into.readBody(&d)
	if d.err == nil && d.peek() != 0 {
		d.malformed()
	}
	return d.absent, d.err
}

// emptyObject stands for no body at all.
var emptyObject = []byte("{}")

// missing notes that a required scalar is absent.
func (d *reader) missing(name string) {
	if len(d.absent) >= complaintLimit || d.err != nil {
		return
	}
	path := d.path(name)
	d.absent = append(d.absent, fault.Field{Name: path, Message: "Value null at '" + path + "' failed to satisfy constraint: Member must not be null"})
}

// word reads a value of an enum. The empty one, which no enum has, would look
// like absence in the struct: it is complained of here.
func (d *reader) word(name string, r *rule) string {
	value := d.text(name)
	if value == "" && d.err == nil && len(d.absent) < complaintLimit {
		c := checker{trail: d.trail}
		c.enum(name, value, r)
		d.absent = append(d.absent, c.fields...)
	}
	return value
}
