package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/smithy-go"
)

// completionTime bounds one completion: the platform redeems a code meanwhile.
const completionTime = time.Minute

// Consent is a session that the agent showed a link for. It is completed once,
// or ends with an error, and then it is over.
type Consent struct {
	server      *OAuth2CallbackServer
	customState string
	outcome     chan error

	// Guarded by server.mu.
	state   consentState
	reached bool // a browser came back for it
}

type consentState int

const (
	waiting    consentState = iota
	completing              // the platform is asked
	completed
	ended // refused, or failed
)

// Outcome yields one value: nil when the person's consent is complete, else why it never will be.
func (c *Consent) Outcome() <-chan error { return c.outcome }

// Reached reports whether a browser has come back for this consent, whatever became of it.
func (c *Consent) Reached() bool {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return c.reached
}

// Expect registers a session whose link the agent is about to show; a session
// that nobody registered is not completed here. customState is what the agent
// sent along, where it asked for the token itself.
func (s *OAuth2CallbackServer) Expect(sessionURI, customState string) *Consent {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.sessions[sessionURI]; ok && (known.state == waiting || known.state == completing) {
		return known
	}
	c := &Consent{server: s, customState: customState, outcome: make(chan error, 1)}
	s.sessions[sessionURI] = c
	return c
}

// registered finds the consent that a session_id belongs to. At AWS that is the
// session's URI, which the link has in it as well; here a proof follows it, behind
// a dot, of the browser that went through with the link. The whole of it goes
// back to the platform. Caller holds s.mu.
func (s *OAuth2CallbackServer) registered(sessionID string) (*Consent, bool) {
	if c, ok := s.sessions[sessionID]; ok {
		return c, true
	}
	if dot := strings.LastIndexByte(sessionID, '.'); dot > 0 {
		c, ok := s.sessions[sessionID[:dot]]
		return c, ok
	}
	return nil, false
}

// move changes a consent's state if it still is what it was. The one who moves
// it to completed or ended sends the outcome.
func (s *OAuth2CallbackServer) move(c *Consent, from, to consentState) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.state != from {
		return false
	}
	c.state = to
	return true
}

// The pages that need no more than words.
var (
	pageUnknown   = page{Title: "This link is not known here", Text: "It belongs to another run of the agent, or to none. Ask the agent for a new link.", Bad: true}
	pageState     = page{Title: "This answer does not belong to the question", Text: "Its state is not the one the agent sent along. Nothing was allowed.", Bad: true}
	pageUsed      = page{Title: "This link was used before", Text: "A link completes once. If the agent still waits, ask it for a new one.", Bad: true}
	pageBusy      = page{Title: "Another window is at it", Text: "This is being completed there. You can close this window."}
	pageDoneOnce  = page{Title: "This is done", Text: "It was completed before, and once is enough. You can close this window."}
	pageNobody    = page{Title: "Nobody is waited for", Text: "The agent did not say whose consent it needs. It has been told. You can close this window.", Bad: true}
	pageDenied    = page{Title: "You said no", Text: "Nothing was shared with the agent. You can close this window.", Declined: true}
	pageFailed    = page{Title: "That did not work", Text: "The platform could not finish. The agent has been told why. You can close this window.", Bad: true}
	pageCompleted = page{Title: "It worked", Text: "The agent may now read your name. You can close this window and go back to your terminal."}
)

// callback is where the platform sends the browser: ?session_id=… and, where it
// was sent along, state; or an error when the person or the provider said no.
func (s *OAuth2CallbackServer) callback(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	session, customState := query.Get("session_id"), query.Get("state")
	s.mu.Lock()
	c, known := s.registered(session)
	stateFits := known && (c.customState == "" || subtle.ConstantTimeCompare([]byte(c.customState), []byte(customState)) == 1)
	if stateFits {
		c.reached = true
	}
	identifier, now := s.identifier, waiting
	if known {
		now = c.state
	}
	s.mu.Unlock()
	switch {
	case !known:
		s.page(w, http.StatusBadRequest, pageUnknown)
	case !stateFits:
		s.page(w, http.StatusBadRequest, pageState)
	case now != waiting:
		s.usedPage(w, c)
	case query.Get("error") != "":
		s.refused(w, c, query.Get("error"))
	case identifier == "":
		if s.move(c, waiting, ended) {
			c.outcome <- &IdentityError{Problem{What: "the callback server has no user token identifier", Hint: hintNoIdentifier}}
		}
		s.page(w, http.StatusConflict, pageNobody)
	case s.options.WithoutSignIn:
		s.completeFor(w, r, session, c, nil)
	default:
		person := s.personAt(r)
		if person == nil {
			s.beginSignIn(w, r, session, customState)
			return
		}
		s.completeFor(w, r, session, c, person)
	}
}

// usedPage is for whoever comes back to a consent that waits no more.
func (s *OAuth2CallbackServer) usedPage(w http.ResponseWriter, c *Consent) {
	s.mu.Lock()
	state := c.state
	s.mu.Unlock()
	switch state {
	case completing:
		s.page(w, http.StatusConflict, pageBusy)
	case completed:
		s.page(w, http.StatusGone, pageDoneOnce)
	default:
		s.page(w, http.StatusGone, pageUsed)
	}
}

// errorCode is what OAuth's error codes look like; another text is not repeated to anybody.
var errorCode = regexp.MustCompile(`^[a-z_]{1,64}$`)

// refused ends a session that the person, or the provider, said no to.
func (s *OAuth2CallbackServer) refused(w http.ResponseWriter, c *Consent, code string) {
	if !errorCode.MatchString(code) {
		code = "unknown_error"
	}
	if !s.move(c, waiting, ended) {
		s.usedPage(w, c)
		return
	}
	c.outcome <- providerSaidNo(code)
	if code == "access_denied" {
		s.page(w, http.StatusOK, pageDenied)
		return
	}
	s.page(w, http.StatusBadGateway, page{Title: "The provider refused", Text: "It gave the reason “" + code + "”. The agent has been told. You can close this window.", Bad: true})
}

// completeFor completes a session for the person at this browser, or turns them
// away. person is nil only in the mode that asks nobody.
func (s *OAuth2CallbackServer) completeFor(w http.ResponseWriter, r *http.Request, session string, c *Consent, person *signedInPerson) {
	s.mu.Lock()
	token, asker := s.token, s.identifier
	s.mu.Unlock()
	if person != nil && person.subject != asker {
		s.turnAway(w, r, session, c, person)
		return
	}
	if person != nil && !s.options.ExactToken {
		token = person.idToken
	}
	if !s.move(c, waiting, completing) {
		s.usedPage(w, c)
		return
	}
	if err := s.tell(r, session, token); err != nil {
		s.move(c, completing, ended)
		c.outcome <- notCompleted(err)
		s.page(w, http.StatusBadGateway, pageFailed)
		return
	}
	s.move(c, completing, completed)
	c.outcome <- nil
	done := pageCompleted
	if person == nil {
		done.Note = "This was completed for the owner of USER_TOKEN without asking who sits at this browser. That is fine on your own machine, and only there."
	} else {
		done.Note = "Signed in as " + person.name + "."
	}
	s.page(w, http.StatusOK, done)
}

// turnAway is for somebody who is not the one who asked. Their token is handed
// to the platform all the same, because that is how it learns of them: it throws
// away what they allowed, records who came back, and frees the link for the one
// who asked. The consent goes on waiting.
func (s *OAuth2CallbackServer) turnAway(w http.ResponseWriter, r *http.Request, session string, c *Consent, person *signedInPerson) {
	s.forget(r) // so that the next one at this browser is asked
	err := s.tell(r, session, person.idToken)
	if err == nil {
		// Never seen: it would mean that the platform takes the two for one person.
		if s.move(c, waiting, ended) {
			c.outcome <- &IdentityError{Problem{What: "the platform completed the consent for somebody else", Hint: "This must not be: please report it."}}
		}
		s.page(w, http.StatusBadGateway, pageFailed)
		return
	}
	s.options.Log.Info("somebody else came back with the link", "error", err)
	turned := page{Title: "You are signed in as someone else", Bad: true, Note: "The person who asked can still open the link and finish. If that is you, open it again: you will be asked who you are."}
	turned.Text = "This link was made for another person, and you are signed in as " + person.name + ". Nothing was shared"
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "AccessDeniedException" {
		turned.Text += ", and what you allowed was thrown away"
	}
	turned.Text += "."
	s.page(w, http.StatusForbidden, turned)
}

// tell says to the platform who came back with a session. A window that is
// closed meanwhile must not stop it half-way.
func (s *OAuth2CallbackServer) tell(r *http.Request, session, token string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), completionTime)
	defer cancel()
	_, err := s.identity.CompleteResourceTokenAuth(ctx, &bedrockagentcore.CompleteResourceTokenAuthInput{
		SessionUri: &session, UserIdentifier: &types.UserIdentifierMemberUserToken{Value: token},
	})
	return err
}
