package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// Safe makes of any error of an *http.Client of this package what Do returns:
// a *fault.Error whose message and cause name no more of the URL than its
// host, and no bytes that the other side sent.
func Safe(err error) error {
	if err == nil {
		return nil
	}
	host := "the host"
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		if u, parseErr := url.Parse(wrapped.URL); parseErr == nil && u.Host != "" {
			host = u.Host
		}
		err = wrapped.Err
	}
	return explain(err, host)
}

// explain says in a sentence what went wrong with a host.
func explain(err error, host string) error {
	var known *fault.Error
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var timeout interface{ Timeout() bool }
	var result *fault.Error
	switch {
	case errors.As(err, &known): // permit, judge or checkRedirect said no
		return known
	case errors.Is(err, context.Canceled):
		result = fault.New(fault.Unavailable, "The request to %s was cancelled.", host)
	case errors.As(err, &dns) && dns.IsNotFound:
		result = fault.New(fault.Upstream, "The name of %s does not resolve.", host)
	case errors.As(err, &certificate):
		result = fault.New(fault.Upstream, "The certificate of %s is not trusted.", host)
	case errors.As(err, &record):
		result = fault.New(fault.Upstream, "%s does not speak TLS.", host)
	case errors.As(err, &timeout) && timeout.Timeout():
		result = fault.New(fault.Unavailable, "%s did not answer in time.", host)
	default:
		result = fault.New(fault.Unavailable, "The connection to %s failed.", host)
	}
	return result.Because(quiet(err))
}

// quiet keeps the causes whose text is known to hold addresses and codes only.
// Others, such as a malformed header, quote what the other side sent, which may
// echo what we sent; of them the beginning is kept.
func quiet(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var operation *net.OpError
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var protocol textproto.ProtocolError
	switch {
	case errors.As(err, &operation):
		return operation
	case errors.As(err, &dns):
		return dns
	case errors.As(err, &certificate):
		return certificate
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.As(err, &protocol):
		return errors.New("malformed header")
	}
	text, _, _ := strings.Cut(err.Error(), `"`)
	return errors.New(text)
}

// ReadAll reads a body to its end and closes it. A body of more than limit bytes,
// counted after decompression, is a fault.Upstream: memory is spent on limit
// bytes at most, whatever the other side sends. A body that was read after the
// request's context had ended is an error, however complete it looks.
func ReadAll(r *http.Response, limit int64) ([]byte, error) {
	defer r.Body.Close()
	host, ended := "the host", func() error { return nil }
	if r.Request != nil && r.Request.URL != nil {
		host, ended = r.Request.URL.Host, r.Request.Context().Err
	}
	tooLarge := func() error {
		return fault.New(fault.Upstream, "The answer of %s is larger than %d bytes.", host, limit)
	}
	if r.ContentLength > limit {
		return nil, tooLarge()
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err == nil {
		err = ended() // a body that ends once we are leaving may be half of one
	}
	if err != nil {
		return nil, explain(err, host)
	}
	if int64(len(data)) > limit {
		return nil, tooLarge()
	}
	return data, nil
}
