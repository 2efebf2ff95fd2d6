package agent

import (
	"context"
	"maps"
	"slices"
)

// RequireAccessToken wraps fn so that each call first gets an access token,
// which fn takes as its last argument:
//
//	greet := agent.RequireAccessToken(options, func(ctx context.Context, name string, token agent.Secret) (string, error) { … })
//	text, err := greet(ctx, "Ada")
//
// fn is not called when there is no token; the error is that of [AccessToken].
// The wrapped function is as safe for concurrent use as fn.
func RequireAccessToken[In, Out any](o AccessTokenOptions, fn func(context.Context, In, Secret) (Out, error)) func(context.Context, In) (Out, error) {
	o = o.clone()
	return func(ctx context.Context, in In) (Out, error) {
		token, err := AccessToken(ctx, o)
		if err != nil {
			var none Out
			return none, err
		}
		return fn(ctx, in, token)
	}
}

// RequireAccessTokenInto is [RequireAccessToken] for a function that finds the
// token in a field of its input, so that several wrappers can be put around one
// function. In is a struct, a pointer to one, or a map with string keys; the
// field's type is [Secret] or string. fn gets a copy of the input: the caller's
// stays without the token.
//
// Tag the field json:"-": what a model sends must not fill it. A field that In
// does not have makes RequireAccessTokenInto panic, when the function is wrapped
// and not when it is called.
func RequireAccessTokenInto[In, Out any](field string, o AccessTokenOptions, fn func(context.Context, In) (Out, error)) func(context.Context, In) (Out, error) {
	put := injector[In]("RequireAccessTokenInto", field)
	return RequireAccessToken(o, func(ctx context.Context, in In, token Secret) (Out, error) { return fn(ctx, put(in, token)) })
}

// RequireAPIKey wraps fn so that each call first gets an API key, which fn takes
// as its last argument. fn is not called when there is none; the error is that of [APIKey].
func RequireAPIKey[In, Out any](o APIKeyOptions, fn func(context.Context, In, Secret) (Out, error)) func(context.Context, In) (Out, error) {
	return func(ctx context.Context, in In) (Out, error) {
		key, err := APIKey(ctx, o)
		if err != nil {
			var none Out
			return none, err
		}
		return fn(ctx, in, key)
	}
}

// RequireAPIKeyInto is [RequireAPIKey] for a function that finds the key in a
// field of its input, by the rules of [RequireAccessTokenInto].
func RequireAPIKeyInto[In, Out any](field string, o APIKeyOptions, fn func(context.Context, In) (Out, error)) func(context.Context, In) (Out, error) {
	put := injector[In]("RequireAPIKeyInto", field)
	return RequireAPIKey(o, func(ctx context.Context, in In, key Secret) (Out, error) { return fn(ctx, put(in, key)) })
}

// clone keeps a wrapper as it was made, whatever becomes of the slices it was made of.
func (o AccessTokenOptions) clone() AccessTokenOptions {
	o.Scopes, o.Resources, o.Audiences = slices.Clone(o.Scopes), slices.Clone(o.Resources), slices.Clone(o.Audiences)
	o.CustomParameters = maps.Clone(o.CustomParameters)
	return o
}
