package consent

import (
	"errors"
	"net/http"
	"time"

	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/fault"
)

// problem is a page that says what happened and what to do. It does not say who
// asked, for whom or for what: whoever reads it may not be the person.
type problem struct {
	Status int
	Title  string
	What   string // what happened, and that nothing else did
	Next   string // what to do
	Again  string // address of another try; empty: there is none
	Button string // what its link says
	wait   time.Duration
}

var (
	incompleteLink = problem{
		Status: http.StatusBadRequest, Title: "This link is incomplete",
		What: "Part of its address is missing, so there is nothing to show.",
		Next: "Open the link again exactly as it was given to you, or ask the agent for a new one.",
	}
	deadLink = problem{
		Status: http.StatusNotFound, Title: "This link doesn’t work",
		What: "It may be mistyped, already finished, or more than 10 minutes old. Nothing was shared.",
		Next: "Go back to the agent and ask again. It will give you a new link.",
	}
	expiredLink = problem{
		Status: http.StatusGone, Title: "This link has expired",
		What: "Links work for 10 minutes, and this one is older. Nothing was shared.",
		Next: "Go back to the agent and ask again. It will give you a new link.",
	}
	failedLink = problem{
		Status: http.StatusGone, Title: "This link no longer works",
		What: "The sign-in that began with it was declined or broke off, or newer links took its place.",
		Next: "If you still want this, go back to the agent and ask again. It will give you a new link.",
	}
	declined = problem{
		Status: http.StatusOK, Title: "You said no",
		What: "The provider says that this was not allowed. Nothing was connected, and nothing was shared.",
		Next: "There is nothing more to do; you can close this page. If you want it after all, go back to the agent and ask again.",
	}
	providerFailed = problem{
		Status: http.StatusBadGateway, Title: "The provider reported an error",
		What: "It said neither yes nor no. Nothing was connected, and nothing was shared.",
		Next: "Go back to the agent and ask again. If it happens again, tell the people who run this service.",
	}
	otherPerson = problem{
		Status: http.StatusForbidden, Title: "The agent asked for somebody else",
		What: "You signed in, and are not the one whom the agent asked for. Nothing was connected, and what your provider gave was thrown away.",
		Next: "If it was you who asked: open the agent’s link again, and sign in at the end with the account with which you use the agent. If somebody sent you the link, close this page.",
	}
	signInFailed = problem{
		Status: http.StatusForbidden, Title: "We don’t know yet who you are",
		What:   "The sign-in did not succeed, or was declined, so we can’t tell whether you are the one who asked. Nothing was connected.",
		Next:   "Sign in once more. If it happens again, tell the people who run this service.",
		Button: "Sign in again",
	}
	notTaken = problem{
		Status: http.StatusBadGateway, Title: "The provider did not take the request",
		What:   "It wants to be told beforehand what you will be asked, and refused that or does not answer. Nothing was shared.",
		Next:   "Try once more. If it happens again, tell the people who run this service: the client that is registered at the provider may need mending.",
		Button: "Try again",
	}
	noSignIn = problem{
		Status: http.StatusBadGateway, Title: "You can’t sign in here",
		What: "This service has no way to ask your sign-in provider who you are. Nothing was connected.",
		Next: "Tell the people who run this service.",
	}
	finishing = problem{
		Status: http.StatusServiceUnavailable, Title: "One moment",
		What: "Your account is being connected.",
		Next: "This page looks again by itself. You can reload it, too.",
		wait: 2 * time.Second,
	}
	usedLink = problem{
		Status: http.StatusConflict, Title: "This link was already used",
		What: "The sign-in that began with it has come back already, and nothing more is needed here.",
		Next: "If that was you, go back to your application: it carries on there. If it was not, ask the agent for a new link and share it with nobody.",
	}
	otherBrowser = problem{
		Status: http.StatusForbidden, Title: "This began in another browser",
		What: "A sign-in has to end in the browser where it began, and this one has no trace of it. Nothing was shared.",
		Next: "Open the agent’s link again in this browser and stay in it until the end. If you did, check that cookies are allowed here.",
	}
	unmatched = problem{
		Status: http.StatusForbidden, Title: "This sign-in can’t be matched",
		What: "It is no longer under way here: a newer one may have taken its place. Nothing was shared.",
		Next: "Open the agent’s link again, or ask the agent for a new one.",
	}
	wrongIssuer = problem{
		Status: http.StatusForbidden, Title: "The answer came from somewhere else",
		What: "You were sent to one provider and another one seems to have answered, so we stopped. Nothing was shared.",
		Next: "Ask the agent for a new link. If it happens again, tell the people who run this service.",
	}
	damagedAnswer = problem{
		Status: http.StatusBadRequest, Title: "The answer is incomplete",
		What: "What your browser brought back from the provider lacks a part, or has one twice. Nothing was shared.",
		Next: "Open the agent’s link again, or ask the agent for a new one.",
	}
	refused = problem{
		Status: http.StatusForbidden, Title: "This isn’t allowed",
		What: "The service’s rules don’t let this request go on. Nothing was shared.",
		Next: "Ask the people who run this service.",
	}
	tooMany = problem{
		Status: http.StatusTooManyRequests, Title: "Too many tries",
		What: "There were many requests from your network in a short time.",
		Next: "Wait a minute, then open the link again.",
		wait: time.Minute,
	}
	unavailable = problem{
		Status: http.StatusServiceUnavailable, Title: "We can’t do this right now",
		What: "A part of the service, or the provider, does not answer. Nothing was shared.",
		Next: "Try again in a minute. The link works for 10 minutes.",
		wait: time.Minute,
	}
	upstream = problem{
		Status: http.StatusBadGateway, Title: "The provider can’t be used",
		What: "The provider that you were to sign in with is set up wrongly, or does not answer as it should. Nothing was shared.",
		Next: "Tell the people who run this service.",
	}
	ourFault = problem{
		Status: http.StatusInternalServerError, Title: "Something went wrong here",
		What: "It is not your doing. Nothing was shared.",
		Next: "Try again. If it stays like this, tell the people who run this service, with the reference below.",
	}
	notFound = problem{
		Status: http.StatusNotFound, Title: "There is nothing here",
		What: "No page has this address.",
		Next: "Open the link again exactly as it was given to you.",
	}
	wrongMethod = problem{
		Status: http.StatusMethodNotAllowed, Title: "This can’t be sent here",
		What: "The page only takes visits, not forms.",
		Next: "Open the link again exactly as it was given to you.",
	}
	wrongHost = problem{
		Status: http.StatusMisdirectedRequest, Title: "This is the wrong address",
		What: "The service does not answer under this name.",
		Next: "Open the link again exactly as it was given to you.",
	}
)

// pageFor are the errors that have a page of their own, the narrower one first.
var pageFor = []struct {
	err  error
	page problem
}{
	{broker.ErrSession, deadLink},
	{broker.ErrOtherPerson, otherPerson},
	{broker.ErrFinishing, finishing},
	{broker.ErrLinkFailed, failedLink},
	{broker.ErrLinkExpired, expiredLink},
	{broker.ErrLinkUsed, usedLink},
	{broker.ErrAttempt, unmatched},
	{broker.ErrOtherBrowser, otherBrowser},
	{broker.ErrIssuer, wrongIssuer},
	{broker.ErrSignIn, noSignIn},
}

// problemOf chooses the page for an error of broker or gate.
func problemOf(err error) problem {
	for _, k := range pageFor {
		if errors.Is(err, k.err) {
			return k.page
		}
	}
	switch e := fault.Of(err); e.Kind {
	case fault.Throttled:
		p := tooMany
		if e.RetryAfter > 0 {
			p.wait = e.RetryAfter
		}
		return p
	case fault.NotFound:
		return notFound
	case fault.Denied, fault.Unauthenticated:
		return refused
	case fault.Conflict, fault.Concurrent:
		return usedLink
	case fault.Invalid:
		return damagedAnswer
	case fault.Unavailable:
		return unavailable
	case fault.Upstream:
		return upstream
	default:
		return ourFault
	}
}
