package agent

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
)

// Flow says whose access the token gives.
type Flow = types.Oauth2FlowType

const (
	// M2M is the agent's own access: nobody is asked.
	M2M Flow = types.Oauth2FlowTypeM2m
	// UserFederation is a user's access. The first time the user is asked for
	// consent, in a browser; afterwards the platform keeps it fresh.
	UserFederation Flow = types.Oauth2FlowTypeUserFederation
	// OnBehalfOf exchanges the token that the user signed in with: nobody is
	// asked. The workload token must have been made from that token.
	OnBehalfOf Flow = types.Oauth2FlowTypeOnBehalfOfTokenExchange
)

// AccessTokenOptions say which token, and how to ask for it. Provider and Flow are required.
type AccessTokenOptions struct {
	Provider  string // name of the OAuth2 credential provider
	Flow      Flow
	Scopes    []string
	Resources []string // RFC 8707 resource indicators
	Audiences []string

	// OnAuthURL is called when the user has to consent, with the link to show to
	// them and to nobody else. After it returns, the token is waited for; an
	// error ends the call. With neither OnAuthURL nor Poller, the call does not
	// wait: it fails with [ErrConsentNeeded], and the error carries the link.
	OnAuthURL func(ctx context.Context, url string) error

	// CallbackURL is where the browser comes back to: one of the
	// allowedResourceOauth2ReturnUrls of the workload identity. Empty means the
	// context's ([WithCallbackURL]).
	CallbackURL string

	// ForceAuthentication asks the user although there may be a token.
	ForceAuthentication bool

	// Poller waits for the user. Nil means every 5 seconds for 10 minutes ([IntervalPoller]).
	Poller TokenPoller

	// CustomState comes back at CallbackURL as "state", which is how your page
	// knows that the request was its own.
	CustomState string

	// CustomParameters are added to the authorization request, for instance
	// access_type=offline at Google.
	CustomParameters map[string]string

	// Client makes the calls. Nil means [Default].
	Client *Client
}

func (o AccessTokenOptions) fail(kind error, detail, hint string, cause error) *Error {
	return &Error{Op: "access token", Provider: o.Provider, Kind: kind, Detail: detail, Hint: hint, Err: cause}
}

// AccessToken gets an access token for the agent, or for the user it acts for.
// Where the user has to consent first, it hands the link to OnAuthURL and waits.
// An error is an [*Error], also where the context ended.
func AccessToken(ctx context.Context, o AccessTokenOptions) (Secret, error) {
	switch {
	case o.Provider == "":
		return Secret{}, o.fail(ErrInvalid, "Provider is empty", hintProviderName, nil)
	case o.Flow == "":
		return Secret{}, o.fail(ErrInvalid, "Flow is empty", hintFlow, nil)
	}
	c, err := clientOr(ctx, o.Client)
	if err != nil {
		return Secret{}, err
	}
	if o.CallbackURL == "" {
		o.CallbackURL = CallbackURL(ctx)
	}
	me, err := c.whoAmI(ctx)
	if err != nil {
		return Secret{}, err
	}
	return (&question{client: c, options: o, workload: me}).ask(ctx)
}

// question is one call of AccessToken, from the first request to the last poll.
type question struct {
	client   *Client
	options  AccessTokenOptions
	workload workload
	link     string
	session  string // of the link: what a poll asks about
}

func (q *question) ask(ctx context.Context) (Secret, error) {
	o := q.options
	token, err := q.request(ctx)
	if !errors.Is(err, ErrPending) {
		return token, err
	}
	if o.OnAuthURL == nil && o.Poller == nil {
		needed := o.fail(ErrConsentNeeded, "", hintConsentNeeded, nil)
		needed.AuthorizationURL = NewSecret(q.link)
		return Secret{}, needed
	}
	if o.OnAuthURL != nil {
		if err := o.OnAuthURL(ctx, q.link); err != nil {
			return Secret{}, o.fail(nil, "OnAuthURL failed", "", hideIn(err, q.link, q.session))
		}
	}
	poller := o.Poller
	if poller == nil {
		poller = IntervalPoller{}
	}
	token, err = poller.PollForToken(ctx, q.request)
	if err == nil && token.IsZero() {
		err = errors.New("the poller returned neither a token nor an error")
	}
	if err == nil {
		return token, nil
	}
	known, ours := err.(*Error)
	switch {
	case !ours:
		err = o.fail(waitingKind(err), "waiting for the user's consent", hintWaiting, hideIn(err, q.secrets()...))
	case known.Provider == "": // a poller does not know whose token it waits for
		named := *known
		named.Provider, err = o.Provider, &named
	}
	return Secret{}, err
}

// request is one GetResourceOauth2Token. Its error is ErrPending while there is a link and no token.
func (q *question) request(ctx context.Context) (Secret, error) {
	o, polling := q.options, q.link != ""
	in := &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken:          aws.String(q.workload.token.Reveal()),
		ResourceCredentialProviderName: &o.Provider,
		Oauth2Flow:                     o.Flow,
		Scopes:                         o.Scopes,
		Resources:                      o.Resources,
		Audiences:                      o.Audiences,
		CustomParameters:               o.CustomParameters,
		ResourceOauth2ReturnUrl:        optional(o.CallbackURL),
		CustomState:                    optional(o.CustomState),
		SessionUri:                     optional(q.session),
	}
	if in.Scopes == nil {
		in.Scopes = []string{} // a required member, also where there are none
	}
	if o.ForceAuthentication {
		in.ForceAuthentication = aws.Bool(!polling) // a poll that forced would ask the user again
	}
	out, err := q.client.data.GetResourceOauth2Token(ctx, in)
	switch {
	case err != nil:
		return Secret{}, explain("access token", o.Provider, q.workload, o.CallbackURL, err, q.secrets()...)
	case aws.ToString(out.AccessToken) != "":
		return NewSecret(*out.AccessToken), nil
	case out.SessionStatus == types.SessionStatusFailed:
		return Secret{}, o.fail(ErrConsentFailed, "", hintConsentFailed, nil)
	case polling:
		return Secret{}, ErrPending
	case aws.ToString(out.AuthorizationUrl) == "":
		return Secret{}, o.fail(ErrUnavailable, "the platform answered neither a token nor a link", "", nil)
	}
	q.link, q.session = *out.AuthorizationUrl, aws.ToString(out.SessionUri)
	return Secret{}, ErrPending
}

// secrets is all that no error may quote.
func (q *question) secrets() []string {
	all := []string{q.workload.token.Reveal(), q.options.CustomState, q.link, q.session}
	for _, value := range q.options.CustomParameters {
		all = append(all, value)
	}
	return all
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
