package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
)

// benchKey is GetResourceApiKey beside the floor of GetResourceOauth2Token.
func benchKey(ctx context.Context, s settings) ([]result, error) {
	stage, err := newStage(ctx)
	if err != nil {
		return nil, err
	}
	defer stage.close()
	token, err := stage.workloadToken(ctx)
	if err != nil {
		return nil, err
	}
	const key = "sk-bench-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
	if _, err := stage.control.CreateApiKeyCredentialProvider(ctx, &bedrockagentcorecontrol.CreateApiKeyCredentialProviderInput{Name: aws.String("bench"), ApiKey: aws.String(key)}); err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{"workloadIdentityToken": token, "resourceCredentialProviderName": "bench"})
	if err != nil {
		return nil, err
	}
	floor, err := startChild(ctx, "child-floor")
	if err != nil {
		return nil, err
	}
	defer floor.stop()
	const path = "/identities/api-key"
	size := len(`{"apiKey":""}`) + len(key)
	client := newClient(s.connections)
	a, b, err := compare(ctx, s, s.connections,
		&load{client: client, make: func(ctx context.Context) (*http.Request, error) {
			return stage.signed(ctx, stage.platform.url, path, body)
		}},
		&load{client: client, make: func(ctx context.Context) (*http.Request, error) {
			return stage.signed(ctx, floor.url, fmt.Sprintf("%s?size=%d", path, size), body)
		}})
	if err != nil {
		return nil, err
	}
	ratio := a.rate / b.rate
	return []result{{
		what: fmt.Sprintf("GetResourceApiKey, %d connections", s.connections), aim: "0.5 of the floor's requests/s",
		measured: fmt.Sprintf("%.2f (%.0f of %.0f requests/s; p50 %s, p99 %s; request %d bytes, answer %d bytes)", ratio, a.rate, b.rate, a.p50.Round(time.Microsecond), a.p99.Round(time.Microsecond), len(body), size),
		met:      ratio >= 0.5,
	}}, nil
}

// workloadToken makes the workload identity of the measurement and a token of its own.
func (s *stage) workloadToken(ctx context.Context) (string, error) {
	if _, err := s.control.CreateWorkloadIdentity(ctx, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: aws.String("bench"), AllowedResourceOauth2ReturnUrls: []string{returnURL}}); err != nil {
		return "", err
	}
	token, err := s.data.GetWorkloadAccessToken(ctx, &bedrockagentcore.GetWorkloadAccessTokenInput{WorkloadName: aws.String("bench")})
	if err != nil {
		return "", err
	}
	return *token.WorkloadAccessToken, nil
}

// benchStorm is a thousand callers at once who all want the same machine token, of which there is none yet.
func benchStorm(ctx context.Context, s settings) ([]result, error) {
	const callers = 1000
	stage, err := newStage(ctx)
	if err != nil {
		return nil, err
	}
	defer stage.close()
	token, err := stage.workloadToken(ctx)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{"workloadIdentityToken": token, "resourceCredentialProviderName": "bench", "scopes": []string{"profile"}, "oauth2Flow": "M2M"})
	if err != nil {
		return nil, err
	}
	l := &load{client: newClient(callers), make: func(ctx context.Context) (*http.Request, error) {
		return stage.signed(ctx, stage.platform.url, tokenPath, body)
	}}
	var together sync.WaitGroup
	problems := make(chan error, callers)
	began := time.Now()
	for range callers {
		together.Go(func() { problems <- l.once(ctx) })
	}
	together.Wait()
	took := time.Since(began)
	close(problems)
	for problem := range problems {
		if problem != nil {
			return nil, problem
		}
	}
	asked := stage.provider.TokenRequests("client_credentials")
	return []result{{
		what: fmt.Sprintf("machine token on a cold cache, %d callers at once", callers), aim: "one provider request",
		measured: fmt.Sprintf("%d; all were answered after %s", asked, took.Round(time.Millisecond)), met: asked == 1,
	}}, nil
}
