package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/sigv4"
	"github.com/onbehalf/onbehalf/internal/store"
)

// MaxSession is the longest that temporary credentials live.
const MaxSession = time.Hour

// Credentials are temporary credentials of a role.
type Credentials struct {
	KeyID        string // ASIA…
	Secret       secret.Text
	SessionToken secret.Text
	Expires      time.Time
}

// session is what a session token says. The token is sealed and no row is
// written: any replica opens it, and issuing one costs nothing to store.
type session struct {
	Secret  string `json:"s"`
	Role    string `json:"r"`           // name
	RoleID  string `json:"i"`           // so that a role made anew under the name is another
	Name    string `json:"n"`           // of the session, for refusals and records
	Expires int64  `json:"e"`           // microseconds
	Place   string `json:"p,omitempty"` // the hosted session from which alone it is good
}

// tokenMark opens a session token; the account follows, and the sealed session.
const tokenMark = "onbehalf1"

// IssueSession makes temporary credentials of a role. name says in records what
// they are for. They work until they expire, at most an hour, or the role is
// deleted; what they may do follows the role's policies as they are at each request.
func (a *Authenticator) IssueSession(ctx context.Context, account, role, name string, life time.Duration) (Credentials, error) {
	return a.IssueSessionAt(ctx, account, role, name, "", life)
}

// IssueSessionAt is IssueSession for a hosted agent: the credentials are good in
// requests from that session alone (principal.Request.Session). Whoever steals them
// cannot use them from elsewhere, and they end with the session.
func (a *Authenticator) IssueSessionAt(ctx context.Context, account, role, name, place string, life time.Duration) (Credentials, error) {
	if life <= 0 || life > MaxSession {
		return Credentials{}, fault.New(fault.Invalid, "Temporary credentials live at most %s.", MaxSession)
	}
	if !validName(name) {
		return Credentials{}, fault.New(fault.Invalid, "A session's name has 1 to 64 letters, digits or any of +=,.@_-")
	}
	var id string
	if err := a.db.View(ctx, func(tx *store.Tx) (err error) {
		id, err = roleID(tx, account, role)
		return err
	}); err != nil {
		return Credentials{}, err
	}
	key := newKey("ASIA")
	expires := a.now().Add(life)
	content, err := json.Marshal(session{Secret: key.Secret.Reveal(), Role: role, RoleID: id, Name: name, Expires: store.Micros(expires), Place: place})
	if err != nil {
		return Credentials{}, fault.Wrap(err, "encoding a session")
	}
	defer clear(content)
	sealed, err := a.keeper.Seal(ctx, sessionContext(account, key.ID), content)
	if err != nil {
		return Credentials{}, err
	}
	token := tokenMark + account + base64.RawStdEncoding.EncodeToString(sealed)
	return Credentials{KeyID: key.ID, Secret: key.Secret, SessionToken: secret.New(token), Expires: expires}, nil
}

// temporary is the caller and the signing key that a session token proves,
// before the signature is checked. Whatever is not a live token of ours looks
// like a key that never was; one that ran out says so, as SDKs then fetch another.
func (a *Authenticator) temporary(ctx context.Context, header *sigv4.Header) (principal.Caller, sigv4.SigningKey, error) {
	var nobody principal.Caller
	text, ours := strings.CutPrefix(header.SessionToken.Reveal(), tokenMark)
	if !ours || len(text) < 12 || checkAccount(text[:12]) != nil {
		return nobody, sigv4.SigningKey{}, unknownKey()
	}
	account := text[:12]
	sealed, err := base64.RawStdEncoding.DecodeString(text[12:])
	if err != nil {
		return nobody, sigv4.SigningKey{}, unknownKey()
	}
	content, err := a.keeper.Open(ctx, sessionContext(account, header.AccessKeyID), sealed)
	if err != nil {
		if fault.Is(err, fault.Unavailable) {
			return nobody, sigv4.SigningKey{}, err
		}
		return nobody, sigv4.SigningKey{}, unknownKey()
	}
	defer clear(content)
	var s session
	if err := json.Unmarshal(content, &s); err != nil {
		return nobody, sigv4.SigningKey{}, fault.Wrap(err, "decoding a session")
	}
	if s.Place != "" && s.Place != principal.RequestOf(ctx).Session {
		return nobody, sigv4.SigningKey{}, unknownKey()
	}
	if !a.now().Before(store.Time(s.Expires)) {
		return nobody, sigv4.SigningKey{}, fault.New(fault.ExpiredToken, "The security token included in the request is expired")
	}
	id, err := a.roles.Look(ctx, account+" "+s.Role, func(tx *store.Tx) (string, error) { return roleID(tx, account, s.Role) })
	if fault.Is(err, fault.NotFound) || err == nil && id != s.RoleID {
		return nobody, sigv4.SigningKey{}, unknownKey()
	}
	if err != nil {
		return nobody, sigv4.SigningKey{}, err
	}
	caller := principal.Caller{
		Kind: principal.Role, Account: account, ARN: "arn:aws:sts::" + account + ":assumed-role/" + s.Role + "/" + s.Name,
		KeyID: header.AccessKeyID, Request: principal.RequestOf(ctx),
	}
	return caller, sigv4.DeriveKey(secret.New(s.Secret), header.Credential), nil
}

// sessionContext binds a token to its account and its key id.
func sessionContext(account, keyID string) seal.Context {
	return seal.Context{Account: account, Purpose: seal.Sessions, Kind: "role-session", Row: keyID, Version: 1}
}
