package seal_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// transitServer is the transit engine's two calls, as its API documents them,
// over a real cipher.
type transitServer struct {
	*httptest.Server
	aead   cipher.AEAD
	answer http.HandlerFunc // instead, where set
}

const transitToken = "hvs.canary-token"

func newTransit(t *testing.T, key byte) *transitServer {
	t.Helper()
	block, err := aes.NewCipher([]byte(strings.Repeat(string(rune(key)), 32)))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	s := &transitServer{aead: aead}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *transitServer) serve(w http.ResponseWriter, r *http.Request) {
	if s.answer != nil {
		s.answer(w, r)
		return
	}
	refuse := func(status int, message string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string][]string{"errors": {message}})
	}
	if r.Header.Get("X-Vault-Token") != transitToken || r.Header.Get("X-Vault-Request") != "true" || r.Header.Get("X-Vault-Namespace") != "team" {
		refuse(http.StatusForbidden, "permission denied")
		return
	}
	var body map[string]string
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		refuse(http.StatusBadRequest, "error parsing JSON")
		return
	}
	decode := func(text string) []byte {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			refuse(http.StatusBadRequest, "failed to base64-decode")
		}
		return raw
	}
	data := make(map[string]string)
	switch r.Method + " " + r.URL.Path {
	case "POST /v1/keys/transit/encrypt/onbehalf":
		sealed := s.aead.Seal(nil, nil, decode(body["plaintext"]), decode(body["associated_data"]))
		data["ciphertext"] = "vault:v1:" + base64.StdEncoding.EncodeToString(sealed)
	case "POST /v1/keys/transit/decrypt/onbehalf":
		plaintext, err := s.aead.Open(nil, nil, decode(strings.TrimPrefix(body["ciphertext"], "vault:v1:")), decode(body["associated_data"]))
		if err != nil {
			refuse(http.StatusBadRequest, "cipher: message authentication failed")
			return
		}
		data["plaintext"] = base64.StdEncoding.EncodeToString(plaintext)
	default:
		refuse(http.StatusNotFound, "no handler for route")
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"request_id": "r", "data": data})
}

func (s *transitServer) options() seal.TransitOptions {
	return seal.TransitOptions{
		Address: s.URL, Mount: "keys/transit", Key: "onbehalf", Namespace: "team",
		Token:  func() (secret.Text, error) { return secret.New(transitToken), nil },
		Client: s.Client(),
	}
}

func (s *transitServer) wrapper(t *testing.T) seal.KeyWrapper {
	t.Helper()
	w, err := seal.OpenTransitKey(s.options())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestATransitKey(t *testing.T) {
	t.Parallel()
	server := newTransit(t, 'a')
	db := storetest.Open(t)
	k := newKeeper(t, db, server.wrapper(t))
	if err := k.EnsureAccount(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	sealed := mustSeal(t, k, grant, "x")
	restarted := newKeeper(t, db, server.wrapper(t))
	if opened, err := restarted.Open(t.Context(), grant, sealed); err != nil || string(opened) != "x" {
		t.Errorf("after a restart: %q, %v", opened, err)
	}
	if id := server.wrapper(t).ID(); id != "transit:team/keys/transit/onbehalf" {
		t.Errorf("the key's name is %s", id)
	}
	wrapped, err := server.wrapper(t).Wrap(t.Context(), []byte("a data key"), "mine")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.wrapper(t).Unwrap(t.Context(), wrapped, "yours"); !fault.Is(err, fault.Undecryptable) {
		t.Errorf("unwrapped as somebody else's: %v", err)
	}
}

func TestADatabaseOfAnotherKey(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	server := newTransit(t, 'a')
	newKeeper(t, db, server.wrapper(t))
	if _, err := seal.NewKeeper(t.Context(), db, newTransit(t, 'b').wrapper(t)); !fault.Is(err, fault.Undecryptable) {
		t.Errorf("another server's key of the same name: %v", err)
	}
	_, file := newFileKey(t)
	if _, err := seal.NewKeeper(t.Context(), db, file); !fault.Is(err, fault.Undecryptable) {
		t.Errorf("a key file: %v", err)
	}
}

func TestATransitServerInTrouble(t *testing.T) {
	t.Parallel()
	respond := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, answer := range map[string]http.HandlerFunc{
		"sealed":     respond(http.StatusServiceUnavailable, `{"errors":["Vault is sealed"]}`),
		"forbidden":  respond(http.StatusForbidden, `{"errors":["permission denied"]}`),
		"wrong path": respond(http.StatusNotFound, `{"errors":["no handler for route"]}`),
		"not JSON":   respond(http.StatusOK, `<html>`),
		"empty":      respond(http.StatusOK, `{}`),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				t.Error("a redirect was followed")
			}
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"endless": respond(http.StatusOK, strings.Repeat("x", 1<<20)),
		"hung up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := storetest.OpenWith(t, store.Options{Path: storetest.SQLite(t)})
			server := newTransit(t, 'a')
			newKeeper(t, db, server.wrapper(t))
			server.answer = answer
			_, err := seal.NewKeeper(t.Context(), db, server.wrapper(t))
			if err == nil || strings.Contains(err.Error(), transitToken) {
				t.Errorf("NewKeeper: %v", err)
			}
			if _, err := server.wrapper(t).Wrap(t.Context(), []byte("a data key"), "mine"); !fault.Is(err, fault.Unavailable) {
				t.Errorf("Wrap: %v", err)
			}
			if n := generations(t, db, account, seal.Vault); n != 0 {
				t.Errorf("%d keys were stored unwrapped", n)
			}
		})
	}
}

func TestTransitOptions(t *testing.T) {
	t.Parallel()
	server := newTransit(t, 'a')
	for name, change := range map[string]func(*seal.TransitOptions){
		"clear text":      func(o *seal.TransitOptions) { o.Address = "http://bao.example.com:8200" },
		"no host":         func(o *seal.TransitOptions) { o.Address = "https://" },
		"user in the URL": func(o *seal.TransitOptions) { o.Address = "https://user:pw@bao.example.com" },
		"no key":          func(o *seal.TransitOptions) { o.Key = "" },
		"a path as key":   func(o *seal.TransitOptions) { o.Key = "../../sys/seal" },
		"dots":            func(o *seal.TransitOptions) { o.Mount = "a/../b" },
		"a query":         func(o *seal.TransitOptions) { o.Key = "key?x=y" },
	} {
		o := server.options()
		change(&o)
		if _, err := seal.OpenTransitKey(o); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, address := range []string{"http://127.0.0.1:8200", "http://localhost:8200/", "http://[::1]:8200", "https://bao.example.com/"} {
		o := server.options()
		o.Address = address
		if _, err := seal.OpenTransitKey(o); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}
