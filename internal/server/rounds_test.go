package server_test

import (
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	data "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// On PostgreSQL a stored grant's token costs three round trips: what the workload
// access token claims, the grant under its provider, and the record.
func TestRoundTripsOfAToken(t *testing.T) {
	t.Parallel()
	if os.Getenv(storetest.Variable) == "" {
		t.Skipf("%s is not set", storetest.Variable)
	}
	address, rounds := storetest.Rounds(t)
	p := servertest.Start(t, func(c *server.Config) { c.DatabaseURL = secret.New(address) })
	want := consentStory(t, p, "allow")
	ada := p.UserToken(t, demoidp.Ada)
	workload, err := p.Data.GetWorkloadAccessTokenForJWT(t.Context(), &bedrockagentcore.GetWorkloadAccessTokenForJWTInput{WorkloadName: aws.String("canary-workload"), UserToken: &ada})
	if err != nil {
		t.Fatal(err)
	}
	fewest := int64(100) // the platform has other things to do at times, and new connections learn the statements
	for range 40 {
		before := rounds.Load()
		got, err := p.Data.GetResourceOauth2Token(t.Context(), &bedrockagentcore.GetResourceOauth2TokenInput{
			WorkloadIdentityToken: workload.WorkloadAccessToken, ResourceCredentialProviderName: aws.String("canary-provider"), Scopes: []string{"openid"},
			Oauth2Flow: data.Oauth2FlowTypeUserFederation, ResourceOauth2ReturnUrl: aws.String("https://app.example.com/done"),
		})
		if err != nil || got.AccessToken == nil || *got.AccessToken != want {
			t.Fatalf("not the stored token: %v", err)
		}
		fewest = min(fewest, rounds.Load()-before)
	}
	if fewest != 3 {
		t.Errorf("a token made %d round trips, want 3", fewest)
	}
}
