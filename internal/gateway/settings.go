package gateway

import (
	"fmt"
	"slices"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
)

// notBuilt refuses a setting that would change what happens and that this
// server cannot honour: silence would be a promise.
func notBuilt(member, format string, args ...any) error {
	message := fmt.Sprintf(format, args...) + " (" + member + ") is part of the API, but this server does not have it yet."
	return &fault.Error{Kind: fault.NotBuilt, Message: message, Fields: []fault.Field{{Name: member, Message: message}}}
}

// checkSettings checks what was asked for a gateway. kmsKeyArn, description,
// wafConfiguration and private endpoints have nothing to act on here: they are
// stored and echoed. authorizer is nil for a gateway without inbound
// authorization.
func checkSettings(r *api.UpdateGatewayRequest) (authorizer *auth.Authorizer, err error) {
	switch {
	case len(r.InterceptorConfigurations) > 0:
		return nil, notBuilt("interceptorConfigurations", "Interceptors")
	case r.PolicyEngineConfiguration != nil:
		return nil, notBuilt("policyEngineConfiguration", "Policy engines")
	case r.CustomTransformConfiguration != nil:
		return nil, notBuilt("customTransformConfiguration", "Custom transforms")
	}
	if r.ProtocolConfiguration != nil && r.ProtocolConfiguration.Mcp != nil {
		if err := checkProtocol(r.ProtocolConfiguration.Mcp); err != nil {
			return nil, err
		}
	}
	switch r.AuthorizerType {
	case api.AuthorizerTypeCustomJwt:
		if r.AuthorizerConfiguration == nil || r.AuthorizerConfiguration.CustomJWTAuthorizer == nil {
			return nil, fault.InvalidField("authorizerConfiguration", "The authorizer type CUSTOM_JWT needs authorizerConfiguration.customJWTAuthorizer.")
		}
		z, err := auth.AuthorizerOf(r.AuthorizerConfiguration.CustomJWTAuthorizer)
		if err != nil {
			return nil, err
		}
		return z, z.Check()
	case api.AuthorizerTypeNone:
		if r.AuthorizerConfiguration != nil {
			return nil, fault.InvalidField("authorizerConfiguration", "The authorizer type NONE takes no authorizerConfiguration.")
		}
		return nil, nil
	default:
		return nil, notBuilt("authorizerType", "The authorizer type %s", r.AuthorizerType)
	}
}

func checkProtocol(c *api.MCPGatewayConfiguration) error {
	const prefix = "protocolConfiguration.mcp."
	switch {
	case c.SearchType != "":
		return notBuilt(prefix+"searchType", "Semantic search")
	case c.SessionConfiguration != nil:
		return notBuilt(prefix+"sessionConfiguration", "MCP sessions")
	case c.StreamingConfiguration != nil && c.StreamingConfiguration.EnableResponseStreaming != nil && *c.StreamingConfiguration.EnableResponseStreaming:
		return notBuilt(prefix+"streamingConfiguration", "Response streaming")
	}
	for _, version := range c.SupportedVersions {
		if !slices.Contains(revisions, version) {
			return fault.InvalidField(prefix+"supportedVersions", "The MCP version %q is not one of %s.", version, strings.Join(revisions, ", "))
		}
	}
	return nil
}

// checkTarget checks what was asked for a target, apart from its document.
func checkTarget(r *api.UpdateGatewayTargetRequest) (*credential, error) {
	switch {
	case r.MetadataConfiguration != nil:
		return nil, notBuilt("metadataConfiguration", "Passing headers and query parameters on")
	case len(r.CertificateConfigurations) > 0:
		return nil, notBuilt("certificateConfigurations", "Private certificate authorities")
	}
	if len(r.CredentialProviderConfigurations) == 0 {
		return nil, nil
	}
	return credentialOf(r.CredentialProviderConfigurations[0])
}

// kindOf finds the kind that a configuration is of.
func (s *Service) kindOf(c *api.TargetConfiguration) (Kind, error) {
	for _, k := range s.options.Kinds {
		if k.Accepts(c) {
			return k, nil
		}
	}
	return Kind{}, notBuilt("targetConfiguration", "This kind of target")
}
