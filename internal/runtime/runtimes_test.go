package runtime

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// each runs a test of the control plane on both engines.
func each(t *testing.T, fn func(t *testing.T, h *hosted)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, db *store.DB) { fn(t, servingOn(t, db, nil)) })
}

func (h *hosted) get(t testing.TB, id string, version ...string) *api.GetAgentRuntimeResponse {
	t.Helper()
	request := &api.GetAgentRuntimeRequest{AgentRuntimeId: id}
	if len(version) > 0 {
		request.AgentRuntimeVersion = &version[0]
	}
	got, err := h.GetAgentRuntime(t.Context(), h.admin(), request)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (h *hosted) update(t testing.TB, id string, change func(*api.UpdateAgentRuntimeRequest)) *api.UpdateAgentRuntimeResponse {
	t.Helper()
	request := &api.UpdateAgentRuntimeRequest{AgentRuntimeId: id, RoleArn: testRole, AgentRuntimeArtifact: h.artifact(t)}
	if change != nil {
		change(request)
	}
	made, err := h.UpdateAgentRuntime(t.Context(), h.admin(), request)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (h *hosted) live(t testing.TB, id, endpoint string) string {
	t.Helper()
	got, err := h.GetAgentRuntimeEndpoint(t.Context(), h.admin(), &api.GetAgentRuntimeEndpointRequest{AgentRuntimeId: id, EndpointName: secret.New(endpoint)})
	if err != nil {
		t.Fatal(err)
	}
	if *got.LiveVersion != *got.TargetVersion || got.Status != api.AgentRuntimeEndpointStatusReady {
		t.Errorf("the endpoint is %s, at %s on its way to %s", got.Status, *got.LiveVersion, *got.TargetVersion)
	}
	return *got.LiveVersion
}

func refusedAs(t testing.TB, what string, err error, kind fault.Kind, says string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v, want %v: …%s…", what, err, kind, says)
	}
}

func image() *api.AgentRuntimeArtifact {
	return &api.AgentRuntimeArtifact{ContainerConfiguration: &api.ContainerConfiguration{ContainerUri: "000000000000.dkr.ecr.us-east-1.amazonaws.com/agent:1"}}
}

// What a runtime was made with is what is read of it, all of it: what AWS alone
// has is kept and echoed.
func TestRuntimeIsEchoed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *hosted) {
		artifact := h.artifact(t)
		idle, life, port, description := int32(60), int32(600), int32(8090), secret.New("answers mail")
		from := api.CreateAgentRuntimeRequest{
			AgentRuntimeArtifact: artifact, AgentRuntimeName: "clerk", RoleArn: testRole, Description: &description,
			EnvironmentVariables:       map[string]secret.Text{"MODEL": secret.New("gpt"), "AWS_ENDPOINT_URL_S3": secret.New("http://minio")},
			LifecycleConfiguration:     &api.LifecycleConfiguration{IdleRuntimeSessionTimeout: &idle, MaxLifetime: &life},
			ProtocolConfiguration:      &api.ProtocolConfiguration{ServerProtocol: api.ServerProtocolHttp, Port: &port},
			RequestHeaderConfiguration: &api.RequestHeaderConfiguration{RequestHeaderAllowlist: []string{"X-Amzn-Bedrock-AgentCore-Runtime-Custom-Tenant", "Authorization"}},
			AuthorizerConfiguration:    h.jwt(),
			NetworkConfiguration: &api.NetworkConfiguration{NetworkMode: api.NetworkModeVpc, NetworkModeConfig: &api.VpcConfig{
				SecurityGroups: []string{"sg-12345678"}, Subnets: []string{"subnet-12345678"}}},
			AllowedPorts:             []api.AllowedPort{{PortRange: &api.PortRange{From: 9000, To: 9002}}},
			FilesystemConfigurations: []api.FilesystemConfiguration{{SessionStorage: &api.SessionStorageConfiguration{MountPath: "/mnt/data"}}},
			Tags:                     map[string]string{"team": "blue"},
		}
		made, err := h.CreateAgentRuntime(t.Context(), h.admin(), &from)
		if err != nil {
			t.Fatal(err)
		}
		got := h.get(t, made.AgentRuntimeId)
		want := &api.GetAgentRuntimeResponse{
			AgentRuntimeArn: "arn:aws:bedrock-agentcore:us-east-1:000000000000:runtime/" + made.AgentRuntimeId, AgentRuntimeId: made.AgentRuntimeId, AgentRuntimeName: "clerk",
			AgentRuntimeVersion: "1", Status: api.AgentRuntimeStatusReady, CreatedAt: made.CreatedAt, LastUpdatedAt: made.CreatedAt, RoleArn: testRole,
			AgentRuntimeArtifact: from.AgentRuntimeArtifact, Description: from.Description, EnvironmentVariables: from.EnvironmentVariables, LifecycleConfiguration: from.LifecycleConfiguration,
			ProtocolConfiguration: from.ProtocolConfiguration, RequestHeaderConfiguration: from.RequestHeaderConfiguration, AuthorizerConfiguration: from.AuthorizerConfiguration,
			NetworkConfiguration: from.NetworkConfiguration, AllowedPorts: from.AllowedPorts, FilesystemConfigurations: from.FilesystemConfigurations,
			WorkloadIdentityDetails: &api.WorkloadIdentityDetails{WorkloadIdentityArn: "arn:aws:bedrock-agentcore:us-east-1:000000000000:workload-identity-directory/default/workload-identity/" + made.AgentRuntimeId},
		}
		if difference := cmp.Diff(string(want.AppendJSON(nil)), string(got.AppendJSON(nil))); difference != "" {
			t.Error(difference)
		}
		if len(made.AgentRuntimeId) != len("clerk-")+10 || made.AgentRuntimeVersion != "1" || made.AgentRuntimeArn != want.AgentRuntimeArn {
			t.Errorf("%+v", made)
		}
		least := h.create(t, "least", nil)
		if got := h.get(t, least.AgentRuntimeId); *got.LifecycleConfiguration.IdleRuntimeSessionTimeout != 900 || *got.LifecycleConfiguration.MaxLifetime != 28800 ||
			got.NetworkConfiguration.NetworkMode != api.NetworkModePublic {
			t.Errorf("what holds where nothing was said: %s", got.AppendJSON(nil))
		}
	})
}

// Versions never change; DEFAULT follows the newest that can be run, and an
// endpoint of one's own stays where it was put.
func TestVersionsAndEndpoints(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *hosted) {
		ctx := t.Context()
		id := h.create(t, "clerk", func(r *api.CreateAgentRuntimeRequest) {
			r.EnvironmentVariables = map[string]secret.Text{"OF": secret.New("1")}
		}).AgentRuntimeId
		one := "1"
		if _, err := h.CreateAgentRuntimeEndpoint(ctx, h.admin(), &api.CreateAgentRuntimeEndpointRequest{AgentRuntimeId: id, Name: secret.New("prod"), AgentRuntimeVersion: &one}); err != nil {
			t.Fatal(err)
		}
		second := h.update(t, id, nil)
		if second.AgentRuntimeVersion != "2" || second.Status != api.AgentRuntimeStatusReady {
			t.Errorf("%+v", second)
		}
		if got := h.get(t, id); got.AgentRuntimeVersion != "2" || len(got.EnvironmentVariables) != 0 {
			t.Errorf("an update replaces: %s", got.AppendJSON(nil))
		}
		if got := h.get(t, id, "1"); got.AgentRuntimeVersion != "1" || got.EnvironmentVariables["OF"].Reveal() != "1" {
			t.Errorf("the first version has changed: %s", got.AppendJSON(nil))
		}
		if d, p := h.live(t, id, "DEFAULT"), h.live(t, id, "prod"); d != "2" || p != "1" {
			t.Errorf("DEFAULT serves %s, prod %s", d, p)
		}

		failed := h.update(t, id, func(r *api.UpdateAgentRuntimeRequest) { r.AgentRuntimeArtifact = image() })
		if failed.AgentRuntimeVersion != "3" || failed.Status != api.AgentRuntimeStatusUpdateFailed {
			t.Errorf("%+v", failed)
		}
		if got := h.get(t, id); got.Status != api.AgentRuntimeStatusUpdateFailed || !strings.Contains(*got.FailureReason, "containers") {
			t.Errorf("%s", got.AppendJSON(nil))
		}
		if got := h.live(t, id, "DEFAULT"); got != "2" {
			t.Errorf("DEFAULT serves %s, which cannot be run", got)
		}
		three := "3"
		_, err := h.UpdateAgentRuntimeEndpoint(ctx, h.admin(), &api.UpdateAgentRuntimeEndpointRequest{AgentRuntimeId: id, EndpointName: secret.New("prod"), AgentRuntimeVersion: &three})
		refusedAs(t, "serving what cannot be run", err, fault.Conflict, "UPDATE_FAILED")
		_, err = h.CreateAgentRuntimeEndpoint(ctx, h.admin(), &api.CreateAgentRuntimeEndpointRequest{AgentRuntimeId: id, Name: secret.New("new")})
		refusedAs(t, "an endpoint for the newest, which cannot be run", err, fault.Conflict, "Version 3")

		described := "the one that counts"
		if _, err := h.UpdateAgentRuntimeEndpoint(ctx, h.admin(), &api.UpdateAgentRuntimeEndpointRequest{AgentRuntimeId: id, EndpointName: secret.New("prod"), Description: &described}); err != nil {
			t.Error(err)
		}
		if got := h.live(t, id, "prod"); got != "1" {
			t.Errorf("describing an endpoint moved it to %s", got)
		}
		two := "2"
		moved, err := h.UpdateAgentRuntimeEndpoint(ctx, h.admin(), &api.UpdateAgentRuntimeEndpointRequest{AgentRuntimeId: id, EndpointName: secret.New("prod"), AgentRuntimeVersion: &two})
		if err != nil || *moved.LiveVersion != "2" {
			t.Errorf("%+v, %v", moved, err)
		}
		_, err = h.UpdateAgentRuntimeEndpoint(ctx, h.admin(), &api.UpdateAgentRuntimeEndpointRequest{AgentRuntimeId: id, EndpointName: secret.New("DEFAULT"), AgentRuntimeVersion: &one})
		refusedAs(t, "moving DEFAULT", err, fault.Conflict, "follows the newest")
		_, err = h.DeleteAgentRuntimeEndpoint(ctx, h.admin(), &api.DeleteAgentRuntimeEndpointRequest{AgentRuntimeId: id, EndpointName: secret.New("DEFAULT")})
		refusedAs(t, "deleting DEFAULT", err, fault.Conflict, "goes with it")

		_, err = h.DeleteAgentRuntime(ctx, h.admin(), &api.DeleteAgentRuntimeRequest{AgentRuntimeId: id, AgentRuntimeVersion: &two})
		refusedAs(t, "deleting what is served", err, fault.Conflict, "is served by")
		if _, err := h.DeleteAgentRuntime(ctx, h.admin(), &api.DeleteAgentRuntimeRequest{AgentRuntimeId: id, AgentRuntimeVersion: &three}); err != nil {
			t.Fatal(err)
		}
		_, err = h.DeleteAgentRuntime(ctx, h.admin(), &api.DeleteAgentRuntimeRequest{AgentRuntimeId: id, AgentRuntimeVersion: &three})
		refusedAs(t, "deleting it again", err, fault.NotFound, "no version 3")
		if got := h.get(t, id); got.AgentRuntimeVersion != "2" || got.Status != api.AgentRuntimeStatusReady {
			t.Errorf("without its newest version the runtime is %s", got.AppendJSON(nil))
		}
		if got := h.update(t, id, nil); got.AgentRuntimeVersion != "4" {
			t.Errorf("the number of a deleted version was given again: %+v", got)
		}
	})
}

// Repeated with its client token, a request answers what it did the first time,
// deletions too; with another request the token is refused.
func TestClientTokens(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *hosted) {
		ctx, token := t.Context(), strings.Repeat("0123456789", 4)
		request := &api.CreateAgentRuntimeRequest{AgentRuntimeName: "clerk", RoleArn: testRole, AgentRuntimeArtifact: h.artifact(t), ClientToken: &token,
			EnvironmentVariables: map[string]secret.Text{"A": secret.New("1")}}
		first, err := h.CreateAgentRuntime(ctx, h.admin(), request)
		if err != nil {
			t.Fatal(err)
		}
		again, err := h.CreateAgentRuntime(ctx, h.admin(), request)
		if err != nil || again.AgentRuntimeId != first.AgentRuntimeId || again.Status != first.Status {
			t.Errorf("%+v, %v", again, err)
		}
		other := *request
		other.EnvironmentVariables = map[string]secret.Text{"A": secret.New("2")}
		_, err = h.CreateAgentRuntime(ctx, h.admin(), &other)
		refusedAs(t, "the token with another request", err, fault.Invalid, "used before")
		without := *request
		without.ClientToken = nil
		_, err = h.CreateAgentRuntime(ctx, h.admin(), &without)
		refusedAs(t, "the name again", err, fault.Conflict, "already exists")

		id := first.AgentRuntimeId
		update := func(r *api.UpdateAgentRuntimeRequest) { r.ClientToken = &token }
		if a, b := h.update(t, id, update), h.update(t, id, update); a.AgentRuntimeVersion != "2" || b.AgentRuntimeVersion != "2" {
			t.Errorf("versions %s and %s", a.AgentRuntimeVersion, b.AgentRuntimeVersion)
		}
		endpoint := &api.CreateAgentRuntimeEndpointRequest{AgentRuntimeId: id, Name: secret.New("prod"), ClientToken: &token}
		for range 2 {
			if _, err := h.CreateAgentRuntimeEndpoint(ctx, h.admin(), endpoint); err != nil {
				t.Error(err)
			}
		}
		for range 2 {
			if _, err := h.DeleteAgentRuntimeEndpoint(ctx, h.admin(), &api.DeleteAgentRuntimeEndpointRequest{AgentRuntimeId: id, EndpointName: secret.New("prod"), ClientToken: &token}); err != nil {
				t.Error(err)
			}
		}
		if made, err := h.CreateAgentRuntimeEndpoint(ctx, h.admin(), endpoint); err != nil || made.Status != api.AgentRuntimeEndpointStatusReady {
			t.Errorf("the token of an endpoint that is gone: %+v, %v", made, err)
		}
		for range 2 {
			if _, err := h.DeleteAgentRuntime(ctx, h.admin(), &api.DeleteAgentRuntimeRequest{AgentRuntimeId: id, ClientToken: &token}); err != nil {
				t.Error(err)
			}
		}
		_, err = h.DeleteAgentRuntime(ctx, h.admin(), &api.DeleteAgentRuntimeRequest{AgentRuntimeId: id})
		refusedAs(t, "deleting what is gone", err, fault.NotFound, id)
		fresh, err := h.CreateAgentRuntime(ctx, h.admin(), request)
		if err != nil || fresh.AgentRuntimeId == id {
			t.Errorf("the token of a runtime that is gone: %+v, %v", fresh, err)
		}
	})
}

// Of requests that come at the same moment with one token, one makes the runtime;
// updates at the same moment make a version each.
func TestRuntimesAtTheSameMoment(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *hosted) {
		token, artifact := strings.Repeat("0123456789", 4), h.artifact(t)
		const many = 8
		ids, versions := make(chan string, many), make(chan string, many)
		var all sync.WaitGroup
		for range many {
			all.Go(func() {
				made, err := h.CreateAgentRuntime(t.Context(), h.admin(), &api.CreateAgentRuntimeRequest{AgentRuntimeName: "clerk", RoleArn: testRole, AgentRuntimeArtifact: artifact, ClientToken: &token})
				if err != nil {
					t.Error(err)
					return
				}
				ids <- made.AgentRuntimeId
			})
		}
		all.Wait()
		close(ids)
		id := <-ids
		for other := range ids {
			if other != id {
				t.Errorf("one token made %s and %s", id, other)
			}
		}
		for range many {
			all.Go(func() {
				made, err := h.UpdateAgentRuntime(t.Context(), h.admin(), &api.UpdateAgentRuntimeRequest{AgentRuntimeId: id, RoleArn: testRole, AgentRuntimeArtifact: artifact})
				if err != nil {
					t.Error(err)
					return
				}
				versions <- made.AgentRuntimeVersion
			})
		}
		all.Wait()
		close(versions)
		seen := map[string]bool{}
		for version := range versions {
			seen[version] = true
		}
		if len(seen) != many || h.live(t, id, DefaultEndpoint) != fmt.Sprint(many+1) {
			t.Errorf("versions %v, DEFAULT at %s", seen, h.live(t, id, DefaultEndpoint))
		}
	})
}

// Lists come in pages that leave nothing out and repeat nothing, of the account's own.
func TestRuntimesAreListed(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *hosted) {
		ctx, two := t.Context(), int32(2)
		var made []string
		for i := range 5 {
			made = append(made, h.create(t, fmt.Sprintf("agent%d", i), nil).AgentRuntimeId)
		}
		for range 4 {
			h.update(t, made[0], nil)
		}
		for i := range 4 {
			if _, err := h.CreateAgentRuntimeEndpoint(ctx, h.admin(), &api.CreateAgentRuntimeEndpointRequest{AgentRuntimeId: made[0], Name: secret.New(fmt.Sprintf("e%d", i))}); err != nil {
				t.Fatal(err)
			}
		}
		pages := func(page func(token *string) ([]string, *string, error)) (all []string) {
			for token := (*string)(nil); ; {
				items, next, err := page(token)
				if err != nil || len(items) > 2 {
					t.Fatalf("%v, %v", items, err)
				}
				all = append(all, items...)
				if token = next; token == nil {
					return all
				}
			}
		}
		runtimes := pages(func(token *string) (ids []string, next *string, err error) {
			out, err := h.ListAgentRuntimes(ctx, h.admin(), &api.ListAgentRuntimesRequest{MaxResults: &two, NextToken: token})
			for _, r := range out.AgentRuntimes {
				ids = append(ids, r.AgentRuntimeId)
			}
			return ids, out.NextToken, err
		})
		if difference := cmp.Diff(made, runtimes); difference != "" {
			t.Error(difference)
		}
		versions := pages(func(token *string) (numbers []string, next *string, err error) {
			out, err := h.ListAgentRuntimeVersions(ctx, h.admin(), &api.ListAgentRuntimeVersionsRequest{AgentRuntimeId: made[0], MaxResults: &two, NextToken: token})
			for _, r := range out.AgentRuntimes {
				numbers = append(numbers, r.AgentRuntimeVersion)
			}
			return numbers, out.NextToken, err
		})
		if difference := cmp.Diff([]string{"5", "4", "3", "2", "1"}, versions); difference != "" {
			t.Error(difference)
		}
		endpoints := pages(func(token *string) (names []string, next *string, err error) {
			out, err := h.ListAgentRuntimeEndpoints(ctx, h.admin(), &api.ListAgentRuntimeEndpointsRequest{AgentRuntimeId: made[0], MaxResults: &two, NextToken: token})
			for _, e := range out.RuntimeEndpoints {
				names = append(names, e.Name.Reveal())
			}
			return names, out.NextToken, err
		})
		if difference := cmp.Diff([]string{"DEFAULT", "e0", "e1", "e2", "e3"}, endpoints); difference != "" {
			t.Error(difference)
		}
		stranger := principal.Caller{Kind: principal.Key, Account: "111111111111", ARN: "arn:aws:iam::111111111111:root", Root: true}
		if out, err := h.ListAgentRuntimes(ctx, stranger, &api.ListAgentRuntimesRequest{}); err != nil || len(out.AgentRuntimes) != 0 {
			t.Errorf("another account sees %v, %v", out, err)
		}
		for what, act := range map[string]func() error{
			"GetAgentRuntime": func() error {
				_, err := h.GetAgentRuntime(ctx, stranger, &api.GetAgentRuntimeRequest{AgentRuntimeId: made[0]})
				return err
			},
			"UpdateAgentRuntime": func() error {
				_, err := h.UpdateAgentRuntime(ctx, stranger, &api.UpdateAgentRuntimeRequest{AgentRuntimeId: made[0], RoleArn: testRole, AgentRuntimeArtifact: image()})
				return err
			},
			"DeleteAgentRuntime": func() error {
				_, err := h.DeleteAgentRuntime(ctx, stranger, &api.DeleteAgentRuntimeRequest{AgentRuntimeId: made[0]})
				return err
			},
			"ListAgentRuntimeVersions": func() error {
				_, err := h.ListAgentRuntimeVersions(ctx, stranger, &api.ListAgentRuntimeVersionsRequest{AgentRuntimeId: made[0]})
				return err
			},
			"GetAgentRuntimeEndpoint": func() error {
				_, err := h.GetAgentRuntimeEndpoint(ctx, stranger, &api.GetAgentRuntimeEndpointRequest{AgentRuntimeId: made[0], EndpointName: secret.New("e0")})
				return err
			},
			"DeleteAgentRuntimeEndpoint": func() error {
				_, err := h.DeleteAgentRuntimeEndpoint(ctx, stranger, &api.DeleteAgentRuntimeEndpointRequest{AgentRuntimeId: made[0], EndpointName: secret.New("e0")})
				return err
			},
		} {
			refusedAs(t, "another account's "+what, act(), fault.NotFound, "was not found")
		}
	})
}

// Quotas are AWS's: 10 endpoints of a runtime, 1,000 versions, 1,000 runtimes.
func TestQuotasOfRuntimes(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *hosted) {
		ctx := t.Context()
		id := h.create(t, "clerk", nil).AgentRuntimeId
		for i := range 9 {
			if _, err := h.CreateAgentRuntimeEndpoint(ctx, h.admin(), &api.CreateAgentRuntimeEndpointRequest{AgentRuntimeId: id, Name: secret.New(fmt.Sprintf("e%d", i))}); err != nil {
				t.Fatal(err)
			}
		}
		_, err := h.CreateAgentRuntimeEndpoint(ctx, h.admin(), &api.CreateAgentRuntimeEndpointRequest{AgentRuntimeId: id, Name: secret.New("more")})
		refusedAs(t, "the eleventh endpoint", err, fault.QuotaExceeded, "10 endpoints")
		if err := h.db.Update(ctx, func(tx *store.Tx) error {
			for i := range maxRuntimes - 1 {
				if _, err := tx.Exec("INSERT INTO agent_runtimes (id, account, name, workload_id, latest, tags, created) SELECT $1, account, $2, workload_id, 1, '{}', 1 FROM agent_runtimes WHERE id = $3",
					fmt.Sprintf("filler%d-0123456789", i), fmt.Sprintf("filler%d", i), id); err != nil {
					return err
				}
			}
			for i := range maxVersions - 1 {
				if _, err := tx.Exec(`INSERT INTO agent_runtime_versions (runtime_id, version, account, settings, code, status, failure, created)
					SELECT runtime_id, $1, account, settings, code, status, failure, created FROM agent_runtime_versions WHERE runtime_id = $2 AND version = 1`, i+2, id); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		_, err = h.CreateAgentRuntime(ctx, h.admin(), &api.CreateAgentRuntimeRequest{AgentRuntimeName: "more", RoleArn: testRole, AgentRuntimeArtifact: image()})
		refusedAs(t, "one more runtime", err, fault.QuotaExceeded, "1000 agent runtimes")
		_, err = h.UpdateAgentRuntime(ctx, h.admin(), &api.UpdateAgentRuntimeRequest{AgentRuntimeId: id, RoleArn: testRole, AgentRuntimeArtifact: image()})
		refusedAs(t, "one more version", err, fault.QuotaExceeded, "1000 versions")
	})
}

// What belongs together is checked, and what would change something that this
// server does not have is kept.
func TestSettingsOfRuntimes(t *testing.T) {
	t.Parallel()
	n := func(i int32) *int32 { return &i }
	headers := func(names ...string) func(*api.UpdateAgentRuntimeRequest) {
		return func(r *api.UpdateAgentRuntimeRequest) {
			r.RequestHeaderConfiguration = &api.RequestHeaderConfiguration{RequestHeaderAllowlist: names}
		}
	}
	variables := func(name, value string) func(*api.UpdateAgentRuntimeRequest) {
		return func(r *api.UpdateAgentRuntimeRequest) {
			r.EnvironmentVariables = map[string]secret.Text{name: secret.New(value)}
		}
	}
	lifecycle := func(idle, life *int32) func(*api.UpdateAgentRuntimeRequest) {
		return func(r *api.UpdateAgentRuntimeRequest) {
			r.LifecycleConfiguration = &api.LifecycleConfiguration{IdleRuntimeSessionTimeout: idle, MaxLifetime: life}
		}
	}
	provider := "arn:aws:bedrock-agentcore:us-east-1:000000000000:capacity-provider/p-0123456789"
	for name, test := range map[string]struct {
		change func(*api.UpdateAgentRuntimeRequest)
		says   string // "": it is taken
	}{
		"a header of ours, with underscores": {headers("X_Amzn_Bedrock_AgentCore_Runtime_Session_Id"), "cannot be forwarded"},
		"a token's, with underscores":        {headers("x-amz_bedrock-agentcore_identity-wat"), "cannot be forwarded"},
		"underscores of one's own":           {headers("X_Tenant", "X-Tenant"), ""},
		"least":                              {func(*api.UpdateAgentRuntimeRequest) {}, ""},
		"idle as long as life":               {lifecycle(n(60), n(60)), ""},
		"idle longer than life":              {lifecycle(n(61), n(60)), "cannot be longer"},
		"idle longer than 8 h":               {lifecycle(n(28801), nil), "cannot be longer"},
		"short life alone":                   {lifecycle(nil, n(60)), ""},
		"life of more than 8 h":              {lifecycle(nil, n(28801)), "at most 28800"},
		"life of instances": {func(r *api.UpdateAgentRuntimeRequest) {
			lifecycle(nil, n(1209600))(r)
			r.CapacityProviderConfiguration = &api.CapacityProviderConfiguration{CapacityProviderArn: &provider}
		}, ""},
		"reserved port": {func(r *api.UpdateAgentRuntimeRequest) {
			r.ProtocolConfiguration = &api.ProtocolConfiguration{ServerProtocol: api.ServerProtocolMcp, Port: n(8443)}
		}, "8443"},
		"allowed reserved port": {func(r *api.UpdateAgentRuntimeRequest) { r.AllowedPorts = []api.AllowedPort{{Port: n(8443)}} }, "8443"},
		"range around it": {func(r *api.UpdateAgentRuntimeRequest) {
			r.AllowedPorts = []api.AllowedPort{{PortRange: &api.PortRange{From: 8000, To: 9000}}}
		}, "8443"},
		"range backwards": {func(r *api.UpdateAgentRuntimeRequest) {
			r.AllowedPorts = []api.AllowedPort{{PortRange: &api.PortRange{From: 9001, To: 9000}}}
		}, "lower"},
		"VPC without its parts": {func(r *api.UpdateAgentRuntimeRequest) {
			r.NetworkConfiguration = &api.NetworkConfiguration{NetworkMode: api.NetworkModeVpc}
		}, "networkModeConfig"},
		"two folders, one place": {func(r *api.UpdateAgentRuntimeRequest) {
			s := api.FilesystemConfiguration{SessionStorage: &api.SessionStorageConfiguration{MountPath: "/mnt/a"}}
			r.FilesystemConfigurations = []api.FilesystemConfiguration{s, {SessionStorage: &api.SessionStorageConfiguration{MountPath: "/mnt/a/"}}}
		}, "twice"},
		"the folder above": {func(r *api.UpdateAgentRuntimeRequest) {
			r.FilesystemConfigurations = []api.FilesystemConfiguration{{SessionStorage: &api.SessionStorageConfiguration{MountPath: "/mnt/.."}}}
		}, "folder of its own"},
		"variable":                {variables("MODEL", "gpt"), ""},
		"another service's place": {variables("AWS_ENDPOINT_URL_S3", "http://minio:9000"), ""},
		"the platform's place":    {variables("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", "x"), "runtime's own"},
		"an operator's key":       {variables("AWS_SECRET_ACCESS_KEY", "hunter2"), "runtime's own"},
		"variable with =":         {variables("A=B", "c"), "cannot contain ="},
		"value with a zero":       {variables("A", "b\x00c"), "zero byte"},
		"custom header":           {headers("X-Amzn-Bedrock-AgentCore-Runtime-Custom-A", "x-tenant"), ""},
		"header twice":            {headers("X-Tenant", "x-tenant"), "listed twice"},
		"Authorization alone":     {headers("Authorization"), "JWT authorizer"},
		"header of AWS":           {headers("X-Amz-Security-Token"), "cannot be forwarded"},
		"other header of AWS":     {headers("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"), "cannot be forwarded"},
		"forwarding":              {headers("x-forwarded-for"), "cannot be forwarded"},
		"cookies":                 {headers("cookie"), "cannot be forwarded"},
		"the workload token":      {headers("WorkloadAccessToken"), "cannot be forwarded"},
		"websocket":               {headers("Sec-WebSocket-Key"), "cannot be forwarded"},
		"no artifact":             {func(r *api.UpdateAgentRuntimeRequest) { r.AgentRuntimeArtifact = &api.AgentRuntimeArtifact{} }, "needs codeConfiguration"},
		"authorizer for everybody": {func(r *api.UpdateAgentRuntimeRequest) {
			r.AuthorizerConfiguration = &api.AuthorizerConfiguration{CustomJWTAuthorizer: &api.CustomJWTAuthorizerConfiguration{DiscoveryUrl: "https://idp.example/.well-known/openid-configuration"}}
		}, "At least one of"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &api.UpdateAgentRuntimeRequest{AgentRuntimeArtifact: image(), RoleArn: testRole}
			test.change(r)
			_, err := checkSettings(r)
			switch {
			case test.says == "" && err != nil:
				t.Error(err)
			case test.says != "":
				refusedAs(t, name, err, fault.Invalid, test.says)
				if strings.Contains(fmt.Sprint(err), "hunter2") {
					t.Errorf("the refusal tells a value: %v", err)
				}
			}
		})
	}
}

// With a runtime goes what is kept with it: its identity, authorizer, policies.
func TestDeletedRuntimeLeavesNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *hosted) {
		ctx := t.Context()
		made := h.create(t, "clerk", func(r *api.CreateAgentRuntimeRequest) { r.AuthorizerConfiguration = h.jwt() })
		var gone []string
		h.options.Deleted = func(_ *store.Tx, _, arn string) error {
			gone = append(gone, strings.TrimPrefix(arn, made.AgentRuntimeArn))
			return nil
		}
		if _, err := h.CreateAgentRuntimeEndpoint(ctx, h.admin(), &api.CreateAgentRuntimeEndpointRequest{AgentRuntimeId: made.AgentRuntimeId, Name: secret.New("prod")}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.DeleteAgentRuntime(ctx, h.admin(), &api.DeleteAgentRuntimeRequest{AgentRuntimeId: made.AgentRuntimeId}); err != nil {
			t.Fatal(err)
		}
		if difference := cmp.Diff([]string{"/runtime-endpoint/DEFAULT", "/runtime-endpoint/prod", ""}, gone); difference != "" {
			t.Error(difference)
		}
		for _, table := range []string{"agent_runtimes", "agent_runtime_versions", "agent_runtime_endpoints", "agent_runtime_client_tokens", "workload_identities", "authorizers"} {
			var rows int64
			if err := h.db.View(ctx, func(tx *store.Tx) error { return tx.QueryRow("SELECT count(*) FROM " + table).Scan(&rows) }); err != nil {
				t.Fatal(err)
			}
			if rows != 0 {
				t.Errorf("%d rows are left in %s", rows, table)
			}
		}
	})
}
