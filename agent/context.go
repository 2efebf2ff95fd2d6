package agent

import "context"

type contextKey int

const (
	workloadTokenKey contextKey = iota
	callbackURLKey
)

// WithWorkloadToken puts a workload access token into the context: which agent
// asks, and for which user. Agents that a runtime hosts find it there already.
// An empty token is none.
func WithWorkloadToken(ctx context.Context, token string) context.Context {
	return context.WithValue(ctx, workloadTokenKey, NewSecret(token))
}

// WorkloadToken is the workload access token of the context, for an agent that
// passes its identity on to another one (the header
// X-Amz-Bedrock-AgentCore-Identity-WAT). The error is [ErrNoWorkloadToken] where
// there is none: the identity of local development is not meant to be passed on.
func WorkloadToken(ctx context.Context) (Secret, error) {
	token, _ := ctx.Value(workloadTokenKey).(Secret)
	if token.IsZero() {
		return Secret{}, &Error{Op: "workload token", Kind: ErrNoWorkloadToken, Hint: hintNotHosted}
	}
	return token, nil
}

// WithCallbackURL puts into the context where browsers come back to after
// consent. It stands in for an empty CallbackURL of [AccessTokenOptions]; a
// runtime sets it from the header OAuth2CallbackUrl.
func WithCallbackURL(ctx context.Context, url string) context.Context {
	return context.WithValue(ctx, callbackURLKey, url)
}

// CallbackURL is what [WithCallbackURL] has put there, or "".
func CallbackURL(ctx context.Context) string {
	url, _ := ctx.Value(callbackURLKey).(string)
	return url
}
