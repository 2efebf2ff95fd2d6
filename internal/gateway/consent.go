package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
)

// consentLifetime is how long a consent link can be used.
const consentLifetime = 10 * time.Minute

// consentKey names the one question in a request for input.
const consentKey = "consent"

// consentMessage goes with a link.
const consentMessage = "Please login to this URL for authorization."

// askConsent tells the client that its user has to consent first, in the way
// that the request's revision has for it. The link goes into the answer and
// nowhere else
// (docs/design/2026-11-22-consent-by-version.md).
func (s *Service) askConsent(ctx context.Context, x *exchange, r *request, t *tool, result *broker.TokenResult, state *consentState) (reply, error) {
	link := result.AuthorizationURL.Reveal()
	switch {
	case r.modern() && r.urlElicitation():
		return s.inputRequired(ctx, x, r, link, result.SessionURI, state)
	case r.modern():
		return failed(r.id, r.revision, &problem{code: codeCapability, data: []byte(`{"requiredCapabilities":{"elicitation":{"url":{}}}}`),
			message: "The user has to consent before this tool can be called, and the client has not declared the capability elicitation.url. The user can open this link, within 10 minutes, and the tool can then be called again: " + link}), nil
	case r.stated && r.revision >= revision2025November:
		return failed(r.id, r.revision, &problem{code: codeElicitation, message: "This request requires more information.", data: elicitations(link, result.SessionURI)}), nil
	}
	return s.toolResult(r, x.endpoint, &Answer{IsError: true, Text: []byte("The user has to consent before this tool can be called. Show the user this link, valid for 10 minutes, and call the tool again afterwards:\n" + link)}), nil
}

// elicitations is the data of error -32042. The id names the session without
// giving it away.
func elicitations(link, session string) []byte {
	digest := sha256.Sum256([]byte("elicitation " + session))
	out := appendText([]byte(`{"elicitations":[{"mode":"url","elicitationId":`), hex.EncodeToString(digest[:16]))
	out = appendText(append(out, `,"url":`...), link)
	return append(appendText(append(out, `,"message":`...), consentMessage), `}]}`...)
}

// inputRequired is the stateless revision's way to ask. The state that the
// client sends back with its next try names the session, so that a client which
// tries again and again is shown one link, not one more each time.
func (s *Service) inputRequired(ctx context.Context, x *exchange, r *request, link, session string, state *consentState) (reply, error) {
	sealed := r.state
	if state == nil || state.Session != session {
		var err error
		sealed, err = s.sealState(ctx, x, r, consentState{Session: session, Expires: s.now().Add(consentLifetime).Unix()})
		if err != nil {
			return reply{}, err
		}
	}
	out := s.result(r, x.endpoint, "input_required", len(sealed)+len(link))
	out = appendText(append(out, `"inputRequests":{"`+consentKey+`":{"method":"elicitation/create","params":{"mode":"url","url":`...), link)
	out = appendText(append(out, `,"message":`...), consentMessage)
	out = appendText(append(out, `}}},"requestState":`...), sealed)
	return closed(out), nil
}

// consentState is what requestState carries, sealed.
type consentState struct {
	Session string `json:"s"`
	Expires int64  `json:"e"` // seconds since 1970
}

// stateContext binds a state to who asked, which tool of which gateway, and
// with which arguments: it opens for nothing else.
func (x *exchange) stateContext(r *request) seal.Context {
	arguments := bytes.NewBufferString("")
	if err := json.Compact(arguments, r.arguments); err != nil || arguments.Len() == 0 {
		arguments = bytes.NewBufferString("{}") // to leave them out and to give none is the same
	}
	digest := sha256.Sum256(arguments.Bytes())
	row, _ := json.Marshal([]string{x.endpoint.id, x.caller.User.String(), r.name, hex.EncodeToString(digest[:])})
	return seal.Context{Account: x.endpoint.account, Purpose: seal.Sessions, Kind: "mcp-request-state", Row: string(row)}
}

func (s *Service) sealState(ctx context.Context, x *exchange, r *request, state consentState) (string, error) {
	plain, err := json.Marshal(state)
	if err != nil {
		return "", fault.Wrap(err, "encoding a request state")
	}
	sealed, err := s.keeper.Seal(ctx, x.stateContext(r), plain)
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

// openState opens what the client sent back. It is the client's to forge, so
// anything that is not ours, for this user and this call, is refused.
func (s *Service) openState(ctx context.Context, x *exchange, r *request) (*consentState, error) {
	wrong := &problem{code: codeInvalidParams, message: "The requestState does not belong to this call."}
	sealed, err := base64.RawURLEncoding.DecodeString(r.state)
	if err != nil || len(sealed) > 8<<10 {
		return nil, refused(wrong)
	}
	plain, err := s.keeper.Open(ctx, x.stateContext(r), sealed)
	if err != nil {
		if fault.Is(err, fault.Undecryptable) || fault.Is(err, fault.Invalid) {
			return nil, refused(wrong)
		}
		return nil, err
	}
	var state consentState
	if err := json.Unmarshal(plain, &state); err != nil {
		return nil, refused(wrong)
	}
	if lapsed(s.now(), state) {
		return nil, refused(&problem{code: codeInvalidParams, message: "The requestState has lapsed. Call the tool again without it."})
	}
	return &state, nil
}

func lapsed(now time.Time, state consentState) bool { return now.Unix() >= state.Expires }

// declined is the user's answer to the question when it was no; accepting it
// means no more than that the link was opened.
func declined(responses json.RawMessage) string {
	switch answer, _ := text(child(child(responses, consentKey), "action")); answer {
	case "decline", "cancel":
		return answer
	}
	return ""
}
