// Package external resolves secrets that lie elsewhere: in the environment, in
// files, in OpenBao or Vault, in AWS Secrets Manager; and finds the keys that
// clients sign with.
//
//	SecretReference{secretId, jsonKey} ──▶ which source? ──▶ fresh in memory? ──▶ value
//	                                         declared for        else read, once,
//	                                         this account        whoever else waits
//	KMS key ARN ──▶ declared for this account? ──▶ file, secret or KMS ──▶ crypto.Signer
//
// An operator declares sources, each for one account, with a prefix or a folder
// (declare.go). A secretId is SOURCE/PATH, or the ARN of a secret in Secrets Manager (reference.go).
//
// What was read is good for ten seconds, so that a secret is rotated where it
// lies and nowhere else. While a source cannot be reached, what it said last is
// used for five minutes more; what it takes back or refuses is gone at once.
// Nothing of it is ever written down.
//
// Invariants: a reference opens nothing outside of the prefix or folder of a
// source of its own account, and none of the platform's own variables, keys and
// files wherever they lie; no error carries a value, nor anything that a source said.
package external

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/singleflight"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/memo"
	"github.com/onbehalf/onbehalf/internal/secret"
)

const (
	freshFor     = 10 * time.Second // a source is not asked for a value again
	lastGoodFor  = 5 * time.Minute  // the value is used while its source cannot be reached
	readTimeout  = 10 * time.Second
	contentLimit = 256 << 10 // bytes of one file, variable or answer; Secrets Manager's own bound is 64 KiB
	cacheWeight  = 16 << 20  // bytes of all that is remembered
)

// Reference is the API's SecretReference.
type Reference struct {
	ID      string // SOURCE/PATH, or an ARN of Secrets Manager
	JSONKey string // the member that is meant; WholeValue where the secret is plain text
}

// Options are what the sources have in common.
type Options struct {
	Region    string   // of this installation, for the ARNs that it shows
	Protected []string // files and folders of the platform: no reference ever opens one, by whatever path
	Variables []string // variables of the platform that do not begin as its own do
}

// reader is one source. It answers what lies at a path below its prefix or folder, or a *problem.
type reader interface {
	read(ctx context.Context, path string) ([]byte, error)
}

// Secrets are the declared sources. It is safe for concurrent use; the nil
// Secrets has no source, and refuses each reference.
type Secrets struct {
	region  string
	sources map[string]map[string]source // by account and name
	now     func() time.Time
	flights singleflight.Group
	known   *memo.Cache[string, content]
}

type source struct {
	Source
	reader reader
}

// content is what a source said, and when. Nobody changes it.
type content struct {
	data   []byte
	at     time.Time
	failed time.Time // when the source, asked anew, could not be reached
}

// usable reports whether the source need not be asked. One that could not be
// reached is left alone for as long as one that answered: whoever asks it may wait for readTimeout.
func (c content) usable(now time.Time) bool {
	return now.Sub(c.at) < freshFor || now.Sub(c.failed) < freshFor && now.Sub(c.at) < lastGoodFor
}

// New opens the sources. An error names the setting, for operators.
func New(sources []Source, o Options) (*Secrets, error) {
	s := &Secrets{
		region: o.Region, sources: map[string]map[string]source{}, now: time.Now,
		known: memo.ByWeight[string](cacheWeight, func(c content) uint32 { return uint32(512 + len(c.data)) }),
	}
	for _, declared := range sources {
		r, err := open(declared, o)
		if err != nil {
			return nil, fmt.Errorf("--secret-source %s: %w", declared.Name, err)
		}
		if s.sources[declared.Account] == nil {
			s.sources[declared.Account] = map[string]source{}
		}
		if _, twice := s.sources[declared.Account][declared.Name]; twice {
			return nil, fmt.Errorf("--secret-source %s: the account %s has two of this name", declared.Name, declared.Account)
		}
		s.sources[declared.Account][declared.Name] = source{declared, r}
	}
	return s, nil
}

func open(s Source, o Options) (reader, error) {
	switch s.Kind {
	case KindEnvironment:
		return environment{s.Prefix, o.Variables}, nil
	case KindFile:
		return openFolder(s.Folder, o.Protected)
	case KindVault:
		return openVault(s)
	}
	return openSecretsManager(s)
}

// operatorClient reaches a server of the operator's.
func operatorClient(caFile string) (*http.Client, error) {
	var roots *x509.CertPool
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("ca-file: %w", err)
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca-file: %s has no certificate", caFile)
		}
	}
	return egress.Operator(egress.OperatorOptions{Roots: roots}), nil
}

// Resolve answers the value that a reference of the account means, of at most
// limit characters. fault.Invalid: the reference or the secret is wrong;
// fault.Unavailable: its source cannot be reached; fault.Undecryptable: it says that it cannot open it.
func (s *Secrets) Resolve(ctx context.Context, account string, r Reference, limit int) (secret.Text, error) {
	from, path, err := s.find(account, r.ID)
	if err != nil {
		return secret.Text{}, err
	}
	if r.JSONKey == "" {
		return secret.Text{}, fault.New(fault.Invalid, "The reference to the secret %s has no jsonKey.", r.ID)
	}
	data, err := s.read(ctx, from, path)
	if err == nil {
		var value string
		if value, err = member(data, r.JSONKey); err == nil {
			if utf8.RuneCountInString(value) > limit {
				err = problemf(fault.Invalid, "its value is longer than %d characters", limit)
			} else {
				return secret.New(value), nil
			}
		}
	}
	var known *problem
	if !errors.As(err, &known) {
		known = problemf(fault.Unavailable, "its source failed").because(err)
	}
	return secret.Text{}, fault.New(known.kind, "The secret %s cannot be read: %s.", r.ID, known.why).Because(known)
}

// read answers from memory what is fresh, else asks the source: one request at a
// time for one secret, which outlives the callers that wait for it.
func (s *Secrets) read(ctx context.Context, from source, path string) ([]byte, error) {
	key := from.Account + "/" + from.Name + "/" + path
	if last, known := s.known.GetIfPresent(key); known && last.usable(s.now()) {
		return last.data, nil
	}
	flight := s.flights.DoChan(key, func() (any, error) {
		reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		last, known := s.known.GetIfPresent(key) // nobody else changes it meanwhile
		at := s.now()
		if known && last.usable(at) {
			return last.data, nil // an earlier flight has just landed
		}
		data, err := fault.ContainValue("reading a secret", func() ([]byte, error) { return from.reader.read(reading, path) })
		var told *problem
		switch definite := errors.As(err, &told) && told.kind != fault.Unavailable; {
		case err == nil:
			s.known.Set(key, content{data: data, at: at})
		case definite:
			s.known.Invalidate(key)
		case known && at.Sub(last.at) < lastGoodFor:
			s.known.Set(key, content{last.data, last.at, s.now()})
			return last.data, nil
		}
		return data, err
	})
	select {
	case result := <-flight:
		data, _ := result.Val.([]byte)
		return data, result.Err
	case <-ctx.Done():
		return nil, problemf(fault.Unavailable, "the request ended before its source had answered").because(ctx.Err())
	}
}

// problem is why a secret cannot be read. why goes to the caller and says
// nothing that came from a source; the cause goes to the log.
type problem struct {
	kind  fault.Kind
	why   string
	cause error
}

func problemf(kind fault.Kind, format string, args ...any) *problem {
	return &problem{kind: kind, why: fmt.Sprintf(format, args...)}
}

func (p *problem) because(cause error) *problem {
	p.cause = cause
	return p
}

// Error is for the log.
func (p *problem) Error() string {
	if p.cause != nil {
		return p.why + ": " + p.cause.Error()
	}
	return p.why
}

// Unwrap gives errors.Is the cause.
func (p *problem) Unwrap() error { return p.cause }

var (
	errNotThere = problemf(fault.Invalid, "there is none of that name in its source")
	errTooLarge = problemf(fault.Invalid, "it is larger than 256 KiB")
	errPlatform = problemf(fault.Invalid, "it belongs to the platform itself, and no provider may use it")
)
