package api

import (
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// ARN is an Amazon Resource Name in its parts: "arn:Partition:Service:Region:Account:Resource".
type ARN struct {
	Partition string
	Service   string
	Region    string // empty in IAM's ARNs
	Account   string // 12 digits
	Resource  string // "gateway/demo-0123456789"; may have colons of its own
}

// TokenVaultID is the only token vault that an account has.
const TokenVaultID = "default"

// service is the one service name in the ARNs of both planes.
const service = "bedrock-agentcore"

func arn(region, account, resource string) string {
	return "arn:aws:" + service + ":" + region + ":" + account + ":" + resource
}

// WorkloadIdentityDirectoryARN names the directory that holds an account's workload identities.
func WorkloadIdentityDirectoryARN(region, account string) string {
	return arn(region, account, "workload-identity-directory/default")
}

// WorkloadIdentityARN names a workload identity.
func WorkloadIdentityARN(region, account, name string) string {
	return arn(region, account, "workload-identity-directory/default/workload-identity/"+name)
}

// TokenVaultARN names an account's token vault.
func TokenVaultARN(region, account string) string {
	return arn(region, account, "token-vault/"+TokenVaultID)
}

// Oauth2CredentialProviderARN names an OAuth 2 credential provider.
func Oauth2CredentialProviderARN(region, account, name string) string {
	return arn(region, account, "token-vault/"+TokenVaultID+"/oauth2credentialprovider/"+name)
}

// ApiKeyCredentialProviderARN names an API-key credential provider.
func ApiKeyCredentialProviderARN(region, account, name string) string {
	return arn(region, account, "token-vault/"+TokenVaultID+"/apikeycredentialprovider/"+name)
}

// GatewayARN names a gateway by its id.
func GatewayARN(region, account, id string) string { return arn(region, account, "gateway/"+id) }

// AgentRuntimeARN names a hosted agent by its id.
func AgentRuntimeARN(region, account, id string) string { return arn(region, account, "runtime/"+id) }

// AgentRuntimeEndpointARN names an endpoint of a hosted agent.
func AgentRuntimeEndpointARN(region, account, id, name string) string {
	return AgentRuntimeARN(region, account, id) + "/runtime-endpoint/" + name
}

// SecretARN names a managed secret in the form of AWS Secrets Manager, which is
// where AWS keeps them and what clients look for.
func SecretARN(region, account, name string) string {
	return "arn:aws:secretsmanager:" + region + ":" + account + ":secret:" + name
}

// String is the ARN's text.
func (a ARN) String() string {
	return strings.Join([]string{"arn", a.Partition, a.Service, a.Region, a.Account, a.Resource}, ":")
}

// Type is the first word of the resource: "gateway" of "gateway/demo-0123456789".
func (a ARN) Type() string {
	kind, _, _ := strings.Cut(a.Resource, "/")
	return kind
}

// Name is what follows the last slash of the resource: a name or an id.
func (a ARN) Name() string { return a.Resource[strings.LastIndexByte(a.Resource, '/')+1:] }

// ParseARN takes an ARN apart. It checks the form, not that the resource
// exists or that the account is the caller's. A malformed one is fault.Invalid.
func ParseARN(text string) (ARN, error) {
	parts := strings.SplitN(text, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" {
		return ARN{}, badARN("it has the form arn:partition:service:region:account:resource")
	}
	a := ARN{Partition: parts[1], Service: parts[2], Region: parts[3], Account: parts[4], Resource: parts[5]}
	switch {
	case !word(a.Partition) || a.Partition == "":
		return ARN{}, badARN("its partition has letters, digits and hyphens")
	case !word(a.Service) || a.Service == "":
		return ARN{}, badARN("its service has letters, digits and hyphens")
	case !word(a.Region):
		return ARN{}, badARN("its region has letters, digits and hyphens")
	case a.Account != "" && !isAccount(a.Account):
		return ARN{}, badARN("its account has 12 digits")
	case a.Resource == "" || len(text) > 2048 || strings.ContainsFunc(a.Resource, control):
		return ARN{}, badARN("it names a resource, in at most 2048 printable characters")
	}
	return a, nil
}

func badARN(why string) error { return fault.New(fault.Invalid, "This is not an ARN: %s.", why) }

func word(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

func isAccount(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789") == ""
}

func control(r rune) bool { return r < 0x20 || r == 0x7f || r == ' ' || r == '\ufffd' }
