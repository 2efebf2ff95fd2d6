package gateway

import (
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/store"
)

// separator stands between a target's name, which cannot contain it, and a
// tool's own name.
const separator = "___"

// newGatewayID is the name as a slug and ten random characters: readable in
// URLs and logs, and never the id of an earlier gateway of that name.
func newGatewayID(name string) string {
	return strings.Trim(strings.ToLower(name), "-") + "-" + api.NewLowerID()
}

func newTargetID() string { return api.NewUpperID() }

// gatewayID takes the id out of a gatewayIdentifier: an id, or the ARN of a
// gateway of this account and region.
func (s *Service) gatewayID(account, identifier string) (string, error) {
	if !strings.HasPrefix(identifier, "arn:") {
		return identifier, nil
	}
	arn, err := api.ParseARN(identifier)
	if err != nil {
		return "", err
	}
	id := arn.Name()
	if s.arn(account, id) != identifier {
		return "", noGateway(identifier)
	}
	return id, nil
}

// Check is fault.NotFound where there is no such gateway of the account.
func (s *Service) Check(tx *store.Tx, account, id string) error {
	_, err := findGateway(tx, account, id)
	return err
}

func (s *Service) arn(account, id string) string {
	return api.GatewayARN(s.options.Region, account, id)
}

// url is the gateway's MCP endpoint: what clients connect to, and the resource
// that its metadata and its tokens are about.
func (s *Service) url(id string) string { return s.options.PublicURL + mcpPrefix + id + mcpSuffix }

func noGateway(identifier string) error {
	return fault.New(fault.NotFound, "Gateway %s was not found.", identifier)
}

func noTarget(gateway, id string) error {
	return fault.New(fault.NotFound, "Target %s of gateway %s was not found.", id, gateway)
}
