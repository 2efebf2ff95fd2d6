package agent

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
)

// APIKeyOptions say which key. Provider is required.
type APIKeyOptions struct {
	Provider string  // name of the API key credential provider
	Client   *Client // nil means [Default]
}

// APIKey gets the key that a credential provider holds. An error is an [*Error].
func APIKey(ctx context.Context, o APIKeyOptions) (Secret, error) {
	const op = "API key"
	if o.Provider == "" {
		return Secret{}, &Error{Op: op, Kind: ErrInvalid, Detail: "Provider is empty", Hint: hintProviderName}
	}
	c, err := clientOr(ctx, o.Client)
	if err != nil {
		return Secret{}, err
	}
	me, err := c.whoAmI(ctx)
	if err != nil {
		return Secret{}, err
	}
	out, err := c.data.GetResourceApiKey(ctx, &bedrockagentcore.GetResourceApiKeyInput{
		WorkloadIdentityToken: aws.String(me.token.Reveal()), ResourceCredentialProviderName: &o.Provider,
	})
	switch {
	case err != nil:
		return Secret{}, explain(op, o.Provider, me, "", err, me.token.Reveal())
	case aws.ToString(out.ApiKey) == "":
		return Secret{}, &Error{Op: op, Provider: o.Provider, Kind: ErrUnavailable, Detail: "the platform answered no key"}
	}
	return NewSecret(*out.ApiKey), nil
}
