package agent

import (
	"context"
	"crypto/rand"
	"net/http"

	uuid "github.com/aws/smithy-go/rand"
)

// The headers by which a runtime tells an agent who asks.
const (
	headerSession       = "X-Amzn-Bedrock-Agentcore-Runtime-Session-Id"
	headerRequest       = "X-Amzn-Bedrock-Agentcore-Runtime-Request-Id"
	headerWorkloadToken = "X-Amz-Bedrock-Agentcore-Identity-Wat"
	headerOlderToken    = "Workloadaccesstoken" // what came before it; the runtime sends both
	headerCallbackURL   = "Oauth2callbackurl"
)

// request is what a context knows of the call it belongs to.
type request struct {
	id, session string
	headers     http.Header
}

type requestKey struct{}

// RequestID names the call that ctx belongs to, as the runtime's log names it; ""
// outside of a call.
func RequestID(ctx context.Context) string { return requestOf(ctx).id }

// SessionID names the conversation that the call belongs to: the runtime sends
// calls with the same id to the same process. It is "" outside of a call, and where
// the caller gave none.
func SessionID(ctx context.Context) string { return requestOf(ctx).session }

// Headers are those of the call: the ones that the runtime's header allow-list lets
// through, Authorization among them where it is listed. The workload token is not;
// see [WorkloadToken]. The caller may change the copy.
func Headers(ctx context.Context) http.Header { return requestOf(ctx).headers.Clone() }

func requestOf(ctx context.Context) request {
	r, _ := ctx.Value(requestKey{}).(request)
	return r
}

// callContext is the context of a call: who asks, for whom, and where browsers come back to.
func callContext(r *http.Request) context.Context {
	ctx := r.Context()
	of := request{id: r.Header.Get(headerRequest), session: r.Header.Get(headerSession), headers: r.Header.Clone()}
	if of.id == "" {
		of.id = randomID()
	}
	token := r.Header.Get(headerWorkloadToken)
	if token == "" {
		token = r.Header.Get(headerOlderToken)
	}
	of.headers.Del(headerWorkloadToken)
	of.headers.Del(headerOlderToken)
	ctx = context.WithValue(ctx, requestKey{}, of)
	if token != "" {
		ctx = WithWorkloadToken(ctx, token)
	}
	if url := r.Header.Get(headerCallbackURL); url != "" {
		ctx = WithCallbackURL(ctx, url)
	}
	return ctx
}

// randomID is a version 4 UUID, which is what the other SDKs make.
func randomID() string {
	id, _ := uuid.NewUUID(rand.Reader).GetUUID() // random bytes never fail to come
	return id
}
