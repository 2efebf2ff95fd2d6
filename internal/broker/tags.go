package broker

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Oauth2ProviderTags answers the tags of an OAuth2 credential provider, as change
// left them; nil changes nothing. change may run more than once.
func (b *Broker) Oauth2ProviderTags(ctx context.Context, account, name string, change func(map[string]string) error) (map[string]string, error) {
	return b.tags(ctx, "oauth2_providers", account, name, noProvider(name), change)
}

// ApiKeyProviderTags does the same for an API-key credential provider.
func (b *Broker) ApiKeyProviderTags(ctx context.Context, account, name string, change func(map[string]string) error) (map[string]string, error) {
	return b.tags(ctx, "api_key_providers", account, name, noAPIKeyProvider(name), change)
}

func (b *Broker) tags(ctx context.Context, table, account, name string, none error, change func(map[string]string) error) (map[string]string, error) {
	tags, err := b.db.Labels(ctx, func(tx *store.Tx) (tags map[string]string, err error) {
		var text string
		err = tx.QueryRow(`SELECT tags FROM `+table+` WHERE account = $1 AND name = $2`, account, name).Scan(&text)
		if errors.Is(err, store.ErrNoRows) {
			return nil, none
		}
		if err != nil {
			return nil, err
		}
		err = json.Unmarshal([]byte(text), &tags)
		return tags, err
	}, change, func(tx *store.Tx, encoded string) error {
		_, err := tx.Exec(`UPDATE `+table+` SET tags = $1 WHERE account = $2 AND name = $3`, encoded, account, name)
		return err
	})
	return tags, fault.Wrap(err, "tagging a credential provider")
}
