package deploy

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Destroyed is what went.
type Destroyed struct {
	Runtime string `json:"agentRuntimeArn,omitempty"`
	Role    string `json:"role,omitempty"` // none where somebody else made it
}

// Destroy removes the agent's runtime with its sessions, the policy that PutPolicy
// attached, and the role where Launch made it. The folder stays, with its settings.
// A runtime that was not launched from this folder is removed with adopt alone.
func (c *Client) Destroy(ctx context.Context, a *Agent, adopt bool) (gone Destroyed, err error) {
	r, err := c.find(ctx, a)
	if err != nil {
		return gone, err
	}
	if r.ID != "" && !adopt && c.remembered(a).Runtime != r.ID {
		return gone, fmt.Errorf("%w: %s", ErrTaken, r.ARN)
	}
	if r.ID != "" {
		if err := c.ask(ctx, http.MethodDelete, "/runtimes/"+url.PathEscape(r.ID)+"/?clientToken="+uuid(), nil, nil); err != nil && !isMissing(err) {
			return gone, err
		}
		if err := c.awaitGone(ctx, r.ID); err != nil {
			return gone, err
		}
		gone.Runtime = r.ARN
		c.progress.say("runtime", r.ARN+" (deleted)")
	}
	deleted, err := c.deleteRole(ctx, a)
	if err != nil {
		return gone, err
	}
	if deleted {
		gone.Role = a.RoleName()
		c.progress.say("role", a.RoleName()+" (deleted)")
	}
	return gone, c.remember(a, func(s *state) { *s = state{} })
}

func (c *Client) awaitGone(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, launchTime, fmt.Errorf("the runtime %s is not gone after %v", id, launchTime))
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := c.ask(ctx, http.MethodGet, "/runtimes/"+url.PathEscape(id)+"/", nil, nil)
		if isMissing(err) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}
