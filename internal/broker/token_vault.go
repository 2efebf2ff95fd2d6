package broker

import (
	"context"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/seal"
)

// GetTokenVault shows which key the account's tokens are sealed under. There is
// one vault, called default, from the beginning of the account on.
func (b *Broker) GetTokenVault(ctx context.Context, caller principal.Caller, r *api.GetTokenVaultRequest) (*api.GetTokenVaultResponse, error) {
	if err := checkVault(r.TokenVaultId); err != nil {
		return nil, err
	}
	chosen, err := b.keeper.Chosen(ctx, caller.Account)
	if err != nil {
		return nil, err
	}
	return &api.GetTokenVaultResponse{TokenVaultId: api.TokenVaultID, KmsConfiguration: shownKey(chosen), LastModifiedDate: api.Epoch(chosen.Changed)}, nil
}

// SetTokenVaultCMK puts the vault under another key, of those that the operator
// declared for the account, or under the platform's own.
func (b *Broker) SetTokenVaultCMK(ctx context.Context, caller principal.Caller, r *api.SetTokenVaultCMKRequest) (*api.SetTokenVaultCMKResponse, error) {
	if err := checkVault(r.TokenVaultId); err != nil {
		return nil, err
	}
	given := r.KmsConfiguration.KmsKeyArn
	arn := ""
	switch customer := r.KmsConfiguration.KeyType == api.KeyTypeCustomerManagedKey; {
	case customer && given == nil:
		return nil, fault.New(fault.Invalid, "A CustomerManagedKey needs a kmsKeyArn.")
	case !customer && given != nil:
		return nil, fault.New(fault.Invalid, "A ServiceManagedKey is the platform's own and has no kmsKeyArn.")
	case customer:
		arn = *given
	}
	gate.Detail(ctx, "key", arn)
	chosen, err := b.options.Custodian.Move(ctx, caller.Account, arn)
	if err != nil {
		return nil, err
	}
	return &api.SetTokenVaultCMKResponse{TokenVaultId: api.TokenVaultID, KmsConfiguration: shownKey(chosen), LastModifiedDate: api.Epoch(chosen.Changed)}, nil
}

func checkVault(id *string) error {
	if id != nil && *id != api.TokenVaultID {
		return fault.New(fault.NotFound, "Token vault %s not found. Each account has one, called %s.", *id, api.TokenVaultID)
	}
	return nil
}

func shownKey(chosen seal.Choice) *api.KmsConfiguration {
	if chosen.ARN == "" {
		return &api.KmsConfiguration{KeyType: api.KeyTypeServiceManagedKey}
	}
	return &api.KmsConfiguration{KeyType: api.KeyTypeCustomerManagedKey, KmsKeyArn: &chosen.ARN}
}

// ResetTokenVaultKeyMaterial gives the account an empty vault under the
// platform's key, once the key that it had chosen was deleted: nobody can open
// what was in the old one. Providers and their secrets stay.
func (b *Broker) ResetTokenVaultKeyMaterial(ctx context.Context, caller principal.Caller, r *api.ResetTokenVaultKeyMaterialRequest) (*api.ResetTokenVaultKeyMaterialResponse, error) {
	if err := checkVault(&r.TokenVaultId); err != nil {
		return nil, err
	}
	chosen, err := b.options.Custodian.Reset(ctx, caller.Account)
	if err != nil {
		return nil, err
	}
	return &api.ResetTokenVaultKeyMaterialResponse{TokenVaultId: api.TokenVaultID, KmsConfiguration: shownKey(chosen), LastModifiedDate: api.Epoch(chosen.Changed)}, nil
}
