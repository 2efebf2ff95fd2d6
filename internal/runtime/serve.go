package runtime

import (
	"bytes"
	"context"
	"net/http"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
)

// serve is the data plane's door.
func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	at, err := s.target(r.Context(), r)
	if err == nil {
		err = s.serveInvoke(w, r, at)
	}
	if err != nil {
		s.options.Refuse(w, r, api.InvokeAgentRuntime.Info, err)
	}
}

func (s *Service) serveInvoke(w http.ResponseWriter, r *http.Request, at *served) error {
	var caller principal.Caller
	var body []byte
	var err error
	action := actionInvoke
	if at.authorizer != nil {
		caller, err = s.gate.Bearer(r.Context(), r, at.runtime.account, at.arn, *at.authorizer)
	} else if caller, body, err = s.gate.Signed(w, r, maxPayload); err == nil {
		caller, action, err = asUser(caller, r, actionInvoke)
	}
	if err != nil {
		return err
	}
	check := gate.Check{Action: action, Resource: at.arn}
	return s.gate.Do(r.Context(), caller, []gate.Check{check}, func(ctx context.Context) error {
		if err := s.gate.Intent(ctx, caller, check, nil); err != nil {
			return err
		}
		return s.invoke(ctx, caller, at, w, r, bytes.NewReader(body), int64(len(body)))
	})
}
