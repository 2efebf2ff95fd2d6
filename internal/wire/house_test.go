package wire

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const (
	region    = "us-east-1"
	account   = "123456789012"
	requestID = "2f9f7b1e-3a5c-4a38-8f0e-6f7d5f0c9b11"
	canary    = "canary-7f3a" // stands for what only the log, or nobody, may see: found in no reply
)

// logs is everything that wire logs in these tests.
var logs = new(lockedBuffer)

type lockedBuffer struct {
	mutex sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.Buffer.String()
}

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	os.Exit(m.Run())
}

// house is the door on real guards: gate, auth, policy, audit, seal and a
// database. Behind it are rooms of a few lines, which say what they were given.
type house struct {
	URL  string
	door http.Handler
	key  auth.NewKey
	log  *audit.Log
}

func newHouse(t testing.TB, routes ...Route) *house {
	t.Helper()
	db := storetest.Open(t)
	keeper := storetest.Keeper(t, db, account)
	h := &house{}
	authenticator := auth.New(db, keeper, nil, auth.Options{Region: region})
	if _, err := authenticator.EnsureRoot(t.Context(), account, func(k auth.NewKey) error { h.key = k; return nil }); err != nil {
		t.Fatal(err)
	}
	var err error
	if h.log, err = audit.New(t.Context(), db, keeper, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.log.Close() })
	h.door = New(gate.New(authenticator, policy.New(db), h.log), keeper, Options{}, routes)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.door.ServeHTTP(w, r.WithContext(principal.WithRequest(r.Context(), principal.Request{ID: requestID})))
	}))
	t.Cleanup(server.Close)
	h.URL = server.URL
	return h
}

// own is a scope that asks for the operation on everything in the caller's account.
func own[Req, Resp any](op api.Operation[Req, Resp], fn func(context.Context, principal.Caller, *Req) (*Resp, error)) Route {
	return Handle(op, func(_ context.Context, caller principal.Caller, _ *Req) (principal.Caller, []gate.Check, error) {
		return caller, []gate.Check{{Action: op.Action(), Resource: api.GatewayARN(region, caller.Account, "*")}}, nil
	}, fn)
}

var moment = time.Date(2026, 1, 2, 3, 4, 5, 250_000_000, time.UTC)

// rooms are the handlers of the transcripts.
func rooms() []Route {
	return []Route{
		own(api.CreateWorkloadIdentity, func(_ context.Context, c principal.Caller, r *api.CreateWorkloadIdentityRequest) (*api.CreateWorkloadIdentityResponse, error) {
			switch r.Name {
			case "taken":
				return nil, fault.New(fault.Conflict, "A workload identity named taken exists.")
			case "crowded":
				return nil, fault.New(fault.QuotaExceeded, "The account has as many workload identities as it may.")
			}
			return &api.CreateWorkloadIdentityResponse{Name: r.Name, WorkloadIdentityArn: api.WorkloadIdentityARN(region, c.Account, r.Name), AllowedResourceOauth2ReturnUrls: r.AllowedResourceOauth2ReturnUrls}, nil
		}),
		own(api.GetWorkloadIdentity, func(_ context.Context, c principal.Caller, r *api.GetWorkloadIdentityRequest) (*api.GetWorkloadIdentityResponse, error) {
			switch r.Name {
			case "missing":
				return nil, fault.New(fault.NotFound, "There is no workload identity named missing.")
			case "bug":
				panic("a bug in a room")
			case "broken":
				return nil, os.ErrDeadlineExceeded
			}
			return &api.GetWorkloadIdentityResponse{Name: r.Name, WorkloadIdentityArn: api.WorkloadIdentityARN(region, c.Account, r.Name), CreatedTime: api.Epoch(moment), LastUpdatedTime: api.Epoch(moment)}, nil
		}),
		own(api.DeleteWorkloadIdentity, func(context.Context, principal.Caller, *api.DeleteWorkloadIdentityRequest) (*api.DeleteWorkloadIdentityResponse, error) {
			return &api.DeleteWorkloadIdentityResponse{}, nil
		}),
		own(api.ListWorkloadIdentities, func(_ context.Context, _ principal.Caller, r *api.ListWorkloadIdentitiesRequest) (*api.ListWorkloadIdentitiesResponse, error) {
			return listing(r.NextToken), nil
		}),
		own(api.ListGateways, func(_ context.Context, _ principal.Caller, r *api.ListGatewaysRequest) (*api.ListGatewaysResponse, error) {
			page := listing(r.NextToken)
			return &api.ListGatewaysResponse{NextToken: page.NextToken}, nil
		}),
		own(api.GetResourceOauth2Token, func(_ context.Context, _ principal.Caller, r *api.GetResourceOauth2TokenRequest) (*api.GetResourceOauth2TokenResponse, error) {
			if r.WorkloadIdentityToken.Reveal() == "expired" {
				return nil, fault.New(fault.Unauthenticated, "The workload access token has expired.").Because(errCanary)
			}
			return &api.GetResourceOauth2TokenResponse{AccessToken: secret.Pointer("for " + strings.Join(r.Scopes, " "))}, nil
		}),
		own(api.CompleteResourceTokenAuth, func(context.Context, principal.Caller, *api.CompleteResourceTokenAuthRequest) (*api.CompleteResourceTokenAuthResponse, error) {
			return &api.CompleteResourceTokenAuthResponse{}, nil
		}),
		own(api.GetGateway, func(_ context.Context, c principal.Caller, r *api.GetGatewayRequest) (*api.GetGatewayResponse, error) {
			if r.GatewayIdentifier == "busy-0123456789" {
				return nil, &fault.Error{Kind: fault.Throttled, Message: "Too many requests.", RetryAfter: 1500 * time.Millisecond}
			}
			return &api.GetGatewayResponse{GatewayId: r.GatewayIdentifier, GatewayArn: api.GatewayARN(region, c.Account, r.GatewayIdentifier), Name: "demo", Status: api.GatewayStatusReady,
				AuthorizerType: api.AuthorizerTypeNone, CreatedAt: api.ISO(moment), UpdatedAt: api.ISO(moment)}, nil
		}),
		own(api.CreateGatewayTarget, func(_ context.Context, c principal.Caller, r *api.CreateGatewayTargetRequest) (*api.CreateGatewayTargetResponse, error) {
			return &api.CreateGatewayTargetResponse{TargetId: "0123456789", GatewayArn: api.GatewayARN(region, c.Account, r.GatewayIdentifier), Status: api.TargetStatusReady,
				TargetConfiguration: r.TargetConfiguration, CreatedAt: api.ISO(moment), UpdatedAt: api.ISO(moment)}, nil
		}),
		own(api.ListTagsForResource, func(_ context.Context, _ principal.Caller, r *api.ListTagsForResourceRequest) (*api.ListTagsForResourceResponse, error) {
			return &api.ListTagsForResourceResponse{Tags: map[string]string{"arn": r.ResourceArn}}, nil
		}),
		own(api.UntagResource, func(_ context.Context, _ principal.Caller, r *api.UntagResourceRequest) (*api.UntagResourceResponse, error) {
			if strings.Join(r.TagKeys, " and ") != "color and size" {
				return nil, fault.InvalidField("tagKeys", "%q", r.TagKeys)
			}
			return &api.UntagResourceResponse{}, nil
		}),
		own(api.InvokeAgentRuntime, func(_ context.Context, _ principal.Caller, r *api.InvokeAgentRuntimeRequest) (*api.InvokeAgentRuntimeResponse, error) {
			return &api.InvokeAgentRuntimeResponse{ContentType: "text/plain", RuntimeSessionId: r.RuntimeSessionId, Response: bytes.NewReader(append([]byte("you said "), r.Payload...))}, nil
		}),
	}
}

var errCanary = fault.New(fault.Internal, "%s", canary)

// listing is a list of two pages, whose cursor must never be seen outside.
func listing(cursor *string) *api.ListWorkloadIdentitiesResponse {
	switch {
	case cursor == nil:
		next := canary + " page two"
		return &api.ListWorkloadIdentitiesResponse{NextToken: &next, WorkloadIdentities: []api.WorkloadIdentityType{{Name: "one", WorkloadIdentityArn: "arn:1"}}}
	case *cursor == canary+" page two":
		return &api.ListWorkloadIdentitiesResponse{WorkloadIdentities: []api.WorkloadIdentityType{{Name: "two", WorkloadIdentityArn: "arn:2"}}}
	}
	panic("a cursor that no page gave out: " + *cursor)
}
