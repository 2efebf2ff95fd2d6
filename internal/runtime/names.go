package runtime

import (
	"strconv"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
)

// newID is the name and ten random characters: never the id of an earlier runtime of that name.
func newID(name string) string { return name + "-" + api.NewMixedID() }

func (s *Service) arn(account, id string) string {
	return api.AgentRuntimeARN(s.options.Region, account, id)
}

func (s *Service) endpointARN(account, id, name string) string {
	return api.AgentRuntimeEndpointARN(s.options.Region, account, id, name)
}

// number reads a version as the API writes it; the model's pattern has been checked.
func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

func text(version int64) string { return strconv.FormatInt(version, 10) }

func noRuntime(id string) error {
	return fault.New(fault.NotFound, "Agent runtime %s was not found.", id)
}

func noVersion(id string, version int64) error {
	return fault.New(fault.NotFound, "Agent runtime %s has no version %d.", id, version)
}

func noEndpoint(id, name string) error {
	return fault.New(fault.NotFound, "Agent runtime %s has no endpoint %s.", id, name)
}
