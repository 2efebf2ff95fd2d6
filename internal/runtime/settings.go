package runtime

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
)

// The lifetimes of a session where the runtime does not say.
const (
	defaultIdle = 15 * time.Minute
	defaultLife = 8 * time.Hour
	longestLife = 8 * time.Hour
)

// The ports of the contracts.
var contractPorts = map[api.ServerProtocol]int{api.ServerProtocolHttp: 8080, api.ServerProtocolMcp: 8000, api.ServerProtocolA2a: 9000, api.ServerProtocolAgui: 8080}

// checkSettings checks what the model cannot: what belongs together, and what
// would change something that this server does not have. authorizer is nil for
// a runtime that is called with signed requests.
func checkSettings(r *api.UpdateAgentRuntimeRequest) (authorizer *auth.Authorizer, err error) {
	if a := r.AgentRuntimeArtifact; a.CodeConfiguration == nil && a.ContainerConfiguration == nil {
		return nil, fault.InvalidField("agentRuntimeArtifact", "The artifact needs codeConfiguration or containerConfiguration.")
	}
	for _, check := range []func(*api.UpdateAgentRuntimeRequest) error{checkLifecycle, checkPorts, checkEnvironment, checkPlaces, checkAllowlist} {
		if err := check(r); err != nil {
			return nil, err
		}
	}
	if authorizer, err = authorizerOf(r); err != nil || authorizer == nil {
		return nil, err
	}
	return authorizer, authorizer.Check()
}

// authorizerOf is whose tokens count for a runtime; nil where requests are signed.
// Unlike checkSettings it judges nothing: versions stay what they are when rules grow.
func authorizerOf(r *api.UpdateAgentRuntimeRequest) (*auth.Authorizer, error) {
	if r.AuthorizerConfiguration == nil {
		return nil, nil
	}
	if r.AuthorizerConfiguration.CustomJWTAuthorizer == nil {
		return nil, fault.InvalidField("authorizerConfiguration", "The authorizer needs customJWTAuthorizer.")
	}
	return auth.AuthorizerOf(r.AuthorizerConfiguration.CustomJWTAuthorizer)
}

func checkLifecycle(r *api.UpdateAgentRuntimeRequest) error {
	idle, life := lifetimes(r.LifecycleConfiguration)
	if idle > life {
		return fault.InvalidField("lifecycleConfiguration", "idleRuntimeSessionTimeout (%d s) cannot be longer than maxLifetime (%d s).", int(idle.Seconds()), int(life.Seconds()))
	}
	// The model's 14 days are those of agents on instances of their own.
	if life > longestLife && r.CapacityProviderConfiguration == nil {
		return fault.InvalidField("lifecycleConfiguration.maxLifetime", "A session lives for at most %d s.", int(longestLife.Seconds()))
	}
	return nil
}

func checkEnvironment(r *api.UpdateAgentRuntimeRequest) error {
	for name, value := range r.EnvironmentVariables {
		if strings.ContainsAny(name, "=\x00") || strings.Contains(value.Reveal(), "\x00") {
			return fault.InvalidField("environmentVariables", "The name of a variable cannot contain =, and neither name nor value a zero byte.")
		}
		if reserved(name) {
			return fault.InvalidField("environmentVariables", "The variable %.100s is the runtime's own: a session's credentials are those of its role, and it reaches the platform and the network as its surroundings have it.", name)
		}
	}
	return nil
}

// checkPlaces checks the network and the folders that a runtime asks for.
func checkPlaces(r *api.UpdateAgentRuntimeRequest) error {
	if n := r.NetworkConfiguration; n != nil && n.NetworkMode == api.NetworkModeVpc && n.NetworkModeConfig == nil {
		return fault.InvalidField("networkConfiguration.networkModeConfig", "The mode VPC needs networkModeConfig.")
	}
	taken := map[string]bool{}
	for _, f := range r.FilesystemConfigurations {
		path := ""
		switch {
		case f.SessionStorage != nil:
			path = f.SessionStorage.MountPath
		case f.EfsAccessPoint != nil:
			path = f.EfsAccessPoint.MountPath
		case f.S3FilesAccessPoint != nil:
			path = f.S3FilesAccessPoint.MountPath
		case f.CapacityProviderVolume != nil:
			path = f.CapacityProviderVolume.MountPath
		}
		path = strings.TrimSuffix(path, "/")
		if taken[path] || path == "/mnt/." || path == "/mnt/.." {
			return fault.InvalidField("filesystemConfigurations", "The mount path %s is given twice, or is no folder of its own.", path)
		}
		taken[path] = true
	}
	return nil
}

// lifetimes are how long a session may be idle, and how long it may live.
func lifetimes(l *api.LifecycleConfiguration) (idle, life time.Duration) {
	life = defaultLife
	if l != nil && l.MaxLifetime != nil {
		life = time.Duration(*l.MaxLifetime) * time.Second
	}
	idle = min(defaultIdle, life)
	if l != nil && l.IdleRuntimeSessionTimeout != nil {
		idle = time.Duration(*l.IdleRuntimeSessionTimeout) * time.Second
	}
	return idle, life
}

// checkPorts checks what the model's ranges leave open.
func checkPorts(r *api.UpdateAgentRuntimeRequest) error {
	p := r.ProtocolConfiguration
	if p != nil && p.Port != nil && *p.Port == 8443 {
		return fault.InvalidField("protocolConfiguration.port", "The port 8443 is reserved.")
	}
	for _, allowed := range r.AllowedPorts {
		if allowed.Port != nil && *allowed.Port == 8443 || allowed.PortRange != nil && allowed.PortRange.From <= 8443 && allowed.PortRange.To >= 8443 {
			return fault.InvalidField("allowedPorts", "The port 8443 is reserved.")
		}
		if allowed.PortRange != nil && allowed.PortRange.From > allowed.PortRange.To {
			return fault.InvalidField("allowedPorts", "A range of ports begins with the lower one.")
		}
	}
	return nil
}

// protocol is what a version speaks, and where.
func protocol(r *api.UpdateAgentRuntimeRequest) (p api.ServerProtocol, port int, path string) {
	p = api.ServerProtocolHttp
	if c := r.ProtocolConfiguration; c != nil {
		p = c.ServerProtocol
	}
	port = contractPorts[p]
	switch p {
	case api.ServerProtocolMcp:
		path = "/mcp"
	case api.ServerProtocolA2a:
		path = "/"
	default:
		path = "/invocations"
	}
	if c := r.ProtocolConfiguration; c != nil {
		if c.Port != nil {
			port = int(*c.Port)
		}
		if c.Path != nil {
			path = *c.Path
		}
	}
	return p, port, path
}

// reserved are the variables that a session's surroundings have.
func reserved(name string) bool {
	switch name {
	case "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
		"AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL",
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "DOCKER_CONTAINER":
		return true
	}
	return false
}

// withoutEffect logs what is stored and echoed, and does nothing here.
func withoutEffect(id string, r *api.UpdateAgentRuntimeRequest) {
	var members []string
	add := func(given bool, member string) {
		if given {
			members = append(members, member)
		}
	}
	add(r.NetworkConfiguration != nil && r.NetworkConfiguration.NetworkMode == api.NetworkModeVpc, "networkConfiguration (VPC)")
	add(r.CapacityProviderConfiguration != nil, "capacityProviderConfiguration")
	add(r.MetadataConfiguration != nil, "metadataConfiguration")
	add(len(r.AllowedPorts) > 0, "allowedPorts")
	add(r.PlatformVersion != nil, "platformVersion")
	for _, f := range r.FilesystemConfigurations {
		add(f.SessionStorage == nil, "filesystemConfigurations (EFS, S3, volumes)")
	}
	if len(members) > 0 {
		slog.Warn("settings of an agent runtime are kept and have no effect here", "runtime", id, "settings", slices.Compact(members))
	}
}

// longestHeader is AWS's limit of a forwarded header's value.
const longestHeader = 4 << 10

const (
	customPrefix = "X-Amzn-Bedrock-Agentcore-Runtime-Custom-"
)

// restricted are headers that cannot be allowed through: they are about this one
// connection, or say who called.
var restricted = set(
	"Proxy-Authorization", "Www-Authenticate", "Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Content-Type", "Content-Length", "Content-Encoding",
	"Content-Language", "Content-Location", "Content-Range", "Cache-Control", "Etag", "Expires", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range",
	"If-Unmodified-Since", "Last-Modified", "Pragma", "Vary", "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Cookie",
	"Set-Cookie", "Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers", "Host", "Date", "Expect", "Forwarded", "Via", "From", "Max-Forwards",
	"X-Real-Ip", "True-Client-Ip", "Workloadaccesstoken", "Oauth2callbackurl",
)

func set(names ...string) map[string]bool {
	out := make(map[string]bool, len(names))
	for _, name := range names {
		out[name] = true
	}
	return out
}

// asRead is a header's name as the strangest of agents reads it: servers that make
// variables of headers (CGI, WSGI) take _ for -, so what reads like one of ours
// there is as little the caller's as that one.
func asRead(name string) string { return http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-")) }

// checkAllowlist checks the headers that callers may send on to the agent.
func checkAllowlist(r *api.UpdateAgentRuntimeRequest) error {
	if r.RequestHeaderConfiguration == nil {
		return nil
	}
	const member = "requestHeaderConfiguration.requestHeaderAllowlist"
	seen := map[string]bool{}
	for _, name := range r.RequestHeaderConfiguration.RequestHeaderAllowlist {
		if seen[http.CanonicalHeaderKey(name)] {
			return fault.InvalidField(member, "The header %s is listed twice.", name)
		}
		seen[http.CanonicalHeaderKey(name)] = true
		canonical := asRead(name)
		switch {
		case canonical == "Authorization" && r.AuthorizerConfiguration == nil:
			return fault.InvalidField(member, "Authorization can be forwarded only where a JWT authorizer checks it; without one it is a signature.")
		case restricted[canonical] || strings.HasPrefix(canonical, "X-Forwarded-") || strings.HasPrefix(canonical, "Sec-") || strings.HasPrefix(canonical, "X-Amz-"),
			strings.HasPrefix(canonical, "X-Amzn-") && !strings.HasPrefix(canonical, customPrefix):
			return fault.InvalidField(member, "The header %s cannot be forwarded.", name)
		}
	}
	return nil
}

// describeLifecycle is the lifecycle as answers have it: with what holds where nothing was said.
func describeLifecycle(l *api.LifecycleConfiguration) *api.LifecycleConfiguration {
	idle, life := lifetimes(l)
	i, m := int32(idle.Seconds()), int32(life.Seconds())
	return &api.LifecycleConfiguration{IdleRuntimeSessionTimeout: &i, MaxLifetime: &m}
}

func network(n *api.NetworkConfiguration) *api.NetworkConfiguration {
	if n == nil {
		return &api.NetworkConfiguration{NetworkMode: api.NetworkModePublic}
	}
	return n
}

// environment is what the runtime's own settings add to a session's.
func environment(r *api.UpdateAgentRuntimeRequest) []string {
	var out []string
	for name, value := range r.EnvironmentVariables {
		out = append(out, fmt.Sprintf("%s=%s", name, value.Reveal()))
	}
	slices.Sort(out)
	return out
}
