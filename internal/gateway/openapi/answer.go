package openapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gateway"
	"github.com/onbehalf/onbehalf/internal/secret"
)

const (
	maxAnswer   = 6 << 20 // bytes of a target's answer, decompressed, as AWS has it
	maxRefusal  = 2 << 10 // bytes of a refusal's body that the model gets to read
	maxReadable = 64 << 10
)

// answer reads the target's response. Success becomes its body; a refusal
// becomes a sentence that says the status, a bounded piece of the body, and what
// may help.
//
// A target that echoes its request's headers must not hand the user's token to
// the agent: the credential is masked wherever it appears.
func answer(response *http.Response, call gateway.Call) (*gateway.Answer, error) {
	defer response.Body.Close()
	status := response.StatusCode
	if err := decompress(response); err != nil {
		return nil, err
	}
	if status < 200 || status > 299 {
		return refusal(response, call), nil
	}
	content, err := readAll(response, maxAnswer)
	if err != nil {
		return nil, err
	}
	content = masked(content, call.Credential)
	if len(content) == 0 {
		return &gateway.Answer{Text: []byte(fmt.Sprintf("%d %s, without content", status, http.StatusText(status))), Status: status}, nil
	}
	media := response.Header.Get("Content-Type")
	if !readable(media, content) {
		return &gateway.Answer{Text: []byte(fmt.Sprintf("The target answered with %d bytes of %s, which is not text.", len(content), clip(printed(essence(media)), 80))), IsError: true, Status: status}, nil
	}
	a := &gateway.Answer{Text: content, Status: status}
	if object := bytes.TrimSpace(content); len(object) > 0 && object[0] == '{' && utf8.Valid(object) && json.Valid(object) {
		a.Object = object
	}
	return a, nil
}

func masked(content []byte, credential secret.Text) []byte {
	if credential.Empty() {
		return content
	}
	value := credential.Reveal() // a key may have travelled in the query
	for _, spelling := range []string{value, url.QueryEscape(value), url.PathEscape(value)} {
		if bytes.Contains(content, []byte(spelling)) {
			content = bytes.ReplaceAll(content, []byte(spelling), []byte("[redacted]"))
		}
	}
	return content
}

// decompress undoes gzip, which some servers use unasked. The limits hold for
// what comes out.
func decompress(response *http.Response) error {
	switch encoding := strings.ToLower(response.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		return nil
	case "gzip", "x-gzip":
		reader, err := gzip.NewReader(response.Body)
		if err == io.EOF {
			return nil // no body at all
		}
		if err != nil {
			return fault.New(fault.Upstream, "The target's answer is not the gzip that it says it is.").Because(err)
		}
		response.Body, response.ContentLength = struct {
			io.Reader
			io.Closer
		}{reader, response.Body}, -1
		return nil
	default:
		return fault.New(fault.Upstream, "The target's answer has the Content-Encoding %s, which was not asked for.", clip(printed(encoding), 40))
	}
}

// readAll reads up to limit bytes, in one piece where the length is known.
func readAll(response *http.Response, limit int64) ([]byte, error) {
	if response.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	var buffer bytes.Buffer
	if response.ContentLength > 0 {
		buffer.Grow(int(response.ContentLength) + bytes.MinRead)
	}
	n, err := buffer.ReadFrom(io.LimitReader(response.Body, limit+1))
	switch {
	case err != nil:
		return nil, fault.New(fault.Upstream, "The target's answer broke off.").Because(err)
	case n > limit:
		return nil, tooLarge(limit)
	}
	return buffer.Bytes(), nil
}

func tooLarge(limit int64) error {
	return fault.New(fault.Upstream, "The target's answer is larger than %d MB. Ask for less, for example with a page size or a filter.", limit>>20)
}

func refusal(response *http.Response, call gateway.Call) *gateway.Answer {
	used := call.Credential
	credential := !used.Empty()
	status := response.StatusCode
	var b strings.Builder
	fmt.Fprintf(&b, "The target answered %d %s.", status, http.StatusText(status))
	switch {
	case status == http.StatusUnauthorized && credential && !call.ForUser:
		b.WriteString(" It did not accept this gateway's own credential for it: an operator has to mend that.")
	case status == http.StatusUnauthorized && credential:
		b.WriteString(" It did not accept the user's access token: the user or the provider may have revoked the consent. Ask for it again by calling once with forceAuthentication.")
	case status == http.StatusUnauthorized:
		b.WriteString(" It wants credentials, and this gateway target has none configured.")
	case status == http.StatusForbidden && credential && !call.ForUser:
		b.WriteString(" The gateway's own credential for it may not do this.")
	case status == http.StatusForbidden && credential:
		b.WriteString(" The user, or the scopes consented to, may not do this.")
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		if after := printed(response.Header.Get("Retry-After")); after != "" {
			fmt.Fprintf(&b, " Retry-After: %s.", clip(after, 60))
		} else if status == http.StatusTooManyRequests {
			b.WriteString(" Too many requests; try again later.")
		}
	case status >= 300 && status < 400:
		b.WriteString(" The gateway does not follow redirects.")
	}
	content, _ := io.ReadAll(io.LimitReader(response.Body, maxReadable))
	content = masked(content, used)
	if content = bytes.TrimSpace(content); len(content) > 0 && readable(response.Header.Get("Content-Type"), content) {
		b.WriteString("\n")
		b.WriteString(clip(strings.ToValidUTF8(string(content), "\uFFFD"), maxRefusal))
	}
	return &gateway.Answer{Text: []byte(b.String()), IsError: true, Status: status}
}

// readable reports whether a body is text.
func readable(media string, content []byte) bool {
	switch m := essence(media); {
	case media == "":
		return utf8.Valid(content)
	case strings.HasPrefix(m, "text/"), isJSON(m), strings.HasSuffix(m, "+xml"), strings.HasSuffix(m, "+yaml"):
		return true
	case m == "application/xml", m == "application/yaml", m == "application/x-ndjson", m == "application/javascript", m == mediaForm:
		return true
	case m == "application/octet-stream":
		return utf8.Valid(content) && !bytes.ContainsRune(content, 0)
	}
	return false
}

func printed(s string) string { return control.ReplaceAllString(s, " ") }

// unreachable says why there is no answer. egress explains its own refusals.
func unreachable(ctx context.Context, err error) error {
	err = egress.Safe(err) // without the URL's query, which holds arguments
	var known *fault.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.Unavailable, "The target did not answer in time.").Because(err)
	case errors.Is(ctx.Err(), context.Canceled):
		return fault.New(fault.Unavailable, "The caller left before the target answered.").Because(err)
	}
	return fault.New(fault.Unavailable, "The target could not be reached.").Because(err)
}
