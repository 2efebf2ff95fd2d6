package auth

import (
	"context"
	"net/http"

	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/sigv4"
)

// Spooled is Signed for bodies that may be longer than memory should hold: up to
// a megabyte they are kept there, beyond it in a file without a name (Body).
//
// The order is Signed's: what the headers can decide is decided before a byte is
// read, and nobody gets a byte before the hash of all of them was signed. Who
// sends X-Amz-Content-Sha256 has his signature checked before the body comes.
//
// Bodies that need a file may last longer than the server's ReadTimeout, as long
// as they come at half a megabit per second (see slowest). Errors besides
// Signed's: fault.Throttled where too much lies in files already, for all or for
// one address; fault.Unavailable where the disk is full. On an error there is no
// Body; else it is closed by the caller, always.
func (a *Authenticator) Spooled(w http.ResponseWriter, r *http.Request, limit int64) (caller principal.Caller, body *Body, err error) {
	err = a.counted(r, func() error {
		caller, body, err = a.spooled(w, r, limit)
		return err
	})
	return caller, body, err
}

func (a *Authenticator) spooled(w http.ResponseWriter, r *http.Request, limit int64) (principal.Caller, *Body, error) {
	claim, err := a.headers(r, func(header *sigv4.Header) error { return header.CheckScope(a.opts.Region, Service) })
	if err != nil {
		return principal.Caller{}, nil, err
	}
	said, early := sigv4.PayloadHash(r)
	if early {
		if err := a.proven(r, claim, said); err != nil {
			return principal.Caller{}, nil, err
		}
	}
	body, err := a.spool.read(w, r, limit)
	if err != nil {
		return principal.Caller{}, nil, err
	}
	if !early || body.sum != said {
		if err := a.proven(r, claim, body.sum); err != nil {
			_ = body.Close()
			return principal.Caller{}, nil, err
		}
	}
	return claim.caller, body, nil
}

// SpooledBearer is Bearer with the request's body, kept as Spooled keeps it. The
// token is verified before a byte is read; nothing but TLS vouches for the body.
func (a *Authenticator) SpooledBearer(ctx context.Context, w http.ResponseWriter, r *http.Request, limit int64, account, ownerARN string, z Authorizer) (principal.Caller, *Body, error) {
	caller, err := a.Bearer(ctx, r, account, ownerARN, z)
	if err != nil {
		return principal.Caller{}, nil, err
	}
	body, err := a.spool.read(w, r, limit)
	if err != nil {
		return principal.Caller{}, nil, err
	}
	return caller, body, nil
}
