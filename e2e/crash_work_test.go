package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	data "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// Secrets come and go: users consent, tokens are refreshed, providers and keys
// are given new secrets, and all are sealed anew. Whenever the power goes, what
// was answered before is there after, and opens; of what was under way, there is
// all or nothing.
func TestKilledAtWork(t *testing.T) {
	t.Parallel()
	rounds, seed := 30, uint64(time.Now().UnixNano())
	if long() {
		rounds = 300
	}
	t.Logf("seed %d, %d rounds", seed, rounds)
	random := rand.New(rand.NewPCG(seed, 0))
	w := startWorkplace(t)
	for round := range rounds {
		stop, stopped := context.WithCancel(t.Context())
		var workers sync.WaitGroup
		for _, work := range []func(context.Context, int) error{w.consents, w.refreshes, w.updatesProvider, w.updatesKey, w.rotatesVault} {
			workers.Go(func() {
				for n := 0; stop.Err() == nil; n++ {
					if work(stop, round*10_000+n) != nil {
						return // the platform is gone
					}
				}
			})
		}
		select { // however long a consent takes here
		case <-w.await(round % 3):
		case <-time.After(2 * time.Minute):
			t.Fatalf("round %d: no user comes through", round)
		}
		time.Sleep(time.Duration(20+random.IntN(250)) * time.Millisecond)
		w.kill()
		stopped()
		workers.Wait()
		w.start()
		w.intact()
		w.opens(round)
		if t.Failed() {
			return
		}
	}
	if w.rotatesVault(t.Context(), 0) == nil { // which ends what was cut off over and over
		w.opens(rounds)
	}
	t.Logf("%d users consented, of whom %d were asked again; the client's secret was changed %d times, the API key %d times; the vault was sealed anew %d times", w.consented, w.lost, w.secret.count, w.key.count, w.rotations)
	if w.consented < rounds/3 || w.secret.count == 0 || w.key.count == 0 {
		t.Error("the platform was killed before it did anything")
	}
}

// workplace is a platform at work that is killed now and then.
type workplace struct {
	*wreck
	machine *hostile // which hears the client's secret

	mu        sync.Mutex
	token     string          // workload access token of before the first crash
	users     map[string]bool // who consented, by what was answered; false: not any more, as far as is known
	secret    remembered
	key       remembered
	begun     string // whose consent was cut off
	consented int
	enough    int // consents, at which reached is closed
	reached   chan struct{}
	rotations int // that came to their end
	lost      int
}

// remembered is a value that is replaced over and over.
type remembered struct {
	answered string // the last one whose update was answered
	tried    string // the last one that was sent
	count    int
}

const (
	worker    = "worker"
	people    = "people"
	machines  = "machines"
	serviceID = "service-key"

	// refreshesAtOnce is how many refreshes may be under way when the power goes.
	// The platform renews up to 32 ahead of expiry at once; for the few users here
	// more than this would be something else.
	refreshesAtOnce = 8
)

func startWorkplace(t *testing.T) *workplace {
	t.Helper()
	w := &workplace{machine: startHostile(t), users: map[string]bool{}}
	idp := startProvider(t)
	w.wreck = &wreck{idp: idp}
	w.platform = startPlatform(t, append(idp.flags(), "--addr", "127.0.0.1:"+freePort(t), "--demo-addr", "127.0.0.1:"+freePort(t), "--egress-allow", w.machine.host)...)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, name := t.Context(), worker
	must(w.control.CreateWorkloadIdentity(ctx, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: &name, AllowedResourceOauth2ReturnUrls: []string{returnURL}}))
	client := demoidp.Client{ID: "platform", Secret: "secret-of-the-platform"}
	made, err := w.control.CreateOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: aws.String(people), CredentialProviderVendor: "CustomOauth2", Oauth2ProviderConfigInput: discovered(idp.DiscoveryURL(), client),
	})
	must(made, err)
	client.RedirectURIs = []string{*made.CallbackUrl}
	must(nil, idp.Register(client))
	w.secret, w.key = remembered{answered: "secret-0", tried: "secret-0"}, remembered{answered: "key-0", tried: "key-0"}
	must(w.control.CreateOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: aws.String(machines), CredentialProviderVendor: "CustomOauth2", Oauth2ProviderConfigInput: discovered(w.machine.discovery("m"), demoidp.Client{ID: "machine", Secret: "secret-0"}),
	}))
	must(w.control.CreateApiKeyCredentialProvider(ctx, &bedrockagentcorecontrol.CreateApiKeyCredentialProviderInput{Name: aws.String(serviceID), ApiKey: aws.String("key-0")}))
	issued, err := w.client.GetWorkloadAccessToken(ctx, &bedrockagentcore.GetWorkloadAccessTokenInput{WorkloadName: &name})
	must(issued, err)
	w.token = *issued.WorkloadAccessToken
	idp.SetLifetime(shortLife)
	return w
}

func (w *workplace) ask(ctx context.Context, user string) (*bedrockagentcore.GetResourceOauth2TokenOutput, error) {
	issued, err := w.client.GetWorkloadAccessTokenForUserId(ctx, &bedrockagentcore.GetWorkloadAccessTokenForUserIdInput{WorkloadName: aws.String(worker), UserId: &user})
	if err != nil {
		return nil, err
	}
	return w.client.GetResourceOauth2Token(ctx, &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken: issued.WorkloadAccessToken, ResourceCredentialProviderName: aws.String(people), Scopes: []string{"openid", "profile"},
		Oauth2Flow: data.Oauth2FlowTypeUserFederation, ResourceOauth2ReturnUrl: aws.String(returnURL), CustomParameters: map[string]string{"access_type": "offline"},
	})
}

// consents has a new user go through consent.
func (w *workplace) consents(ctx context.Context, n int) error {
	user := fmt.Sprintf("user-%d", n)
	w.mu.Lock()
	w.begun = user
	w.mu.Unlock()
	if err := w.consent(ctx, user); err != nil {
		return err
	}
	w.mu.Lock()
	w.begun = ""
	w.users[user] = true
	if w.consented++; w.consented == w.enough {
		close(w.reached)
	}
	w.mu.Unlock()
	return nil
}

// await tells when so many more users have consented.
func (w *workplace) await(more int) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.enough, w.reached = w.consented+more, make(chan struct{})
	if more == 0 {
		close(w.reached)
	}
	return w.reached
}

func (w *workplace) consent(ctx context.Context, user string) error {
	out, err := w.ask(ctx, user)
	if err != nil {
		return err
	}
	if out.AuthorizationUrl == nil {
		return nil
	}
	arrival, err := servertest.NewPerson(w.idp.url, demoidp.Ada).Visit(ctx, *out.AuthorizationUrl, "allow")
	if err != nil {
		return err
	}
	_, session, _ := strings.Cut(arrival, "session_id=")
	session, _, _ = strings.Cut(session, "&")
	if session, err = url.QueryUnescape(session); err != nil {
		return err
	}
	_, err = w.client.CompleteResourceTokenAuth(ctx, &bedrockagentcore.CompleteResourceTokenAuthInput{SessionUri: &session, UserIdentifier: &data.UserIdentifierMemberUserId{Value: user}})
	return err
}

// refreshes asks for one user's token after another; they live for a second.
func (w *workplace) refreshes(ctx context.Context, n int) error {
	w.mu.Lock()
	var known []string
	for user := range w.users {
		known = append(known, user)
	}
	w.mu.Unlock()
	if len(known) == 0 {
		time.Sleep(5 * time.Millisecond)
		return nil
	}
	_, err := w.ask(ctx, known[n%len(known)])
	return err
}

// replace sends a new value; answered means that it is the one from now on.
func (w *workplace) replace(r *remembered, value string, send func() error) error {
	w.mu.Lock()
	r.tried = value
	w.mu.Unlock()
	if err := send(); err != nil {
		return err
	}
	w.mu.Lock()
	r.answered, r.count = value, r.count+1
	w.mu.Unlock()
	return nil
}

func (w *workplace) updatesProvider(ctx context.Context, n int) error {
	secret := fmt.Sprintf("secret-%d", n+1)
	return w.replace(&w.secret, secret, func() error {
		_, err := w.control.UpdateOauth2CredentialProvider(ctx, &bedrockagentcorecontrol.UpdateOauth2CredentialProviderInput{
			Name: aws.String(machines), CredentialProviderVendor: "CustomOauth2", Oauth2ProviderConfigInput: discovered(w.machine.discovery("m"), demoidp.Client{ID: "machine", Secret: secret}),
		})
		return err
	})
}

func (w *workplace) updatesKey(ctx context.Context, n int) error {
	key := fmt.Sprintf("key-%d", n+1)
	return w.replace(&w.key, key, func() error {
		_, err := w.control.UpdateApiKeyCredentialProvider(ctx, &bedrockagentcorecontrol.UpdateApiKeyCredentialProviderInput{Name: aws.String(serviceID), ApiKey: &key})
		return err
	})
}

// rotatesVault is the operator's command, which dies with the platform.
func (w *workplace) rotatesVault(ctx context.Context, _ int) error {
	command := exec.CommandContext(ctx, onbehalfBinary, "vault", "rotate", "--data", w.data)
	out, err := command.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		w.t.Errorf("onbehalf vault rotate: %v\n%s", err, out)
		return err
	}
	w.mu.Lock()
	w.rotations++
	w.mu.Unlock()
	return nil
}

// opens wants everything that was answered to be there, and to open.
func (w *workplace) opens(round int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Minute)
	defer cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	key, err := w.client.GetResourceApiKey(ctx, &bedrockagentcore.GetResourceApiKeyInput{WorkloadIdentityToken: &w.token, ResourceCredentialProviderName: aws.String(serviceID)})
	switch {
	case err != nil:
		w.t.Errorf("round %d: the API key does not open: %v", round, err)
	case *key.ApiKey != w.key.answered && *key.ApiKey != w.key.tried:
		w.t.Errorf("round %d: the API key is %s; %s was answered and %s tried", round, *key.ApiKey, w.key.answered, w.key.tried)
	default:
		w.key.answered, w.key.tried = *key.ApiKey, *key.ApiKey
	}
	heard := ""
	w.machine.misbehave("m", "token", func(rw http.ResponseWriter, r *http.Request) {
		_, heard, _ = r.BasicAuth()
		respond(rw, http.StatusOK, map[string]any{"access_token": "machine", "expires_in": 60})
	})
	_, err = w.client.GetResourceOauth2Token(ctx, &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken: &w.token, ResourceCredentialProviderName: aws.String(machines), Scopes: []string{fmt.Sprintf("round-%d", round)}, Oauth2Flow: data.Oauth2FlowTypeM2m,
	})
	switch {
	case err != nil:
		w.t.Errorf("round %d: the client's secret does not open: %v", round, err)
	case heard != w.secret.answered && heard != w.secret.tried:
		w.t.Errorf("round %d: the client's secret is %s; %s was answered and %s tried", round, heard, w.secret.answered, w.secret.tried)
	default:
		w.secret.answered, w.secret.tried = heard, heard
	}
	if w.begun != "" { // who was cut off comes to the end on what is there, or begins anew
		if err := w.consent(ctx, w.begun); err != nil {
			w.t.Errorf("round %d: %s cannot consent after the crash: %v", round, w.begun, err)
		}
		w.users[w.begun], w.begun = true, ""
	}
	// The refreshes that were under way when the power went may be lost, each with its grant, which says so: that of the
	// worker who asks, and those ahead of expiry.
	asked := 0
	for user := range w.users {
		out, err := w.ask(ctx, user)
		switch {
		case err != nil:
			w.t.Errorf("round %d: the grant of %s: %v", round, user, err)
		case out.AccessToken == nil:
			asked++
			if err := w.consent(ctx, user); err != nil {
				w.t.Errorf("round %d: %s cannot consent again: %v", round, user, err)
			}
		}
	}
	if asked > refreshesAtOnce {
		w.t.Errorf("round %d: %d users are asked again", round, asked)
	}
	w.lost += asked
	for user := range w.users { // enough to go on with
		if len(w.users) <= 20 {
			break
		}
		delete(w.users, user)
	}
}
