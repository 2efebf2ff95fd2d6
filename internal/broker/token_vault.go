package broker

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
)

// GetTokenVault shows which key the account's credentials are sealed with. There
// is one vault, called default, from the beginning of the account on.
func (b *Broker) GetTokenVault(ctx context.Context, caller principal.Caller, r *api.GetTokenVaultRequest) (*api.GetTokenVaultResponse, error) {
	if r.TokenVaultId != nil && *r.TokenVaultId != api.TokenVaultID {
		return nil, fault.New(fault.NotFound, "Token vault %s not found. Each account has one, called %s.", *r.TokenVaultId, api.TokenVaultID)
	}
	changed, err := b.keeper.Changed(ctx, caller.Account, seal.Vault)
	if err != nil {
		return nil, err
	}
	return &api.GetTokenVaultResponse{
		TokenVaultId:     api.TokenVaultID,
		KmsConfiguration: &api.KmsConfiguration{KeyType: api.KeyTypeServiceManagedKey},
		LastModifiedDate: api.Epoch(changed),
	}, nil
}
