package runtime

import (
	"context"
	"errors"
	"fmt"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// readiness is whether a version can be run here: the code it has, and why not.
type readiness struct{ code, why string }

// prepare finds out whether settings can be run, before anything is stored. The
// code is unpacked by then, so that a first session need not wait for that.
func (s *Service) prepare(ctx context.Context, account string, settings *api.UpdateAgentRuntimeRequest) (readiness, error) {
	c := settings.AgentRuntimeArtifact.CodeConfiguration
	if c == nil {
		return readiness{why: "This server runs no containers yet. Give codeConfiguration instead of containerConfiguration, with the code as PutAgentCode keeps it."}, nil
	}
	if _, err := s.options.Driver(); err != nil {
		return readiness{why: forPeople(err)}, nil
	}
	sum, ok := codeSum(account, c)
	if !ok {
		return readiness{why: fmt.Sprintf("The code is not in this server: codeConfiguration.code.s3 must name what PutAgentCode answered, the bucket %s and a prefix %s….zip.", bucket(account), codePrefix)}, nil
	}
	held := false
	if err := s.db.View(ctx, func(tx *store.Tx) (err error) {
		held, err = holdsCode(tx, account, sum)
		return err
	}); err != nil {
		return readiness{}, err
	}
	if !held {
		return readiness{why: noCode(sum)}, nil
	}
	folder, err := s.code(ctx, account, sum)
	if fault.Is(err, fault.Unavailable) || fault.Is(err, fault.RuntimeClient) {
		return readiness{why: fault.Of(err).Message}, nil
	}
	if err != nil {
		return readiness{}, err
	}
	_, err = s.program(ctx, c, folder)
	var not *notRunnable
	if errors.As(err, &not) {
		return readiness{code: sum, why: not.why}, nil
	}
	return readiness{code: sum}, fault.Wrap(err, "looking for what runs an agent")
}

// forPeople is an error's message, or the whole of one that has none: a driver's are for people.
func forPeople(err error) string {
	var worded *fault.Error
	if errors.As(err, &worded) {
		return worded.Message
	}
	return err.Error()
}

func noCode(sum string) string {
	return "There is no code " + sum + " in this account: put it first (PutAgentCode), or again, since what no agent runtime uses is kept for a day."
}
