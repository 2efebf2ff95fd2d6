// Command insider is an agent of tests that does from within its session what agents
// do: it fetches a key with AWS's SDK, set up by nothing but what it finds in its
// environment, and lists a gateway's tools with the official MCP client, as its caller.
package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type order struct{ Provider, Gateway string }

type told struct {
	Key     string
	Gateway string   // what it calls itself
	Tools   []string // that it has
}

func main() {
	http.HandleFunc("/ping", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"status":"Healthy"}`) })
	http.HandleFunc("/invocations", func(w http.ResponseWriter, r *http.Request) {
		var o order
		err := json.NewDecoder(r.Body).Decode(&o)
		var out told
		if err == nil {
			out.Key, err = key(r, o.Provider)
		}
		if err == nil {
			out.Gateway, out.Tools, err = tools(r, o.Gateway)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(out)
	})
	if err := http.ListenAndServe(":"+os.Getenv("PORT"), nil); err != nil {
		panic(err)
	}
}

func key(r *http.Request, provider string) (string, error) {
	settings, err := config.LoadDefaultConfig(r.Context())
	if err != nil {
		return "", err
	}
	got, err := bedrockagentcore.NewFromConfig(settings).GetResourceApiKey(r.Context(), &bedrockagentcore.GetResourceApiKeyInput{
		ResourceCredentialProviderName: &provider, WorkloadIdentityToken: aws.String(r.Header.Get("WorkloadAccessToken")),
	})
	if err != nil {
		return "", err
	}
	return aws.ToString(got.ApiKey), nil
}

func tools(r *http.Request, gateway string) (name string, all []string, err error) {
	session, err := mcp.NewClient(&mcp.Implementation{Name: "insider", Version: "1"}, nil).Connect(r.Context(), &mcp.StreamableClientTransport{
		Endpoint: os.Getenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE") + "/gateway/" + gateway + "/mcp", DisableStandaloneSSE: true,
		HTTPClient: &http.Client{Transport: as(r.Header.Get("Authorization"))},
	}, nil)
	if err != nil {
		return "", nil, err
	}
	defer session.Close()
	list, err := session.ListTools(context.WithoutCancel(r.Context()), nil)
	if err != nil {
		return "", nil, err
	}
	for _, tool := range list.Tools {
		all = append(all, tool.Name)
	}
	return session.InitializeResult().ServerInfo.Name, all, nil
}

// as presents the caller's own token.
type as string

func (a as) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if a != "" {
		r.Header.Set("Authorization", string(a))
	}
	return http.DefaultTransport.RoundTrip(r)
}
