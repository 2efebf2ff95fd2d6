package wire

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/sigv4"
)

const tokenBody = `{"workloadIdentityToken":"eyJhbGciOi","resourceCredentialProviderName":"google","scopes":["openid","profile"],"oauth2Flow":"USER_FEDERATION","resourceOauth2ReturnUrl":"http://localhost:9090/oauth2/callback"}`

// signed makes a request that the house takes, for use without a network.
func (h *house) signed(t testing.TB, method, path string, body io.Reader, hashed string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, h.URL+path, body)
	r.ContentLength = int64(len(hashed))
	if err := sigv4.Sign(r, sigv4.Key{AccessKeyID: h.key.ID, Secret: h.key.Secret}, region, "bedrock-agentcore", sha256.Sum256([]byte(hashed)), time.Now()); err != nil {
		t.Fatal(err)
	}
	return r
}

// retained remembers where a body was read into.
type retained struct {
	io.Reader
	parts [][]byte
}

func (r *retained) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.parts = append(r.parts, p[:n])
	return n, err
}

// keeper is a ResponseWriter that remembers what it was given without copying it.
type keeper struct {
	*httptest.ResponseRecorder
	parts [][]byte
}

func (k *keeper) Write(p []byte) (int, error) {
	k.parts = append(k.parts, p)
	return k.ResponseRecorder.Write(p)
}

// Neither the bytes of a request nor those of its reply are left in the
// buffers once it is over: they may hold secrets.
func TestBuffersAreCleared(t *testing.T) {
	t.Parallel()
	h := newHouse(t, rooms()...)
	body := &retained{Reader: strings.NewReader(tokenBody)}
	w := &keeper{ResponseRecorder: httptest.NewRecorder()}
	h.door.ServeHTTP(w, h.signed(t, "POST", "/identities/oauth2/token", body, tokenBody))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "for openid profile") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if len(body.parts) == 0 || len(w.parts) == 0 {
		t.Fatal("nothing was read or written")
	}
	for _, part := range append(body.parts, w.parts...) {
		if len(bytes.Trim(part, "\x00")) > 0 {
			t.Errorf("left behind: %q", part)
		}
	}
}

// A reply exists only when its record does, and a request that broke a
// constraint never came to a room.
func TestWhatIsAnsweredIsRecorded(t *testing.T) {
	t.Parallel()
	called := 0
	h := newHouse(t, own(api.CreateWorkloadIdentity, func(context.Context, principal.Caller, *api.CreateWorkloadIdentityRequest) (*api.CreateWorkloadIdentityResponse, error) {
		called++
		return &api.CreateWorkloadIdentityResponse{}, nil
	}))
	for _, body := range []string{`{"name":"a"}`, `{"name":"sayhello"}`} {
		h.door.ServeHTTP(httptest.NewRecorder(), h.signed(t, "POST", "/identities/CreateWorkloadIdentity", strings.NewReader(body), body))
	}
	records, _, err := h.log.List(t.Context(), audit.Query{Account: account})
	if err != nil || called != 1 {
		t.Fatalf("%d calls, %v", called, err)
	}
	if len(records) != 1 || records[0].Action != "bedrock-agentcore:CreateWorkloadIdentity" || records[0].Decision != audit.Allow || records[0].KeyID != h.key.ID {
		t.Errorf("records %+v", records)
	}
}

// What policy refuses does not come to a room, and says who, what and on what.
func TestADeniedRequest(t *testing.T) {
	t.Parallel()
	h := newHouse(t, Handle(api.CreateWorkloadIdentity, func(_ context.Context, caller principal.Caller, _ *api.CreateWorkloadIdentityRequest) (principal.Caller, []gate.Check, error) {
		return caller, []gate.Check{{Action: "bedrock-agentcore:CreateWorkloadIdentity", Resource: api.WorkloadIdentityDirectoryARN(region, "999999999999")}}, nil
	}, func(context.Context, principal.Caller, *api.CreateWorkloadIdentityRequest) (*api.CreateWorkloadIdentityResponse, error) {
		t.Error("a denied request came to the room")
		return nil, nil
	}))
	body := `{"name":"sayhello"}`
	w := httptest.NewRecorder()
	h.door.ServeHTTP(w, h.signed(t, "POST", "/identities/CreateWorkloadIdentity", strings.NewReader(body), body))
	var answer struct {
		Type    string `json:"__type"`
		Message string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusForbidden || answer.Type != "AccessDeniedException" ||
		!strings.Contains(answer.Message, "is not authorized to perform: bedrock-agentcore:CreateWorkloadIdentity") {
		t.Errorf("%d %s (%v)", w.Code, w.Body, err)
	}
}

// A room that answers nothing is a bug that the client does not take for success.
func TestNoAnswerIsAnError(t *testing.T) {
	t.Parallel()
	h := newHouse(t, own(api.CreateWorkloadIdentity, func(context.Context, principal.Caller, *api.CreateWorkloadIdentityRequest) (*api.CreateWorkloadIdentityResponse, error) {
		return nil, nil
	}))
	body := `{"name":"sayhello"}`
	w := httptest.NewRecorder()
	h.door.ServeHTTP(w, h.signed(t, "POST", "/identities/CreateWorkloadIdentity", strings.NewReader(body), body))
	if w.Code != http.StatusInternalServerError {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A panic in the door is a 500 and a log line. Once a part of the reply is out,
// the connection ends instead, so that half a reply never looks whole.
func TestPanics(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("GET", "/gateways/", nil)
	r = r.WithContext(principal.WithRequest(r.Context(), principal.Request{ID: "panic-before"}))
	w := httptest.NewRecorder()
	func() {
		reply := &reply{ResponseWriter: w}
		defer reply.mend(r)
		panic("before the reply")
	}()
	if w.Code != http.StatusInternalServerError || w.Header().Get("X-Amzn-Errortype") != "InternalServerException" || strings.Contains(w.Body.String(), "before the reply") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if !strings.Contains(logs.String(), "request_id=panic-before") {
		t.Error("the panic is not in the log")
	}
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("half a reply is left to look whole")
		}
	}()
	reply := &reply{ResponseWriter: httptest.NewRecorder()}
	defer reply.mend(r)
	reply.WriteHeader(http.StatusOK)
	panic("in the middle")
}

// A stream that breaks ends the connection; one that nobody reads ends quietly.
func TestStreamsThatBreak(t *testing.T) {
	t.Parallel()
	c := &call{w: httptest.NewRecorder(), r: httptest.NewRequest("POST", "/", nil)}
	func() {
		defer func() {
			if recover() != http.ErrAbortHandler {
				t.Error("a broken stream looks whole")
			}
		}()
		_ = c.stream(http.StatusOK, io.MultiReader(strings.NewReader("half"), broken{}))
	}()
	c.w = gone{httptest.NewRecorder()}
	if err := c.stream(http.StatusOK, strings.NewReader("whole")); err != nil {
		t.Error(err)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the agent died") }

type gone struct{ *httptest.ResponseRecorder }

func (gone) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// Mistakes in the map of routes are found when the server starts.
func TestMistakenRoutes(t *testing.T) {
	t.Parallel()
	fn := func(context.Context, principal.Caller, *api.GetGatewayRequest) (*api.GetGatewayResponse, error) {
		return nil, nil
	}
	scope := func(_ context.Context, c principal.Caller, _ *api.GetGatewayRequest) (principal.Caller, []gate.Check, error) {
		return c, nil, nil
	}
	for name, mistake := range map[string]func(){
		"no scope":    func() { Handle(api.GetGateway, nil, fn) },
		"no method":   func() { Handle(api.GetGateway, scope, nil) },
		"of no model": func() { New(nil, nil, Options{}, []Route{{op: &api.Info{Name: "DropEverything"}}}) },
		"two of one": func() {
			New(nil, nil, Options{}, []Route{Handle(api.GetGateway, scope, fn), Handle(api.GetGateway, scope, fn)})
		},
		"a foreign type": func() {
			Handle(api.Operation[int, api.GetGatewayResponse]{Info: api.GetGateway.Info}, func(_ context.Context, c principal.Caller, _ *int) (principal.Caller, []gate.Check, error) {
				return c, nil, nil
			}, func(context.Context, principal.Caller, *int) (*api.GetGatewayResponse, error) { return nil, nil })
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s is accepted", name)
				}
			}()
			mistake()
		}()
	}
}

// BenchmarkGetResourceOauth2Token is the whole door with real guards and a room
// that has the token at hand; audit's durable commit is in it.
func BenchmarkGetResourceOauth2Token(b *testing.B) {
	h := newHouse(b, own(api.GetResourceOauth2Token, func(context.Context, principal.Caller, *api.GetResourceOauth2TokenRequest) (*api.GetResourceOauth2TokenResponse, error) {
		return &api.GetResourceOauth2TokenResponse{AccessToken: &bigToken}, nil
	}))
	header := h.signed(b, "POST", "/identities/oauth2/token", strings.NewReader(tokenBody), tokenBody).Header
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := httptest.NewRequest("POST", h.URL+"/identities/oauth2/token", strings.NewReader(tokenBody))
			r.Header = header
			w := httptest.NewRecorder()
			h.door.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				b.Fatal(w.Code, w.Body)
			}
		}
	})
}

var bigToken = secret.New(strings.Repeat("ya29.a0Af", 150))

// BenchmarkReadAndWrite is what the door itself costs: bind, decode, validate, encode.
func BenchmarkReadAndWrite(b *testing.B) {
	response := &api.GetResourceOauth2TokenResponse{AccessToken: &bigToken}
	r := httptest.NewRequest("POST", "/identities/oauth2/token", nil)
	w := httptest.NewRecorder()
	c := &call{op: api.GetResourceOauth2Token.Info, r: r, w: w, body: []byte(tokenBody)}
	b.ReportAllocs()
	for b.Loop() {
		var request api.GetResourceOauth2TokenRequest
		if err := c.read(&request); err != nil {
			b.Fatal(err)
		}
		w.Body.Reset()
		if err := c.write(response); err != nil {
			b.Fatal(err)
		}
	}
}
