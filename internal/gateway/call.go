package gateway

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// call answers tools/call, inside the gate's act.
func (s *Service) call(ctx context.Context, x *exchange, r *request) (reply, error) {
	t, ok := x.endpoint.byName[r.name]
	if !ok {
		return reply{}, refused(&problem{code: codeInvalidParams, message: "Unknown tool: " + clip(r.name, maxToolName)})
	}
	gate.Detail(ctx, "tool", t.name)
	gate.Detail(ctx, "target", t.target.id)
	override, p := readOverride(r.meta)
	if p != nil {
		return reply{}, refused(p)
	}
	arguments, p := readArguments(r.arguments)
	if p != nil {
		return reply{}, refused(p)
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	c := Call{Tool: t.own, Arguments: arguments}
	if t.target.credential == nil {
		if err := s.intend(ctx, x, t); err != nil {
			return reply{}, err
		}
		return s.relay(ctx, x, r, t, c)
	}
	wanted := t.target.credential
	if wanted.ofUser() && x.caller.User.IsZero() {
		return reply{}, fault.New(fault.Denied, "The tool %s acts for a user, and the caller's token names none.", t.name)
	}
	if err := s.underRole(ctx, x, t); fault.Is(err, fault.Denied) {
		gate.Detail(ctx, "outcome", "tool-error")
		gate.Detail(ctx, "reason", "role-"+fault.Denied.String())
		return s.toolFailure(r, x.endpoint, fault.Of(err).Message, "role "+x.endpoint.role+": denied"), nil
	} else if err != nil {
		return reply{}, err
	}
	// The intent becomes durable while the token is looked up; both must be
	// there before the target hears of the call.
	intended := make(chan error, 1)
	go func() { intended <- fault.Contain("recording an intent", func() error { return s.intend(ctx, x, t) }) }()
	var token secret.Text
	var asked *reply
	var err error
	if wanted.grant == api.OAuthGrantTypeAuthorizationCode {
		token, asked, err = s.userToken(ctx, x, r, t, override)
	} else {
		token, err = s.own(ctx, x, wanted)
	}
	if err := <-intended; err != nil {
		return reply{}, err
	}
	switch {
	case err != nil:
		return s.tokenFailed(x, r, t, err)
	case asked != nil:
		gate.Detail(ctx, "outcome", "consent-required")
		return *asked, nil
	}
	c.Credential, c.Carrier, c.ForUser = token, wanted.carrier, wanted.ofUser()
	return s.relay(ctx, x, r, t, c)
}

func (s *Service) intend(ctx context.Context, x *exchange, t *tool) error {
	return s.gate.Intent(ctx, x.caller, gate.Check{Action: gate.InvokeGateway, Resource: x.endpoint.arn}, map[string]string{"method": "tools/call", "tool": t.name, "target": t.target.id})
}

// relay calls the target and renders what it answers.
func (s *Service) relay(ctx context.Context, x *exchange, r *request, t *tool, c Call) (reply, error) {
	answer, err := t.target.Call(ctx, c)
	if err != nil {
		f := fault.Of(err)
		gate.Detail(ctx, "outcome", "tool-error")
		gate.Detail(ctx, "reason", f.Kind.String())
		if f.Kind != fault.Invalid {
			s.logged(x.http, err)
		}
		return s.toolFailure(r, x.endpoint, f.Message, "target "+t.target.name+": "+f.Kind.String()+": "+f.Message), nil
	}
	if answer.Status != 0 {
		gate.Detail(ctx, "status", strconv.Itoa(answer.Status))
	}
	if answer.IsError {
		gate.Detail(ctx, "outcome", "tool-error")
		return s.toolFailure(r, x.endpoint, string(answer.Text), "target "+t.target.name+": status "+strconv.Itoa(answer.Status)), nil
	}
	return s.toolResult(r, x.endpoint, answer), nil
}

// userToken is the user's access token for the target, or the answer that asks
// the user for consent.
func (s *Service) userToken(ctx context.Context, x *exchange, r *request, t *tool, o override) (secret.Text, *reply, error) {
	c := t.target.credential
	ask := broker.TokenRequest{ProviderARN: c.provider, Scopes: c.scopes, ReturnURL: c.returnURL, Force: o.force, Parameters: c.parameters}
	if o.returnURL != "" {
		ask.ReturnURL = o.returnURL
	}
	gate.Detail(ctx, "provider", c.provider)
	var state *consentState
	if r.state != "" && r.modern() {
		opened, err := s.openState(ctx, x, r)
		if err != nil {
			return secret.Text{}, nil, err
		}
		if declined := declined(r.responses); declined != "" {
			gate.Detail(ctx, "outcome", "consent-declined")
			answer := s.toolFailure(r, x.endpoint, "The user answered the request for consent with "+declined+", so the tool was not called.", "")
			return secret.Text{}, &answer, nil
		}
		state = opened
	}
	result, err := s.token(ctx, x, ask, state)
	if err != nil {
		return secret.Text{}, nil, err
	}
	if !result.Access.Empty() {
		return result.Access, nil, nil
	}
	asked, err := s.askConsent(ctx, x, r, t, result, state)
	return secret.Text{}, &asked, err
}

// token asks the broker. A request that carries state waits for the session
// that it names; one that has failed or lapsed makes room for a new one, which
// is not forced: the user has been asked anew already.
func (s *Service) token(ctx context.Context, x *exchange, ask broker.TokenRequest, state *consentState) (*broker.TokenResult, error) {
	if state != nil {
		ask.Force = false
		poll := ask
		poll.SessionURI = state.Session
		result, err := s.broker.UserToken(ctx, x.caller, poll)
		if err == nil || fault.Is(err, fault.Internal) || fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Throttled) {
			return result, err
		}
	}
	return s.broker.UserToken(ctx, x.caller, ask)
}

// tokenFailed says why there is no token. What the client asked wrongly is an
// error of the protocol; what a provider or this server failed at is the tool's,
// and so is all that is wrong where the client has nothing to ask.
func (s *Service) tokenFailed(x *exchange, r *request, t *tool, err error) (reply, error) {
	f := fault.Of(err)
	kind := f.Kind
	if kind == fault.Invalid && t.target.credential.grant != api.OAuthGrantTypeAuthorizationCode {
		kind = fault.Upstream
	}
	switch kind {
	case fault.Upstream, fault.Unavailable, fault.NotFound, fault.Undecryptable, fault.Conflict, fault.Concurrent:
		s.logged(x.http, err)
		return s.toolFailure(r, x.endpoint, "The credential for this tool could not be had. "+f.Message, "target "+t.target.name+": "+f.Kind.String()+": "+f.Message), nil
	}
	return reply{}, err
}

// override is the per-call credential configuration of AWS, in _meta.
type override struct {
	returnURL string
	force     bool
}

// readOverride looks for it without regard to the case of its inner key, which
// AWS's documentation spells in two ways.
func readOverride(meta []member) (override, *problem) {
	var o override
	wrong := &problem{code: codeInvalidParams, message: "The _meta field " + metaCredential + " is malformed."}
	for _, m := range meta {
		if m.name != metaCredential {
			continue
		}
		outer, err := members(m.value, nil)
		if err != nil {
			return o, wrong
		}
		for _, provider := range outer {
			if !strings.EqualFold(provider.name, "oauthCredentialProvider") {
				continue
			}
			inner, err := members(provider.value, nil)
			if err != nil {
				return o, wrong
			}
			for _, setting := range inner {
				switch setting.name {
				case "returnUrl":
					var ok bool
					if o.returnURL, ok = text(setting.value); !ok || o.returnURL == "" {
						return o, wrong
					}
				case "forceAuthentication":
					if o.force = string(setting.value) == "true"; !o.force && string(setting.value) != "false" {
						return o, wrong
					}
				}
			}
		}
	}
	return o, nil
}

func readArguments(raw json.RawMessage) ([]Argument, *problem) {
	if raw == nil {
		return nil, nil
	}
	var room [16]member
	list, err := members(raw, room[:0])
	if err != nil {
		return nil, &problem{code: codeInvalidParams, message: "The arguments are malformed: " + err.Error() + "."}
	}
	out := make([]Argument, len(list))
	for i, m := range list {
		out[i] = Argument{Name: m.name, Value: m.value}
	}
	return out, nil
}
