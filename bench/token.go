package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	datatypes "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
)

const tokenPath = "/identities/oauth2/token"

// benchToken is GetResourceOauth2Token of a stored valid grant: signature, gate,
// audit (durable), store, unsealing. Its floor answers the same number of bytes
// to the same signed requests and does nothing else.
func benchToken(ctx context.Context, s settings) ([]result, error) {
	stage, err := newStage(ctx)
	if err != nil {
		return nil, err
	}
	defer stage.close()
	if _, err := stage.control.CreateWorkloadIdentity(ctx, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: aws.String("bench"), AllowedResourceOauth2ReturnUrls: []string{returnURL}}); err != nil {
		return nil, err
	}
	workload, err := stage.data.GetWorkloadAccessTokenForJWT(ctx, &bedrockagentcore.GetWorkloadAccessTokenForJWTInput{WorkloadName: aws.String("bench"), UserToken: &stage.userToken})
	if err != nil {
		return nil, err
	}
	input := &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken: workload.WorkloadAccessToken, ResourceCredentialProviderName: aws.String("bench"), Scopes: []string{"openid", "profile"},
		Oauth2Flow: datatypes.Oauth2FlowTypeUserFederation, ResourceOauth2ReturnUrl: aws.String(returnURL),
	}
	asked, err := stage.data.GetResourceOauth2Token(ctx, input)
	if err != nil {
		return nil, err
	}
	if asked.AuthorizationUrl == nil {
		return nil, errNoLink
	}
	if err := stage.consent(ctx, *asked.AuthorizationUrl); err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{
		"workloadIdentityToken": *workload.WorkloadAccessToken, "resourceCredentialProviderName": "bench", "scopes": input.Scopes,
		"oauth2Flow": "USER_FEDERATION", "resourceOauth2ReturnUrl": returnURL,
	})
	if err != nil {
		return nil, err
	}
	answer, err := stage.data.GetResourceOauth2Token(ctx, input)
	if err != nil || answer.AccessToken == nil {
		return nil, fmt.Errorf("no token after consent: %w", err)
	}
	size := len(`{"accessToken":""}`) + len(*answer.AccessToken)

	floor, err := startChild(ctx, "child-floor")
	if err != nil {
		return nil, err
	}
	defer floor.stop()
	client := newClient(s.connections)
	ours := &load{client: client, make: func(ctx context.Context) (*http.Request, error) {
		return stage.signed(ctx, stage.platform.url, tokenPath, body)
	}}
	theirs := &load{client: client, make: func(ctx context.Context) (*http.Request, error) {
		return stage.signed(ctx, floor.url, fmt.Sprintf("%s?size=%d", tokenPath, size), body)
	}}
	a, b, err := compare(ctx, s, s.connections, ours, theirs)
	if err != nil {
		return nil, err
	}
	stages, err := stage.profiled(ctx, s, "token", ours)
	if err != nil {
		return nil, err
	}
	ratio := a.rate / b.rate
	return []result{{
		what: fmt.Sprintf("GetResourceOauth2Token, stored valid grant, %d connections", s.connections), aim: "0.5 of the floor's requests/s",
		measured: fmt.Sprintf("%.2f (%.0f of %.0f requests/s; p50 %s, p99 %s; request %d bytes, answer %d bytes)", ratio, a.rate, b.rate, a.p50.Round(time.Microsecond), a.p99.Round(time.Microsecond), len(body), size),
		met:      ratio >= 0.5, notes: stages,
	}}, nil
}

// profiled takes a CPU profile of the platform under load and returns its stages.
func (s *stage) profiled(ctx context.Context, o settings, name string, l *load) ([]string, error) {
	path := filepath.Join(s.dir, "cpu.pprof")
	_ = os.Remove(path + ".done")
	if err := s.platform.Process.Signal(syscall.SIGUSR1); err != nil {
		return nil, err
	}
	time.Sleep(100 * time.Millisecond)
	figures, err := l.round(ctx, o.connections, 4*time.Second)
	if err != nil {
		return nil, err
	}
	if err := s.platform.Process.Signal(syscall.SIGUSR1); err != nil {
		return nil, err
	}
	for range 100 {
		if _, err := os.Stat(path + ".done"); err == nil {
			if o.profiles != "" {
				content, err := os.ReadFile(path)
				if err != nil {
					return nil, err
				}
				if err := os.WriteFile(filepath.Join(o.profiles, name+".pprof"), content, 0o600); err != nil {
					return nil, err
				}
			}
			return stagesOf(path, figures.rate*4)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, fmt.Errorf("the profile of %s did not end", strings.TrimPrefix(s.platform.url, "http://"))
}
