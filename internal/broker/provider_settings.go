package broker

import (
	"context"
	"encoding/json"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// providerSettings are what AWS's configuration cannot say of a provider. They
// are kept apart from it, so that an Update, which replaces all of it, leaves them
// alone; but for the addresses, which are those of one server and of no other.
type providerSettings struct {
	Public             bool   `json:"public,omitempty"`       // the client has no secret; PKCE proves what can be proven
	Push               bool   `json:"push,omitempty"`         // push authorization requests, whether the provider requires it or not
	PushEndpoint       string `json:"pushEndpoint,omitempty"` // where the metadata does not say
	RevocationEndpoint string `json:"revocationEndpoint,omitempty"`
}

// unpushable reports whether requests are to be pushed, and nothing says where to.
func (s providerSettings) unpushable(m oauth.Metadata) bool {
	return s.Push && s.PushEndpoint == "" && m.PushedAuthorizationRequestEndpoint == ""
}

// apply completes a provider that has been read.
func (s providerSettings) apply(p *Provider) {
	p.settings = s
	if s.Push {
		p.Metadata.RequirePushedAuthorizationRequests = true
	}
	if s.PushEndpoint != "" {
		p.Metadata.PushedAuthorizationRequestEndpoint = s.PushEndpoint
	}
	if s.RevocationEndpoint != "" {
		p.Metadata.RevocationEndpoint = s.RevocationEndpoint
	}
}

// authMethod is how the client proves itself, all things considered.
func (p *Provider) authMethod() oauth.AuthMethod {
	if p.settings.Public {
		return oauth.AuthNone
	}
	return p.AuthMethod
}

func decodeSettings(stored string) (s providerSettings, err error) {
	if stored != "" {
		err = fault.Wrap(json.Unmarshal([]byte(stored), &s), "decoding a credential provider")
	}
	return s, err
}

// GetOauth2ProviderSettings shows what is set beyond the configuration.
func (b *Broker) GetOauth2ProviderSettings(ctx context.Context, caller principal.Caller, r *api.GetOauth2ProviderSettingsRequest) (*api.GetOauth2ProviderSettingsResponse, error) {
	p, err := b.named(ctx, caller.Account, r.Name)
	if err != nil {
		return nil, err
	}
	s := p.settings
	return &api.GetOauth2ProviderSettingsResponse{
		Name: p.Name, CredentialProviderArn: p.ARN, ClientAuthentication: s.method(), PushedAuthorizationRequests: s.Push,
		PushedAuthorizationRequestEndpoint: given(s.PushEndpoint), RevocationEndpoint: given(s.RevocationEndpoint),
	}, nil
}

// PutOauth2ProviderSettings replaces all settings. Grants stay: they belong to
// the client, whatever it proves itself by.
func (b *Broker) PutOauth2ProviderSettings(ctx context.Context, caller principal.Caller, r *api.PutOauth2ProviderSettingsRequest) (*api.PutOauth2ProviderSettingsResponse, error) {
	s := providerSettings{Public: r.ClientAuthentication == api.ClientAuthenticationNone, Push: r.PushedAuthorizationRequests != nil && *r.PushedAuthorizationRequests}
	for _, each := range []struct {
		member string
		given  *string
		to     *string
	}{
		{"pushedAuthorizationRequestEndpoint", r.PushedAuthorizationRequestEndpoint, &s.PushEndpoint},
		{"revocationEndpoint", r.RevocationEndpoint, &s.RevocationEndpoint},
	} {
		if each.given == nil {
			continue
		}
		if err := b.checkURL(each.member, *each.given); err != nil { // codes, tokens and the client's proof go there
			return nil, err
		}
		*each.to = *each.given
	}
	var p *Provider
	err := b.db.Update(ctx, func(tx *store.Tx) (err error) {
		if p, err = b.providerByName(tx, caller.Account, r.Name); err != nil {
			return err
		}
		switch {
		case s.Public && p.ClientID == "":
			return fault.InvalidField("clientAuthentication", "The credential provider %s has no client, public or not.", p.Name)
		case s.unpushable(p.published):
			return fault.InvalidField("pushedAuthorizationRequestEndpoint", "The provider's metadata does not say where authorization requests are pushed to.")
		}
		if p.settings.Public && !s.Public {
			if err := b.hasProof(tx, p); err != nil {
				return err
			}
			if err := b.vault.DropCached(tx, caller.Account, p.ID); err != nil {
				return err
			}
		}
		if s.Public && !p.settings.Public {
			if err := b.vault.DropCached(tx, caller.Account, p.ID); err != nil { // tokens of the client itself, which a public one has not
				return err
			}
		}
		return putSettings(tx, p, s)
	})
	if err != nil {
		return nil, err
	}
	return &api.PutOauth2ProviderSettingsResponse{
		Name: p.Name, CredentialProviderArn: p.ARN, ClientAuthentication: s.method(), PushedAuthorizationRequests: s.Push,
		PushedAuthorizationRequestEndpoint: given(s.PushEndpoint), RevocationEndpoint: given(s.RevocationEndpoint),
	}, nil
}

func putSettings(tx *store.Tx, p *Provider, s providerSettings) error {
	encoded, err := json.Marshal(s)
	if err != nil {
		return fault.Wrap(err, "encoding settings")
	}
	_, err = tx.Exec(`UPDATE oauth2_providers SET settings = $1, updated = $2 WHERE id = $3 AND account = $4`, string(encoded), store.Micros(tx.Now), p.ID, p.Account)
	return fault.Wrap(err, "storing settings")
}

// keepSettings holds the settings of an updated provider against its new
// configuration. Tokens, codes and the client's proof go to the addresses in them,
// so those of the server that it was before are forgotten.
func (b *Broker) keepSettings(ctx context.Context, tx *store.Tx, p *Provider, before vault.Origin) error {
	s := p.settings
	if now := p.Origin(); now.Issuer != before.Issuer || now.TokenEndpoint != before.TokenEndpoint {
		s.PushEndpoint, s.RevocationEndpoint = "", ""
	}
	if s.unpushable(p.Metadata) {
		return fault.InvalidField("oauth2ProviderConfigInput", "The settings of the credential provider %s have authorization requests pushed, and its new configuration does not say where to. Take that back with PutOauth2ProviderSettings first.", p.Name)
	}
	if s == p.settings {
		return nil
	}
	gate.Detail(ctx, "settings", "the addresses of another server are forgotten")
	return putSettings(tx, p, s)
}

// hasProof refuses to make a client confidential that was configured without a secret.
func (b *Broker) hasProof(tx *store.Tx, p *Provider) error {
	if p.External != nil {
		return nil
	}
	sealed, err := b.keeper.OpenText(tx.Context(), clientSecretContext(p), p.sealedSecret)
	if err == nil && sealed.Empty() {
		return fault.InvalidField("clientAuthentication", "The credential provider %s has no client secret. Give it one with UpdateOauth2CredentialProvider first.", p.Name)
	}
	return err
}

func (s providerSettings) method() api.ClientAuthentication {
	if s.Public {
		return api.ClientAuthenticationNone
	}
	return api.ClientAuthenticationConfigured
}

// given is an optional member: absent where it is empty.
func given(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
