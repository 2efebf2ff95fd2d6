package consent

import (
	"net/http"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// problem is a page that says what happened and what to do. It tells whoever
// reads it nothing that they did not know: not whether a link ever existed,
// nor for whom.
type problem struct {
	Status int
	Title  string
	What   string // what happened, and that nothing else did
	Next   string // what to do
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
	endedLink = problem{
		Status: http.StatusGone, Title: "This link no longer works",
		What: "It is more than 10 minutes old, or the sign-in that it began was declined or failed.",
		Next: "Go back to the agent and ask again. It will give you a new link.",
	}
	usedLink = problem{
		Status: http.StatusConflict, Title: "This link was already used",
		What: "A sign-in that began with it has come back, and one is all it allows.",
		Next: "If that was you, go back to your application: it carries on there. If it was not, ask the agent for a new link and share it with nobody.",
	}
	unmatched = problem{
		Status: http.StatusForbidden, Title: "This sign-in can’t be finished here",
		What: "It may have begun in another browser, been overtaken by a newer one, or taken more than 10 minutes. Nothing was shared.",
		Next: "Open the agent’s link again in this browser and stay in it until the end. If the link is too old, ask the agent for a new one.",
	}
	damagedAnswer = problem{
		Status: http.StatusBadRequest, Title: "The sign-in can’t be matched",
		What: "The answer that your browser brought back is incomplete or belongs to no sign-in that is under way. Nothing was shared.",
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

// problemOf chooses the page for an error of broker or gate. What a Denied or a
// NotFound means depends on where it happened: the caller says.
func problemOf(e *fault.Error, denied problem) problem {
	switch e.Kind {
	case fault.Throttled:
		p := tooMany
		if e.RetryAfter > 0 {
			p.wait = e.RetryAfter
		}
		return p
	case fault.Denied, fault.NotFound:
		return denied
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
