package runtime

import (
	"crypto/rand"
	"strconv"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
)

const alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// newID is the name and ten random characters: never the id of an earlier runtime of that name.
func newID(name string) string {
	const length = 10
	out := make([]byte, 0, length)
	for len(out) < length {
		var raw [2 * length]byte
		_, _ = rand.Read(raw[:]) // never fails
		for _, b := range raw {
			// 248 is the largest multiple of 62 that a byte holds: no bias
			if len(out) < length && b < 248 {
				out = append(out, alphanumeric[b%62])
			}
		}
	}
	return name + "-" + string(out)
}

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
