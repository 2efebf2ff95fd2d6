package auth

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssigner "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

const emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// upgrade is the request that opens a websocket, signed by headers or in its URL.
func (w *world) upgradeRequest(t testing.TB, presign bool, token string, key NewKey, before func(*http.Request)) *http.Request {
	t.Helper()
	target := "http://127.0.0.1:7080/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aus-east-1%3A000000000000%3Aruntime%2Fmy_agent-abcdef0123/ws?qualifier=DEFAULT"
	if presign {
		target += "&X-Amz-Expires=120"
	}
	r := httptest.NewRequest(http.MethodGet, target, nil)
	if before != nil {
		before(r)
	}
	credentials := aws.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret.Reveal(), SessionToken: token}
	if !presign {
		if err := awssigner.NewSigner().SignHTTP(context.Background(), credentials, r, emptySHA256, Service, "us-east-1", w.clock.now()); err != nil {
			t.Fatal(err)
		}
		return r
	}
	signed, _, err := awssigner.NewSigner().PresignHTTP(context.Background(), credentials, r, emptySHA256, Service, "us-east-1", w.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	return httptest.NewRequest(http.MethodGet, signed, nil)
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, presign := range []bool{false, true} {
		r := w.upgradeRequest(t, presign, "", w.root, nil)
		for range 3 { // as AWS's, it is good for its whole life and not once
			if caller, err := w.Upgrade(r); err != nil || caller.KeyID != w.root.ID || !caller.Root {
				t.Errorf("presigned %t: %+v, %v", presign, caller, err)
			}
		}
		for name, change := range map[string]func(*http.Request){
			"a user":      func(r *http.Request) { r.Header.Set("X-Amzn-Bedrock-AgentCore-Runtime-User-Id", "ada") },
			"a custom":    func(r *http.Request) { r.Header.Set("X-Amzn-Bedrock-AgentCore-Runtime-Custom-A", "b") },
			"a body":      func(r *http.Request) { r.ContentLength = 3 },
			"chunks":      func(r *http.Request) { r.ContentLength = -1 },
			"two proofs":  func(r *http.Request) { r.Header.Add("Authorization", "Bearer x") },
			"a parameter": func(r *http.Request) { r.URL.RawQuery += "&a=b" },
			"another agent": func(r *http.Request) {
				r.URL.RawPath = strings.Replace(r.URL.RawPath, "my_agent", "my_other", 1)
				r.URL.Path = strings.Replace(r.URL.Path, "my_agent", "my_other", 1)
			},
		} {
			changed := w.upgradeRequest(t, presign, "", w.root, nil)
			change(changed)
			if caller, err := w.Upgrade(changed); err == nil || caller.Kind != principal.Nobody {
				t.Errorf("presigned %t with %s: %+v, %v", presign, name, caller, err)
			}
		}
	}
	// The Python SDK adds the session's id when the headers are signed; to a URL nobody adds one.
	session := func(r *http.Request) { r.Header.Set("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id", "a") }
	added := w.upgradeRequest(t, false, "", w.root, nil)
	session(added)
	if _, err := w.Upgrade(added); err != nil || added.Header.Get("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id") != "a" {
		t.Errorf("the Python SDK's way: %v", err)
	}
	added = w.upgradeRequest(t, true, "", w.root, nil)
	session(added)
	_, err := w.Upgrade(added)
	wantFault(t, err, fault.BadSignature, "must be a 'SignedHeader'")
}

// A presigned URL is taken at no other door, and not after its time.
func TestPresignedElsewhereAndLater(t *testing.T) {
	t.Parallel()
	w := spooling(t)
	r := w.upgradeRequest(t, true, "", w.root, nil)
	_, _, err := w.Signed(httptest.NewRecorder(), r, 1024)
	wantFault(t, err, fault.BadSignature, "Presigned requests are not accepted here")
	_, _, err = w.Spooled(httptest.NewRecorder(), r, 1024)
	wantFault(t, err, fault.BadSignature, "Presigned requests are not accepted here")
	_, _, _, err = w.SignedQuery(httptest.NewRecorder(), r, 1024)
	wantFault(t, err, fault.BadSignature, "Presigned requests are not accepted here")
	w.clock.add(121 * time.Second)
	_, err = w.Upgrade(r)
	wantFault(t, err, fault.BadSignature, "has expired")
}

// Temporary credentials presign too, and not beyond their own life.
func TestPresignedByARole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.db.Update(t.Context(), func(tx *store.Tx) error { return w.CreateRole(tx, Role{Account: account, Name: "agents"}) }); err != nil {
		t.Fatal(err)
	}
	credentials, err := w.IssueSession(t.Context(), account, "agents", "my_agent", 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	key, token := NewKey{credentials.KeyID, credentials.Secret}, credentials.SessionToken.Reveal()
	caller, err := w.Upgrade(w.upgradeRequest(t, true, token, key, nil))
	if err != nil || caller.ARN != "arn:aws:sts::000000000000:assumed-role/agents/my_agent" {
		t.Fatalf("%+v, %v", caller, err)
	}
	w.clock.add(4 * time.Minute)
	late := w.upgradeRequest(t, true, token, key, nil)
	w.clock.add(90 * time.Second)
	_, err = w.Upgrade(late)
	wantFault(t, err, fault.ExpiredToken, "expired")
}

// A hosted session's credentials are good in its own requests and nowhere else,
// by headers and in URLs, until they expire or the role goes.
func TestCredentialsOfAPlace(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorldOn(t, db)
		change := func(fn func(tx *store.Tx) error) {
			t.Helper()
			if err := w.db.Update(t.Context(), fn); err != nil {
				t.Fatal(err)
			}
		}
		change(func(tx *store.Tx) error { return w.CreateRole(tx, Role{Account: account, Name: "agents"}) })
		credentials, err := w.IssueSessionAt(t.Context(), account, "agents", "my_agent", "session-one", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		from := func(place string, presign bool) error {
			r := w.upgradeRequest(t, presign, credentials.SessionToken.Reveal(), NewKey{credentials.KeyID, credentials.Secret}, nil)
			_, err := w.Upgrade(r.WithContext(principal.WithRequest(r.Context(), principal.Request{Session: place})))
			return err
		}
		for _, presign := range []bool{false, true} {
			if err := from("session-one", presign); err != nil {
				t.Errorf("from its own place: %v", err)
			}
			wantFault(t, from("session-two", presign), fault.UnknownKey, "invalid")
			wantFault(t, from("", presign), fault.UnknownKey, "invalid")
		}
		change(func(tx *store.Tx) error { return w.DeleteRole(tx, account, "agents") })
		wantFault(t, from("session-one", false), fault.UnknownKey, "invalid")
		change(func(tx *store.Tx) error { return w.CreateRole(tx, Role{Account: account, Name: "agents"}) })
		wantFault(t, from("session-one", false), fault.UnknownKey, "invalid") // another role of the same name
	})
}
