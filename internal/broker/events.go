package broker

import (
	"context"
	"strconv"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// What operators hear of at once.
const (
	ConsentGiven  = "consent.given"          // somebody's tokens are kept
	ConsentDenied = "consent.denied"         // somebody said no at the provider
	NeedsConsent  = "grant.needs_consent"    // a provider has withdrawn a grant: its agent gets a link again
	AllAskedAgain = "provider.needs_consent" // a provider was changed into another one, and all of its grants ask again
)

// Event is one of these. It names things and holds no secret.
type Event struct {
	Type     string
	Account  string
	Workload string // name; empty for a provider's
	User     string // principal.User in one line
	Provider string // name
	Grant    string // id, where there is one
	Grants   int64  // of AllAskedAgain: how many
}

// tell hands an event of a grant to whoever was named in Options, in the
// transaction that makes it true: it is told if that is committed.
func (b *Broker) tell(tx *store.Tx, kind string, key vault.Key, grantID string) error {
	if b.options.Tell == nil {
		return nil
	}
	e := Event{Type: kind, Account: key.Account, User: key.User.String(), Grant: grantID}
	p, err := b.providerByID(tx, key.Account, key.ProviderID)
	if err != nil {
		return err
	}
	e.Provider = p.Name
	workload, err := b.identity.Get(tx, key.Account, key.WorkloadID)
	if err != nil {
		return err
	}
	e.Workload = workload.Name
	return fault.Wrap(b.options.Tell(tx, e), "telling what happened")
}

// tellAll says that all grants of a provider ask again.
func (b *Broker) tellAll(tx *store.Tx, p *Provider, marked int64) error {
	if b.options.Tell == nil || marked == 0 {
		return nil
	}
	return fault.Wrap(b.options.Tell(tx, Event{Type: AllAskedAgain, Account: p.Account, Provider: p.Name, Grants: marked}), "telling what happened")
}

// withdrawn marks a grant that its provider has withdrawn, and tells.
func (b *Broker) withdrawn(ctx context.Context, grant *vault.Grant) error {
	gate.Detail(ctx, "needs_consent", grant.ID)
	gate.Detail(ctx, "grant_version", strconv.FormatInt(grant.Version, 10))
	return b.db.Update(ctx, func(tx *store.Tx) error {
		current, err := b.vault.Get(tx, grant.Account, grant.ID)
		if err != nil || current == nil || current.State != vault.Active || current.Version != grant.Version {
			return err // somebody has marked it, or consented anew
		}
		if err := b.vault.MarkNeedsConsent(tx, grant.Account, grant.ID, grant.Version); err != nil {
			return err
		}
		return b.tell(tx, NeedsConsent, grant.Key, grant.ID)
	})
}
