package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/sigv4"
)

// Signed authenticates a SigV4 request and reads its body, at most limit bytes.
//
// Everything that the headers alone can decide is decided before the body is
// read, so that bytes are only taken from somebody who names a live key and a
// current date. Failures, and only failures, count against the address; while
// too many have been counted it answers fault.Throttled to whatever comes from
// there. Errors otherwise: fault.MissingSignature, UnknownKey, BadSignature,
// StaleSignature, Invalid (the body), Unavailable.
//
// An unknown key answers sooner than a wrong signature. That gives nothing away
// that the two answers, which are AWS's, do not say themselves; signatures are
// compared in constant time. An unknown and a disabled key look the same.
func (a *Authenticator) Signed(w http.ResponseWriter, r *http.Request, limit int64) (principal.Caller, []byte, error) {
	return a.limited(w, r, limit, func(header *sigv4.Header) error { return header.CheckScope(a.opts.Region, Service) })
}

// The signing names of the Query protocol's services.
const (
	ServiceIAM = "iam"
	ServiceSTS = "sts"
)

// globalRegion is what clients sign calls of IAM for, which has no regions.
const globalRegion = "us-east-1"

// SignedQuery is Signed for IAM and STS, whose signatures are never good for
// AgentCore's operations, nor the other way round. It tells which of the two the
// signature is for, as far as it could be read.
func (a *Authenticator) SignedQuery(w http.ResponseWriter, r *http.Request, limit int64) (caller principal.Caller, service string, body []byte, err error) {
	service = ServiceIAM
	caller, body, err = a.limited(w, r, limit, func(header *sigv4.Header) error {
		if header.Service == ServiceSTS {
			service = ServiceSTS
		}
		if header.Region == globalRegion {
			return header.CheckScope(globalRegion, service)
		}
		return header.CheckScope(a.opts.Region, service)
	})
	return caller, service, body, err
}

// limited holds back who fails too often.
func (a *Authenticator) limited(w http.ResponseWriter, r *http.Request, limit int64, scope func(*sigv4.Header) error) (caller principal.Caller, body []byte, err error) {
	err = a.counted(r, func() error {
		caller, body, err = a.signed(w, r, limit, scope)
		return err
	})
	return caller, body, err
}

// counted tries a signature, unless too many from the address were bad.
func (a *Authenticator) counted(r *http.Request, try func() error) error {
	address := addressOf(r)
	if err := a.limits.exhausted(LimitSignature, address); err != nil {
		return err
	}
	err := try()
	if err != nil && Unproven(err) {
		a.limits.spend(LimitSignature, address)
	}
	return err
}

// Unproven reports whether an error of Signed or Bearer is the sender's failure
// to prove himself. A body that is too long or our own trouble is not.
func Unproven(err error) bool {
	switch fault.KindOf(err) {
	case fault.MissingSignature, fault.UnknownKey, fault.BadSignature, fault.StaleSignature, fault.ExpiredToken, fault.Unauthenticated:
		return true
	}
	return false
}

func (a *Authenticator) signed(w http.ResponseWriter, r *http.Request, limit int64, scope func(*sigv4.Header) error) (principal.Caller, []byte, error) {
	claim, err := a.headers(r, scope)
	if err != nil {
		return principal.Caller{}, nil, err
	}
	body, err := readBody(w, r, limit)
	if err != nil {
		return principal.Caller{}, nil, err
	}
	if err := a.proven(r, claim, sha256.Sum256(body)); err != nil {
		return principal.Caller{}, nil, err
	}
	return claim.caller, body, nil
}

// headers decides all that can be decided without the body.
func (a *Authenticator) headers(r *http.Request, scope func(*sigv4.Header) error) (claim, error) {
	header, err := sigv4.Parse(r)
	if err != nil {
		return claim{}, err
	}
	return a.claimedBy(r, header, scope)
}

// claimedBy is headers for a claim that has been parsed.
func (a *Authenticator) claimedBy(r *http.Request, header *sigv4.Header, scope func(*sigv4.Header) error, excused ...string) (claim, error) {
	claimed, err := a.claimed(r.Context(), header)
	if err != nil {
		return claim{}, err
	}
	if err := scope(header); err != nil {
		return claim{}, err
	}
	if err := header.CheckTime(a.now()); err != nil {
		return claim{}, err
	}
	return claimed, header.CheckHeaders(r, excused...)
}

// proven holds the signature against a body of that hash, and notes the key's use.
func (a *Authenticator) proven(r *http.Request, c claim, bodySHA256 [sha256.Size]byte) (err error) {
	signing := c.signing
	if c.key != nil {
		if signing, err = a.keys.signingKey(r.Context(), c.key, c.header.Credential); err != nil {
			return err
		}
	}
	if err := c.header.VerifyWith(r, signing, bodySHA256); err != nil {
		return err
	}
	if c.key != nil {
		c.key.use(a.now())
	}
	return nil
}

// claim is who a request says it is from, before its signature is checked.
type claim struct {
	header  *sigv4.Header
	caller  principal.Caller
	key     *cachedKey       // of an access key; nil for temporary credentials
	signing sigv4.SigningKey // of temporary credentials
}

func (a *Authenticator) claimed(ctx context.Context, header *sigv4.Header) (claim, error) {
	if !header.SessionToken.Empty() {
		caller, signing, err := a.temporary(ctx, header)
		return claim{header: header, caller: caller, signing: signing}, err
	}
	key, err := a.keys.find(ctx, header.AccessKeyID)
	if err != nil {
		return claim{}, err
	}
	return claim{header: header, key: key, caller: principal.Caller{
		Kind: principal.Key, Account: key.account, ARN: key.arn, KeyID: key.id, Root: key.root, Request: principal.RequestOf(ctx),
	}}, nil
}

// unknownKey is AWS's answer to an access key or session token it does not know.
func unknownKey() error {
	return fault.New(fault.UnknownKey, "The security token included in the request is invalid.")
}

// promised is how much memory a Content-Length alone gets: its sender has not
// proven himself yet.
const promised = 64 << 10

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLong(limit)
	}
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	var body []byte
	var err error
	if r.ContentLength > 0 && r.ContentLength <= promised {
		body = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, body) // net/http ends a body at its Content-Length
	} else {
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	}
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLong(limit)
	case err != nil:
		return nil, fault.New(fault.Invalid, "The request body could not be read to its end.").Because(err)
	}
	return body, nil
}

func tooLong(limit int64) error {
	return fault.New(fault.Invalid, "The request body is longer than the %d bytes that are accepted.", limit)
}
