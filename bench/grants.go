package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
)

// What a small installation has, beside a large one (settings.grants).
const fewGrants = 1000

// speakers is how many of the people ask, spread over all; as many on both sides,
// so that caches of who asks are alike and only what is stored differs.
const speakers = fewGrants

// benchGrants is GetResourceOauth2Token on a platform with very many grants
// beside one with a thousand, and what the many cost in disk and memory.
func benchGrants(ctx context.Context, s settings) ([]result, error) {
	few, err := newVault(ctx, min(fewGrants, s.grants))
	if err != nil {
		return nil, err
	}
	defer few.close()
	many, err := newVault(ctx, s.grants)
	if err != nil {
		return nil, err
	}
	defer many.close()
	client := newClient(s.connections)
	a, b, err := compare(ctx, s, s.connections, many.load(client), few.load(client))
	if err != nil {
		return nil, err
	}
	time.Sleep(1500 * time.Millisecond)
	rss, err := residentMemory(many.platform.Process.Pid)
	if err != nil {
		return nil, err
	}
	slower := float64(a.p50) / float64(b.p50)
	own := (many.size-few.size)/int64(max(1, s.grants-fewGrants)) - seedAccessLength - seedRefreshLength
	return []result{
		{
			what: fmt.Sprintf("GetResourceOauth2Token with %d grants stored, against %d", s.grants, fewGrants), aim: "p50 within 1.2 times",
			measured: fmt.Sprintf("%.2f times (p50 %s against %s; %.0f and %.0f requests/s; %d people ask)", slower, a.p50.Round(time.Microsecond), b.p50.Round(time.Microsecond), a.rate, b.rate, speakers),
			met:      slower <= 1.2,
		},
		{
			what: "disk per grant, beyond the tokens' own length", aim: "at most 800 bytes",
			measured: fmt.Sprintf("%d bytes (access token %d, refresh token %d; all of the database's files)", own, seedAccessLength, seedRefreshLength), met: own <= 800,
		},
		{
			what: fmt.Sprintf("memory with %d grants (RSS), after the load", s.grants), aim: "at most 150 MB",
			measured: fmt.Sprintf("%.1f MB", float64(rss)/1000), met: rss <= 150_000,
		},
	}, nil
}

// vaultful is a platform with seeded grants.
type vaultful struct {
	*stage
	size   int64 // of its database, before anybody asked
	bodies [][]byte
}

func newVault(ctx context.Context, grants int) (*vaultful, error) {
	s, err := newStage(ctx)
	if err != nil {
		return nil, err
	}
	v := &vaultful{stage: s}
	if err := v.fill(ctx, grants); err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

func (v *vaultful) fill(ctx context.Context, grants int) error {
	if _, err := v.control.CreateWorkloadIdentity(ctx, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: aws.String("bench"), AllowedResourceOauth2ReturnUrls: []string{returnURL}}); err != nil {
		return err
	}
	v.platform.stop()
	data := filepath.Join(v.dir, "data")
	if err := seedGrants(ctx, data, "bench", "bench", 0, grants); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(data, "onbehalf.db*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		v.size += info.Size()
	}
	if err := v.start(ctx); err != nil {
		return err
	}
	people := min(speakers, grants)
	v.bodies = make([][]byte, people)
	var asking sync.WaitGroup
	problems := make([]error, 16)
	for worker := range problems {
		asking.Go(func() {
			for i := worker; i < people && problems[worker] == nil; i += len(problems) {
				v.bodies[i], problems[worker] = v.question(ctx, seededUser(i*(grants/people)).ID)
			}
		})
	}
	asking.Wait()
	return errors.Join(problems...)
}

// question is the body of GetResourceOauth2Token for one of the people.
func (v *vaultful) question(ctx context.Context, user string) ([]byte, error) {
	token, err := v.data.GetWorkloadAccessTokenForUserId(ctx, &bedrockagentcore.GetWorkloadAccessTokenForUserIdInput{WorkloadName: aws.String("bench"), UserId: &user})
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"workloadIdentityToken": *token.WorkloadAccessToken, "resourceCredentialProviderName": "bench", "scopes": []string{"openid", "profile"},
		"oauth2Flow": "USER_FEDERATION", "resourceOauth2ReturnUrl": returnURL,
	})
}

func (v *vaultful) load(client *http.Client) *load {
	return &load{
		client: client,
		make: func(ctx context.Context) (*http.Request, error) {
			return v.signed(ctx, v.platform.url, tokenPath, v.bodies[rand.IntN(len(v.bodies))])
		},
		check: func(body []byte) error {
			if len(body) < seedAccessLength {
				return fmt.Errorf("no access token in %.200s", body)
			}
			return nil
		},
	}
}
