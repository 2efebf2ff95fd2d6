package agent_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onbehalf/onbehalf/agent"
)

// asking is a call of AccessToken for a user whom the platform has to ask.
func asking(t *testing.T, ctx context.Context, answer func(n int, c call) (int, any), change func(*agent.AccessTokenOptions)) (token agent.Secret, took time.Duration, seen []call, err error) {
	t.Helper()
	client, wire := over(answer)
	o := agent.AccessTokenOptions{Provider: "people", Flow: agent.UserFederation, Client: client, OnAuthURL: func(context.Context, string) error { return nil }}
	if change != nil {
		change(&o)
	}
	start := time.Now()
	token, err = agent.AccessToken(agent.WithWorkloadToken(ctx, workloadToken), o)
	return token, time.Since(start), wire.seen(), err
}

// answers gives them one after the other, the last one for ever.
func answers(all ...object) func(int, call) (int, any) {
	return func(n int, _ call) (int, any) {
		body := all[min(n, len(all))-1]
		if status, failed := body["status"]; failed {
			return status.(int), exception(body["__type"].(string), body["message"].(string))
		}
		return 200, body
	}
}

func failure(status int, code, message string) object {
	e := exception(code, message)
	e["status"] = status
	return e
}

func TestPollsEveryFiveSecondsWithTheSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var shown []string
		token, took, seen, err := asking(t, t.Context(), answers(inProgress, inProgress, inProgress, object{"accessToken": "granted"}), func(o *agent.AccessTokenOptions) {
			o.ForceAuthentication = true
			o.OnAuthURL = func(_ context.Context, url string) error { shown = append(shown, url); return nil }
		})
		if err != nil || token.Reveal() != "granted" || took != 15*time.Second {
			t.Fatalf("%q after %v: %v", token.Reveal(), took, err)
		}
		if len(shown) != 1 || shown[0] != link {
			t.Errorf("shown: %q", shown)
		}
		if first := seen[0].Body; first["forceAuthentication"] != true || first["sessionUri"] != nil {
			t.Errorf("the first request: %v", first)
		}
		for _, poll := range seen[1:] {
			if poll.Body["forceAuthentication"] != false || poll.Body["sessionUri"] != session {
				t.Errorf("a poll: %v", poll.Body)
			}
		}
	})
}

func TestPollingEnds(t *testing.T) {
	t.Parallel()
	trouble := failure(500, "InternalServerException", "Sorry")
	throttled := failure(429, "ThrottlingException", "Slow down")
	granted := object{"accessToken": "granted"}
	for name, test := range map[string]struct {
		answer func(int, call) (int, any)
		kind   error // nil: with a token
		took   time.Duration
		calls  int
	}{
		"after ten minutes":       {answers(inProgress), agent.ErrConsentTimeout, 10 * time.Minute, 121},
		"when the user says no":   {answers(inProgress, inProgress, failure(403, "AccessDeniedException", "Invalid or expired session: access_denied")), agent.ErrConsentFailed, 10 * time.Second, 3},
		"when the session failed": {answers(inProgress, object{"sessionUri": session, "sessionStatus": "FAILED"}), agent.ErrConsentFailed, 5 * time.Second, 2},
		"at a refusal":            {answers(inProgress, failure(403, "AccessDeniedException", "User is not authorized")), agent.ErrAccessDenied, 5 * time.Second, 2},
		"at a bad request":        {answers(inProgress, failure(400, "ValidationException", "No")), agent.ErrInvalid, 5 * time.Second, 2},
		"not at a hiccup":         {answers(inProgress, trouble, throttled, trouble, inProgress, trouble, granted), nil, 30 * time.Second, 7},
		"when nobody is there":    {answers(inProgress, trouble), agent.ErrUnavailable, time.Minute, 13},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				token, took, seen, err := asking(t, t.Context(), test.answer, nil)
				if test.kind == nil && err != nil || test.kind != nil && !errors.Is(err, test.kind) || token.IsZero() != (test.kind != nil) {
					t.Errorf("want %v, got %v", test.kind, err)
				}
				if took != test.took || len(seen) != test.calls {
					t.Errorf("%d calls in %v", len(seen), took)
				}
				var known *agent.Error
				if err != nil && (!errors.As(err, &known) || known.Provider != "people") {
					t.Errorf("the error does not name the provider: %v", err)
				}
			})
		})
	}
}

func TestPollingHonoursTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(7*time.Second, cancel)
		_, took, seen, err := asking(t, ctx, answers(inProgress), nil)
		if !errors.Is(err, context.Canceled) || took != 7*time.Second || len(seen) != 2 {
			t.Errorf("%v after %v and %d calls", err, took, len(seen))
		}
		ctx, cancel = context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		_, took, _, err = asking(t, ctx, answers(inProgress), nil)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, agent.ErrConsentTimeout) || took != 12*time.Second {
			t.Errorf("%v after %v", err, took)
		}
		var known *agent.Error
		if !errors.As(err, &known) || known.Provider != "people" {
			t.Errorf("no *agent.Error: %v", err)
		}
	})
}

// untilCalled is a poller for a program that serves its own callback page.
type untilCalled struct{ back <-chan struct{} }

func (u untilCalled) PollForToken(ctx context.Context, poll func(context.Context) (agent.Secret, error)) (agent.Secret, error) {
	if _, err := poll(ctx); !errors.Is(err, agent.ErrPending) {
		return agent.Secret{}, errors.New("the user cannot be done yet")
	}
	select {
	case <-u.back:
		return poll(ctx)
	case <-ctx.Done():
		return agent.Secret{}, ctx.Err()
	}
}

func TestPollerOfOnesOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		back := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(back) })
		// With a poller the call waits also where nobody is told of the link.
		token, took, _, err := asking(t, t.Context(), answers(inProgress, inProgress, object{"accessToken": "granted"}), func(o *agent.AccessTokenOptions) {
			o.Poller, o.OnAuthURL = untilCalled{back}, nil
		})
		if err != nil || token.Reveal() != "granted" || took != time.Second {
			t.Errorf("%v after %v", err, took)
		}
	})
}
