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
	if r.Method != http.MethodGet { // a HEAD must not spend the code
		w.Header().Set("Allow", "GET")
		p.show(w, r, wrongMethod)
		return
	}
	if err := p.gate.Limit(auth.LimitCallback, addressOf(r)); err != nil {
		p.fail(w, r, err)
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	answer := map[string]string{}
	for _, name := range []string{"state", "code", "iss", "error"} {
		value, ok := single(query, name)
		if !ok {
			p.show(w, r, damagedAnswer)
			return
		}
		answer[name] = value
	}
	if err != nil || answer["state"] == "" || (answer["code"] == "") == (answer["error"] == "") {
		p.show(w, r, damagedAnswer)
		return
	}
	ctx, id := r.Context(), r.PathValue("id")
	subject, err := p.broker.SubjectOfCallback(ctx, id)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	if err := p.broker.KnowsState(ctx, answer["state"]); err != nil {
		if errors.Is(err, broker.ErrAttempt) {
			p.gate.Unproven(ctx, subject.Account, err)
		}
		p.fail(w, r, err)
		return
	}
	caller := p.gate.Browser(ctx, subject.Account)
	var landing *broker.Landing
	err = p.gate.Do(ctx, caller, []gate.Check{{Action: gate.ActionCallback, Resource: subject.ProviderARN}}, func(ctx context.Context) error {
		var err error
		landing, err = p.broker.Callback(ctx, caller, broker.Callback{
			ProviderCallbackID: id, State: answer["state"], Code: secret.New(answer["code"]), Issuer: answer["iss"],
			Error: answer["error"],
			Cookie: func(name string) string {
				cookie, err := r.Cookie(p.cookieName(name))
				if err != nil {
					return ""
				}
				return cookie.Value
			},
		})
		return err
	})
	if err != nil {
		p.fail(w, r, err)
		return
	}
	p.forget(w, landing.CookieName, landing.CookiePath)
	// Broker checked the return URL against the workload's list when the session was opened.
	w.Header().Set("Location", landing.ReturnURL)
	w.WriteHeader(http.StatusSeeOther)
}
