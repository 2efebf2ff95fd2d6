package broker

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"maps"
	"slices"

	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// question is a TokenRequest in the form that is compared and stored: sets are
// sets, and `resource` and `audience` are where they belong, however they came.
type question struct {
	key        vault.Key // ProviderID is filled in once the provider is known
	scopes     vault.Scopes
	authorizer string
	returnURL  string
	parameters map[string]string
	state      secret.Text
	force      bool
}

// Parameters that are part of what a token is for, and so of the grant's key.
const (
	parameterResource = "resource"
	parameterAudience = "audience"
)

func newQuestion(caller principal.Caller, r TokenRequest) (q question, err error) {
	q = question{
		key:    vault.Key{Account: caller.Account, WorkloadID: caller.Workload.ID, User: caller.User},
		scopes: vault.ScopesOf(r.Scopes), authorizer: caller.Authorizer,
		returnURL: r.ReturnURL, state: r.State, force: r.Force,
	}
	if q.key.Label, q.parameters, err = accountLabel(r.Parameters); err != nil {
		return q, err
	}
	resources, audiences := r.Resources, r.Audiences
	if r.Parameters[parameterResource] != "" || r.Parameters[parameterAudience] != "" {
		q.parameters = maps.Clone(q.parameters)
		if value := r.Parameters[parameterResource]; value != "" {
			resources = append(slices.Clone(resources), value)
		}
		if value := r.Parameters[parameterAudience]; value != "" {
			audiences = append(slices.Clone(audiences), value)
		}
		delete(q.parameters, parameterResource)
		delete(q.parameters, parameterAudience)
	}
	q.key.Resources, q.key.Audiences = vault.Set(resources), vault.Set(audiences)
	return q, nil
}

// fingerprintKey is the MAC key of fingerprints: customState and the values of
// parameters are secrets that may be short, so a bare hash would give them away.
func (b *Broker) fingerprintKey(ctx context.Context, account string) ([]byte, error) {
	return b.keeper.Derive(ctx, account, seal.Sessions, "authorization session fingerprint")
}

// fingerprint is equal for questions that may share a link: same person, same
// purpose, same page to return to, and the same customState and parameters.
func (q question) fingerprint(key []byte) string {
	m := newMAC(key)
	k := q.key
	m.add(k.Account, k.WorkloadID, k.User.Issuer, k.User.Subject, k.User.ID, k.ProviderID, k.Label, q.authorizer, q.returnURL, q.state.Reveal())
	m.addAsked(q)
	return m.text()
}

// lookup is equal for questions that one cached token answers: asked by the same
// workload, for the same user, in the same words. (Whoever is nobody's user leaves
// User empty. A label tells accounts apart that people choose, and nobody chooses here.)
func (q question) lookup(key []byte, o obtaining) string {
	m := newMAC(key)
	k := q.key
	m.add(o.kind, string(o.subject), k.Account, k.WorkloadID, k.User.Issuer, k.User.Subject, k.User.ID, k.ProviderID, q.authorizer)
	m.addAsked(q)
	return m.text()
}

// mac is a keyed hash over lists of texts. Each list and text is preceded by its
// length, so that no two of them read the same.
type mac struct{ hash.Hash }

func newMAC(key []byte) mac { return mac{hmac.New(sha256.New, key)} }

func (m mac) add(parts ...string) {
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(parts)))
	m.Write(size[:])
	for _, part := range parts {
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		m.Write(size[:])
		m.Write([]byte(part))
	}
}

// addAsked adds what the token is asked to be good for.
func (m mac) addAsked(q question) {
	m.add(q.key.Resources...)
	m.add(q.key.Audiences...)
	m.add(q.scopes...)
	for _, name := range slices.Sorted(maps.Keys(q.parameters)) {
		m.add(name, q.parameters[name])
	}
}

func (m mac) text() string { return base64.RawURLEncoding.EncodeToString(m.Sum(nil)) }
