package vault

import (
	"errors"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Origin is where a grant was made. Its refresh token is sent to no other place.
type Origin struct {
	Issuer, TokenEndpoint, ClientID string
}

// OriginOf reads where a grant was made. Grants of one provider share the row:
// only an Update that makes the provider another one adds a second.
func (v *Vault) OriginOf(tx *store.Tx, g *Grant) (o Origin, err error) {
	err = tx.QueryRow(`SELECT issuer, token_endpoint, client_id FROM grant_origins WHERE number = $1`, g.origin).Scan(&o.Issuer, &o.TokenEndpoint, &o.ClientID)
	return o, fault.Wrap(err, "reading where a grant was made")
}

// originNumber finds an origin's row, or adds it.
func originNumber(tx *store.Tx, account, providerID string, o Origin) (number int64, err error) {
	for range 2 { // the second round is for a row, or a number, that another replica took in between
		err = tx.QueryRow(`SELECT number FROM grant_origins WHERE provider_id = $1 AND issuer = $2 AND token_endpoint = $3 AND client_id = $4`,
			providerID, o.Issuer, o.TokenEndpoint, o.ClientID).Scan(&number)
		if !errors.Is(err, store.ErrNoRows) {
			return number, fault.Wrap(err, "finding where a grant was made")
		}
		err = tx.QueryRow(`INSERT INTO grant_origins (number, account, provider_id, issuer, token_endpoint, client_id)
			SELECT COALESCE(MAX(number), 0) + 1, $1, $2, $3, $4, $5 FROM grant_origins WHERE 0 = 0 ON CONFLICT DO NOTHING RETURNING number`,
			account, providerID, o.Issuer, o.TokenEndpoint, o.ClientID).Scan(&number)
		if store.IsForeignKey(err) {
			return 0, errDeleted
		}
		if !errors.Is(err, store.ErrNoRows) {
			return number, fault.Wrap(err, "adding where a grant was made")
		}
	}
	return 0, errChanged
}

var (
	errDeleted = fault.New(fault.NotFound, "The workload identity or the credential provider was deleted meanwhile.")
	errChanged = fault.New(fault.Unavailable, "The grant changed underneath. Try again.")
)
