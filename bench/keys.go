package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/server"
)

const (
	vaultKeyARN = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000001"
	keysReaders = 4 // connections that read meanwhile: enough to notice, and not to starve a machine of four cores
)

// benchKeys moves a vault with many grants to another key-encryption key, and
// seals all of it anew, while grants are read through the API.
func benchKeys(ctx context.Context, s settings) ([]result, error) {
	stage, err := newStage(ctx)
	if err != nil {
		return nil, err
	}
	defer stage.close()
	if _, err := stage.control.CreateWorkloadIdentity(ctx, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: aws.String("bench")}); err != nil {
		return nil, err
	}
	data, key := filepath.Join(stage.dir, "data"), filepath.Join(stage.dir, "vault-key")
	if err := seal.CreateFileKey(key); err != nil {
		return nil, err
	}
	stage.platform.stop()
	begin := time.Now()
	if err := seedGrants(ctx, data, "bench", "bench", 0, s.grants); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "  %d grants stored in %s\n", s.grants, time.Since(begin).Round(time.Second))
	if err := stage.restart(ctx, "-kms-key", vaultKeyARN+"=file:"+key); err != nil {
		return nil, err
	}

	reading, err := stage.seededReads(ctx, s)
	if err != nil {
		return nil, err
	}
	quiet, err := reading.round(ctx, keysReaders, s.duration)
	if err != nil {
		return nil, err
	}

	begin = time.Now()
	if _, err := stage.control.SetTokenVaultCMK(ctx, &bedrockagentcorecontrol.SetTokenVaultCMKInput{
		KmsConfiguration: &types.KmsConfiguration{KeyType: types.KeyTypeCustomerManagedKey, KmsKeyArn: aws.String(vaultKeyARN)},
	}); err != nil {
		return nil, err
	}
	moved := time.Since(begin)
	if _, err := reading.round(ctx, keysReaders, 200*time.Millisecond); err != nil {
		return nil, fmt.Errorf("after the move: %w", err)
	}

	o, err := server.OpenOperator(ctx, server.Storage{Data: data, KMSKeys: []string{vaultKeyARN + "=file:" + key}})
	if err != nil {
		return nil, err
	}
	defer o.Close()
	working, stop := context.WithCancel(ctx)
	meanwhile := make(chan error, 1)
	var busy figures
	go func() {
		var err error
		for working.Err() == nil && err == nil {
			var f figures
			if f, err = reading.round(ctx, keysReaders, s.duration); err == nil && (busy.rate == 0 || f.p50 > busy.p50) {
				busy = f
			}
		}
		meanwhile <- err
	}()
	done, err := o.RotateVault(ctx, "000000000000", func(server.Rotation) {})
	stop()
	if problem := <-meanwhile; err == nil {
		err = problem
	}
	if err != nil {
		return nil, err
	}
	took := done.Rotation.Finished.Sub(done.Rotation.Begun)
	rate := float64(done.Rotation.Done) / took.Seconds()
	return []result{{
		what: fmt.Sprintf("moving a vault of %d grants to another key-encryption key", s.grants), aim: "under a second",
		measured: moved.Round(100 * time.Microsecond).String(), met: moved < time.Second,
	}, {
		what: fmt.Sprintf("sealing %d grants anew while they are read, %d connections", s.grants, keysReaders), aim: "at least 20,000 grants/s",
		measured: fmt.Sprintf("%.0f grants/s (%s in all; meanwhile %.0f reads/s with p50 %s, worst round; before %.0f with %s)",
			rate, took.Round(100*time.Millisecond), busy.rate, busy.p50.Round(time.Microsecond), quiet.rate, quiet.p50.Round(time.Microsecond)),
		met: rate >= 20000,
	}}, nil
}

// restart stops the platform and starts it again on its data, with further flags.
func (s *stage) restart(ctx context.Context, flags ...string) (err error) {
	s.platform.stop()
	if s.platform, err = startChild(ctx, "child-platform", append([]string{"-data", filepath.Join(s.dir, "data"), "-profile", filepath.Join(s.dir, "cpu.pprof")}, flags...)...); err != nil {
		return err
	}
	loaded, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"), config.WithBaseEndpoint(s.platform.url),
		config.WithSharedCredentialsFiles([]string{filepath.Join(s.dir, "data", "credentials")}), config.WithSharedConfigFiles(nil), config.WithSharedConfigProfile("onbehalf"))
	if err != nil {
		return err
	}
	s.control, s.data = bedrockagentcorecontrol.NewFromConfig(loaded), bedrockagentcore.NewFromConfig(loaded)
	return nil
}

// seededReads reads the token of some hundred of the seeded people, each in turn.
func (s *stage) seededReads(ctx context.Context, o settings) (*load, error) {
	var bodies [][]byte
	for range 200 {
		token, err := s.data.GetWorkloadAccessTokenForUserId(ctx, &bedrockagentcore.GetWorkloadAccessTokenForUserIdInput{
			WorkloadName: aws.String("bench"), UserId: aws.String(seededUser(rand.IntN(o.grants)).ID),
		})
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(map[string]any{
			"workloadIdentityToken": *token.WorkloadAccessToken, "resourceCredentialProviderName": "bench", "scopes": []string{"openid", "profile"}, "oauth2Flow": "USER_FEDERATION",
		})
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, body)
	}
	return &load{client: newClient(keysReaders), make: func(ctx context.Context) (*http.Request, error) {
		return s.signed(ctx, s.platform.url, tokenPath, bodies[rand.IntN(len(bodies))])
	}, check: func(body []byte) error {
		var answer struct{ AccessToken string }
		if json.Unmarshal(body, &answer) != nil || len(answer.AccessToken) != seedAccessLength {
			return fmt.Errorf("a read did not give the token that was stored")
		}
		return nil
	}}, nil
}
