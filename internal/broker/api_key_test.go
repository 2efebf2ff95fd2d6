package broker

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const keyARN = "arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default/apikeycredentialprovider/"

// eachWorld runs a story on each engine.
func eachWorld(t *testing.T, story func(t *testing.T, w *world)) {
	t.Parallel()
	storetest.EachOptions(t, func(t *testing.T, o store.Options) {
		clock := &atomic.Int64{}
		o.Now = func() time.Time { return time.Now().Add(time.Duration(clock.Load())) }
		db, err := store.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		w := worldOn(t, db, storetest.Keeper(t, db, account, other), newIDP(t), clock)
		w.workload(t, "agent", returnURL)
		story(t, w)
	})
}

func (w *world) apiKey(t testing.TB, name, key string) *api.CreateApiKeyCredentialProviderResponse {
	t.Helper()
	made, err := w.CreateApiKeyCredentialProvider(t.Context(), root, &api.CreateApiKeyCredentialProviderRequest{Name: name, ApiKey: secret.Pointer(key)})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (w *world) readKey(t testing.TB, caller principal.Caller, name string) (string, error) {
	t.Helper()
	response, err := w.GetResourceApiKey(t.Context(), caller, &api.GetResourceApiKeyRequest{ResourceCredentialProviderName: name})
	if err != nil {
		return "", err
	}
	return response.ApiKey.Reveal(), nil
}

// alone is a caller whose workload access token names no user.
func (w *world) alone(t testing.TB, workload string) principal.Caller {
	t.Helper()
	response, err := w.identity.GetWorkloadAccessToken(t.Context(), root, &api.GetWorkloadAccessTokenRequest{WorkloadName: workload})
	if err != nil {
		t.Fatal(err)
	}
	caller, err := w.identity.Open(t.Context(), root, response.WorkloadAccessToken)
	if err != nil {
		t.Fatal(err)
	}
	return caller
}

func TestAPIKeyFromCreationToDeletion(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		made := w.apiKey(t, "weather", "canary-key-1")
		if !regexp.MustCompile(`^arn:aws:secretsmanager:us-east-1:000000000000:secret:bedrock-agentcore-identity!default/apikey/weather-[A-Z0-9]{6}$`).MatchString(made.ApiKeySecretArn.SecretArn) {
			t.Errorf("secret ARN %s", made.ApiKeySecretArn.SecretArn)
		}
		want := &api.CreateApiKeyCredentialProviderResponse{
			Name: "weather", CredentialProviderArn: keyARN + "weather", ApiKeySecretArn: made.ApiKeySecretArn, ApiKeySecretSource: api.SecretSourceTypeManaged,
		}
		if diff := cmp.Diff(want, made); diff != "" {
			t.Errorf("create (-want +got):\n%s", diff)
		}
		_, err := w.CreateApiKeyCredentialProvider(t.Context(), root, &api.CreateApiKeyCredentialProviderRequest{Name: "weather", ApiKey: secret.Pointer("canary-key-2")})
		wantFault(t, err, fault.Conflict, "already exists")

		// With a user or without, the same key: it is nobody's but the account's.
		for _, caller := range []principal.Caller{w.alone(t, "agent"), w.as(t, "agent", "ada"), w.as(t, "agent", "jwt:ada")} {
			if key, err := w.readKey(t, caller, "weather"); key != "canary-key-1" || err != nil {
				t.Errorf("%s reads %q, %v", caller.User, key, err)
			}
		}

		// Rotation: what was handed out before is the caller's, the next call has the new one.
		w.later(time.Minute)
		updated, err := w.UpdateApiKeyCredentialProvider(t.Context(), root, &api.UpdateApiKeyCredentialProviderRequest{Name: "weather", ApiKey: secret.Pointer("canary-key-2")})
		if err != nil {
			t.Fatal(err)
		}
		if key, err := w.readKey(t, w.alone(t, "agent"), "weather"); key != "canary-key-2" || err != nil {
			t.Errorf("after the rotation: %q, %v", key, err)
		}
		shown, err := w.GetApiKeyCredentialProvider(t.Context(), root, &api.GetApiKeyCredentialProviderRequest{Name: "weather"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(updated, &api.UpdateApiKeyCredentialProviderResponse{
			Name: shown.Name, CredentialProviderArn: shown.CredentialProviderArn, ApiKeySecretArn: shown.ApiKeySecretArn, ApiKeySecretSource: shown.ApiKeySecretSource,
			CreatedTime: shown.CreatedTime, LastUpdatedTime: shown.LastUpdatedTime,
		}); diff != "" {
			t.Errorf("get and update differ:\n%s", diff)
		}
		if *shown.ApiKeySecretArn != *made.ApiKeySecretArn || !shown.LastUpdatedTime.After(shown.CreatedTime.Time) {
			t.Errorf("after the rotation: %+v", shown)
		}
		for _, response := range []interface{ AppendJSON([]byte) []byte }{made, updated, shown} {
			if strings.Contains(string(response.AppendJSON(nil)), "canary") {
				t.Errorf("%T shows the key", response)
			}
		}
		w.noCanaries(t)

		for range 2 {
			_, err = w.DeleteApiKeyCredentialProvider(t.Context(), root, &api.DeleteApiKeyCredentialProviderRequest{Name: "weather"})
		}
		wantFault(t, err, fault.NotFound, "weather not found")
		_, err = w.readKey(t, w.alone(t, "agent"), "weather")
		wantFault(t, err, fault.NotFound, "weather not found")
		if again := w.apiKey(t, "weather", "canary-key-3"); *again.ApiKeySecretArn == *made.ApiKeySecretArn {
			t.Error("a re-created provider has the old one's secret")
		}
	})
}

// While the key is replaced over and over, every reader gets a key, and after a
// replacement no reader gets the one before.
func TestAPIKeyRotatesWithoutDowntime(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		const rounds = 20
		w.apiKey(t, "weather", "canary-key-00")
		replica := w.replica(t)
		caller := w.alone(t, "agent")
		var current atomic.Int64
		var readers sync.WaitGroup
		for _, at := range []*world{w, w, replica} {
			readers.Go(func() {
				for current.Load() < rounds {
					least := current.Load()
					response, err := at.GetResourceApiKey(t.Context(), caller, &api.GetResourceApiKeyRequest{ResourceCredentialProviderName: "weather"})
					if err != nil {
						t.Errorf("a reader was turned away: %v", err)
						return
					}
					if got := response.ApiKey.Reveal(); got < fmt.Sprintf("canary-key-%02d", least) {
						t.Errorf("got %s after key %d was in place", got, least)
						return
					}
				}
			})
		}
		for i := range rounds {
			if _, err := w.UpdateApiKeyCredentialProvider(t.Context(), root, &api.UpdateApiKeyCredentialProviderRequest{
				Name: "weather", ApiKey: secret.Pointer(fmt.Sprintf("canary-key-%02d", i+1)),
			}); err != nil {
				t.Error(err)
			}
			current.Store(int64(i + 1))
		}
		readers.Wait()
	})
}

func TestAPIKeysOfOthers(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.apiKey(t, "weather", "canary-key")
		w.provider(t, "people", w.idp)
		agent := w.alone(t, "agent")
		stranger := principal.Caller{Kind: principal.Key, Account: other, Root: true}

		for name, read := range map[string]func() error{
			"another account":    func() error { c := agent; c.Account = other; _, err := w.readKey(t, c, "weather"); return err },
			"another name":       func() error { _, err := w.readKey(t, agent, "Weather"); return err },
			"an OAuth2 provider": func() error { _, err := w.readKey(t, agent, "people"); return err },
			"an API key where OAuth2 is asked": func() error {
				_, err := w.UserToken(t.Context(), w.as(t, "agent", "ada"), TokenRequest{ProviderName: "weather", ReturnURL: returnURL})
				return err
			},
			"get by another account": func() error {
				_, err := w.GetApiKeyCredentialProvider(t.Context(), stranger, &api.GetApiKeyCredentialProviderRequest{Name: "weather"})
				return err
			},
			"update by another account": func() error {
				_, err := w.UpdateApiKeyCredentialProvider(t.Context(), stranger, &api.UpdateApiKeyCredentialProviderRequest{Name: "weather", ApiKey: secret.Pointer("x")})
				return err
			},
			"delete by another account": func() error {
				_, err := w.DeleteApiKeyCredentialProvider(t.Context(), stranger, &api.DeleteApiKeyCredentialProviderRequest{Name: "weather"})
				return err
			},
		} {
			if err := read(); !fault.Is(err, fault.NotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
		page, err := w.ListApiKeyCredentialProviders(t.Context(), stranger, &api.ListApiKeyCredentialProvidersRequest{})
		if err != nil || len(page.CredentialProviders) != 0 {
			t.Errorf("another account sees %v, %v", page, err)
		}
		_, err = w.readKey(t, root, "weather")
		wantFault(t, err, fault.Invalid, "workload identity")

		// One account's key does not open as another's, nor a column that was moved.
		w.exec(t, `UPDATE api_key_providers SET version = version + 1`)
		_, err = w.readKey(t, agent, "weather")
		wantFault(t, err, fault.Undecryptable, "")
	})
}

func TestAPIKeysThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	w.apiKey(t, "weather", "canary-key")
	for name, c := range map[string]struct {
		key       *secret.Text
		source    api.SecretSourceType
		reference *api.SecretReference
		kind      fault.Kind
		text      string
	}{
		"no key":             {nil, "", nil, fault.Invalid, "apiKey is required"},
		"no managed key":     {nil, api.SecretSourceTypeManaged, nil, fault.Invalid, "apiKey is required"},
		"empty key":          {secret.Pointer(""), "", nil, fault.Invalid, "apiKey is required"},
		"external":           {nil, api.SecretSourceTypeExternal, &api.SecretReference{SecretId: "s", JsonKey: "k"}, fault.Invalid, "no source of external secrets"},
		"a reference":        {secret.Pointer("canary"), "", &api.SecretReference{SecretId: "s", JsonKey: "k"}, fault.Invalid, "EXTERNAL"},
		"external and a key": {secret.Pointer("canary"), api.SecretSourceTypeExternal, nil, fault.Invalid, "needs apiKeySecretConfig"},
	} {
		_, err := w.CreateApiKeyCredentialProvider(t.Context(), root, &api.CreateApiKeyCredentialProviderRequest{Name: "p", ApiKey: c.key, ApiKeySecretSource: c.source, ApiKeySecretConfig: c.reference})
		if !fault.Is(err, c.kind) || !strings.Contains(fault.Of(err).Message, c.text) || strings.Contains(fmt.Sprint(err), "canary") {
			t.Errorf("create, %s: %v", name, err)
		}
		_, err = w.UpdateApiKeyCredentialProvider(t.Context(), root, &api.UpdateApiKeyCredentialProviderRequest{Name: "weather", ApiKey: c.key, ApiKeySecretSource: c.source, ApiKeySecretConfig: c.reference})
		if !fault.Is(err, c.kind) {
			t.Errorf("update, %s: %v", name, err)
		}
	}
	w.workload(t, "agent")
	if key, err := w.readKey(t, w.alone(t, "agent"), "weather"); key != "canary-key" || err != nil {
		t.Errorf("refused updates left %q, %v", key, err)
	}
}

func TestListOfAPIKeys(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	for i := range 101 {
		w.apiKey(t, fmt.Sprintf("p%03d", i), "key")
	}
	page, err := w.ListApiKeyCredentialProviders(t.Context(), root, &api.ListApiKeyCredentialProvidersRequest{})
	if err != nil || len(page.CredentialProviders) != 100 || page.NextToken == nil || page.CredentialProviders[0].CredentialProviderArn != keyARN+"p000" {
		t.Fatalf("the first page has %d, %v", len(page.CredentialProviders), err)
	}
	rest, err := w.ListApiKeyCredentialProviders(t.Context(), root, &api.ListApiKeyCredentialProvidersRequest{NextToken: page.NextToken, MaxResults: pointer(int32(1))})
	if err != nil || len(rest.CredentialProviders) != 1 || rest.NextToken != nil || rest.CredentialProviders[0].Name != "p100" {
		t.Errorf("the last page is %+v, %v", rest, err)
	}
}

// The record of a read says whose workload it was, for whom, and which key; never the key.
func TestReadOfAnAPIKeyIsRecorded(t *testing.T) {
	t.Parallel()
	w := newBareWorld(t)
	w.workload(t, "agent")
	w.apiKey(t, "weather", "canary-key")
	caller := w.as(t, "agent", "ada")
	scope := func(_ ctx, c principal.Caller, _ *api.GetResourceApiKeyRequest) (principal.Caller, []gate.Check, error) {
		return caller, []gate.Check{{Action: api.GetResourceApiKey.Action(), Resource: keyARN + "weather"}}, nil
	}
	response, err := gate.Act(t.Context(), w.gate, root, api.GetResourceApiKey.Action(), scope, &api.GetResourceApiKeyRequest{ResourceCredentialProviderName: "weather"}, w.GetResourceApiKey)
	if err != nil || response.ApiKey.Reveal() != "canary-key" {
		t.Fatalf("got %v, %v", response, err)
	}
	record := w.lastRecord(t, api.GetResourceApiKey.Action())
	if record.Outcome != "ok" || record.User != "id:ada" || record.Workload != caller.Workload.ARN || len(record.Resources) != 1 || record.Detail["key_version"] != "1" {
		t.Errorf("the record is %+v", record)
	}
	w.noCanaries(t)
}
