package egress

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// OperatorOptions configures Operator.
type OperatorOptions struct {
	Roots *x509.CertPool // the certificate authorities to trust; nil is the system's
}

// Operator is the way to the operator's own servers: key management, secret
// stores. Their addresses come from settings and never from a tenant, and are
// private as a rule, so the guard of Client is not theirs. What remains: https,
// or http on loopback, where an agent or a test listens; no redirect is followed, because these
// requests carry tokens; no proxy; ten seconds. Errors need Safe, as those of Client.HTTP.
func Operator(o OperatorOptions) *http.Client {
	return &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: neverRedirect,
		Transport: operators{&http.Transport{
			DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			ForceAttemptHTTP2:      true,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots},
			TLSHandshakeTimeout:    5 * time.Second,
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		}},
	}
}

// operators is the RoundTripper of Operator.
type operators struct{ *http.Transport }

func (t operators) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && (req.URL.Scheme != "http" || !isLoopbackHost(req.URL.Hostname())) {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, fault.New(fault.Upstream, "%s is to be reached by http, which is for loopback only.", req.URL.Host)
	}
	resp, err := t.Transport.RoundTrip(req)
	if err != nil {
		return nil, explain(err, req.URL.Host)
	}
	return resp, nil
}
