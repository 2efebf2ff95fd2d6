package consent

import (
	"context"
	"errors"
	"net/http"

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
	answer, ok := answerOf(r)
	if !ok {
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
