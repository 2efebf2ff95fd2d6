package runtime

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
)

// maxCard is how long an agent's card may be.
const maxCard = 1 << 20

// card answers what an agent of A2A says of itself, as it says it. The URL in it
// is what the agent was told to be reached at.
func (s *Service) card(ctx context.Context, c *call) error {
	if c.at.speaks != api.ServerProtocolA2a {
		return fault.InvalidField("agentRuntimeArn", "The agent runtime does not speak A2A, so it has no agent card.")
	}
	n, header, release, err := s.enter(ctx, c)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := n.during(ctx, callLimit)
	defer cancel()
	request := &http.Request{
		Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: n.host, Path: "/.well-known/agent-card.json"}, Host: n.host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	response, err := n.agent.RoundTrip(request.WithContext(ctx))
	if err != nil {
		return n.broken(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return n.refusal(ctx, response)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxCard+1))
	switch {
	case err != nil:
		return n.broken(ctx, err)
	case len(body) > maxCard || !json.Valid(body):
		return fault.New(fault.RuntimeClient, "The agent's card is no JSON, or longer than %d bytes.", maxCard)
	}
	gate.Detail(ctx, "status", "200")
	c.begun = true
	c.w.Header().Set(headerType, jsonType)
	_, _ = c.w.Write(body)
	return nil
}
