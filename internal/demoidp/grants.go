package demoidp

import (
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"strings"
	"time"
)

// family is one consent's line of refresh tokens: each use replaces the token,
// and an old one that comes back ends the line.
type family struct {
	ID       string        `json:"id"`
	ClientID string        `json:"client_id"`
	Person   string        `json:"person"`
	Scopes   []string      `json:"scopes"`
	Nonce    string        `json:"nonce,omitempty"`
	AuthTime time.Time     `json:"auth_time"`
	Ends     time.Time     `json:"ends"`             // when its last token has expired
	Tokens   []refreshMark `json:"tokens,omitempty"` // oldest first; none without offline access
}

// refreshMark is what is kept of a refresh token.
type refreshMark struct {
	Hash    []byte    `json:"sha256"`
	Expires time.Time `json:"expires"`
	Rotated time.Time `json:"rotated,omitzero"` // when it was first used; zero while it is live
}

// history is how many of a family's tokens are remembered: an even older one
// is refused like an unknown one.
const history = 64

// addRefresh makes the family's next refresh token. Its first part names the
// family, so that a token of the family's past is recognised. Caller holds p.mu.
func (p *Provider) addRefresh(f *family, now time.Time) string {
	secret := random()
	token := "demo-refresh." + f.ID + "." + secret
	hash := sha256.Sum256([]byte(token))
	f.Ends = now.Add(p.refreshFor)
	f.Tokens = append(f.Tokens, refreshMark{Hash: hash[:], Expires: f.Ends})
	if len(f.Tokens) > history {
		f.Tokens = slices.Delete(f.Tokens, 0, len(f.Tokens)-history)
	}
	return token
}

// keep files a new family. Families that nothing can revive go; at the limit so
// does the one that would be the next to go. Caller holds p.mu.
func (p *Provider) keep(f *family, now time.Time) {
	f.Ends = now.Add(p.levers.lifetime)
	if len(p.families) >= maxFamilies {
		p.prune(now)
	}
	p.families[f.ID] = f
}

func (p *Provider) prune(now time.Time) {
	var first *family
	for id, f := range p.families {
		if !now.Before(f.Ends) {
			delete(p.families, id)
			continue
		}
		if first == nil || f.Ends.Before(first.Ends) {
			first = f
		}
	}
	if len(p.families) >= maxFamilies {
		delete(p.families, first.ID)
	}
}

// rotate spends a refresh token of the client and returns its family and the
// next token. Caller holds p.mu.
func (p *Provider) rotate(token, clientID string, now time.Time) (*family, string, *oauthError) {
	refused := badRequest("invalid_grant", "The refresh token is expired, revoked, or was never issued to this client.")
	f := p.familyOf(token)
	if f == nil || f.ClientID != clientID {
		return nil, "", refused
	}
	hash := sha256.Sum256([]byte(token))
	i := slices.IndexFunc(f.Tokens, func(m refreshMark) bool { return subtle.ConstantTimeCompare(m.Hash, hash[:]) == 1 })
	if i < 0 {
		return nil, "", refused
	}
	mark := &f.Tokens[i]
	if !mark.Rotated.IsZero() && now.Sub(mark.Rotated) >= p.grace {
		p.end(f, now)
		return nil, "", badRequest("invalid_grant", "The refresh token was used before; all that was issued with it is revoked.")
	}
	if !now.Before(mark.Expires) {
		return nil, "", refused
	}
	if mark.Rotated.IsZero() {
		mark.Rotated = now
	}
	return f, p.addRefresh(f, now), nil
}

func (p *Provider) familyOf(refreshToken string) *family {
	rest, ok := strings.CutPrefix(refreshToken, "demo-refresh.")
	if !ok {
		return nil
	}
	id, _, _ := strings.Cut(rest, ".")
	return p.families[id]
}

// end revokes a family: its refresh tokens at once, its access tokens by their
// family claim for as long as one can still be alive. Caller holds p.mu and saves.
func (p *Provider) end(f *family, now time.Time) {
	delete(p.families, f.ID)
	p.forbid(f.ID, now)
}

func (p *Provider) forbid(familyID string, now time.Time) {
	p.revoked.put(familyID, struct{}{}, now, now.Add(max(p.levers.longest, p.levers.lifetime)+time.Second))
}
