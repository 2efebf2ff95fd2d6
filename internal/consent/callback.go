package consent

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// callback takes the provider's answer and sends the browser to the application.
func (p *pages) callback(w http.ResponseWriter, r *http.Request) {
	answer, ok := p.answered(w, r)
	if !ok {
		return
	}
	ctx, id := r.Context(), r.PathValue("id")
	subject, ok := p.concerned(w, r, id, answer["state"])
	if !ok {
		return
	}
	caller := p.gate.Browser(ctx, subject.Account)
	var landing *broker.Landing
	err := p.gate.Do(ctx, caller, []gate.Check{{Action: gate.ActionCallback, Resource: subject.ProviderARN}}, func(ctx context.Context) error {
		var err error
		landing, err = p.broker.Callback(ctx, caller, broker.Callback{
			ProviderCallbackID: id, State: answer["state"], Code: secret.New(answer["code"]), Issuer: answer["iss"],
			Error:  answer["error"],
			Cookie: p.cookieOf(r),
		})
		return err
	})
	if err != nil {
		p.fail(w, r, err)
		return
	}
	p.forget(w, landing.CookieName, landing.CookiePath)
	p.rememberConnect(w, landing)
	p.send(w, landing.ReturnURL) // which broker has compared with the workload's list
}

// answered is what a provider or an issuer sends a browser back with; where it
// is nothing to go on with, the browser has been told. Only GET takes it: a HEAD
// must not spend the code.
func (p *pages) answered(w http.ResponseWriter, r *http.Request) (answer map[string]string, ok bool) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		p.show(w, r, wrongMethod)
		return nil, false
	}
	if err := p.gate.Limit(auth.LimitCallback, addressOf(r)); err != nil {
		p.fail(w, r, err)
		return nil, false
	}
	if answer, ok = answerOf(r); !ok {
		p.show(w, r, damagedAnswer)
	}
	return answer, ok
}

// answerOf reads what a provider or an issuer sends a browser back with; false
// where a part is missing, is there twice, or does not go with another.
func answerOf(r *http.Request) (map[string]string, bool) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, false
	}
	answer := map[string]string{}
	for _, name := range []string{"state", "code", "iss", "error"} {
		value, ok := single(query, name)
		if !ok {
			return nil, false
		}
		answer[name] = value
	}
	return answer, answer["state"] != "" && (answer["code"] == "") != (answer["error"] == "")
}

// concerned is whom a state at a provider's path concerns; where nobody knows
// it, the browser has been told, and the failure counted.
func (p *pages) concerned(w http.ResponseWriter, r *http.Request, id, state string) (subject broker.Subject, ok bool) {
	ctx := r.Context()
	subject, err := p.broker.SubjectOfCallback(ctx, id)
	if err != nil {
		p.fail(w, r, err)
		return subject, false
	}
	if err := p.broker.KnowsState(ctx, state); err != nil {
		if errors.Is(err, broker.ErrAttempt) {
			p.gate.Unproven(ctx, subject.Account, err)
		}
		p.fail(w, r, err)
		return subject, false
	}
	return subject, true
}
