package seal_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/sigv4"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// kms is a local KMS: Encrypt and Decrypt as AWS's API documents them, over a
// real cipher, with every signature checked by our verifier.
type kms struct {
	*httptest.Server
	keys   map[string]cipher.AEAD // by ARN
	calls  atomic.Int64
	answer func(w http.ResponseWriter, r *http.Request) bool // instead, where it says so
}

const (
	kmsAccessKey = "AKIAKMSOPERATOR00000"
	kmsSecretKey = "canary-kms-secret"
	kmsARN       = "arn:aws:kms:eu-central-1:" + account + ":key/11111111-2222-3333-4444-555555555555"
	otherARN     = "arn:aws:kms:eu-central-1:" + account + ":key/99999999-2222-3333-4444-555555555555"
)

func newKMS(t *testing.T, arns ...string) *kms {
	t.Helper()
	k := &kms{keys: make(map[string]cipher.AEAD)}
	for _, arn := range arns {
		sum := sha256.Sum256([]byte(arn))
		block, err := aes.NewCipher(sum[:])
		if err != nil {
			t.Fatal(err)
		}
		if k.keys[arn], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			t.Fatal(err)
		}
	}
	k.Server = httptest.NewTLSServer(k)
	t.Cleanup(k.Close)
	return k
}

func (k *kms) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.calls.Add(1)
	if k.answer != nil && k.answer(w, r) {
		return
	}
	refuse := func(status int, name string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": "com.amazonaws.kms#" + name, "message": "as AWS words it"})
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		refuse(http.StatusBadRequest, "SerializationException")
		return
	}
	header, err := sigv4.Parse(r)
	if err == nil {
		err = header.CheckScope("eu-central-1", "kms")
	}
	if err == nil {
		err = header.CheckTime(time.Now())
	}
	if err == nil {
		err = header.Verify(r, secret.New(kmsSecretKey), sha256.Sum256(body))
	}
	if err != nil || header.AccessKeyID != kmsAccessKey {
		refuse(http.StatusBadRequest, "InvalidSignatureException")
		return
	}
	var request struct {
		KeyId                     string
		Plaintext, CiphertextBlob []byte
		EncryptionContext         map[string]string
	}
	if r.Header.Get("Content-Type") != "application/x-amz-json-1.1" || json.Unmarshal(body, &request) != nil || len(request.EncryptionContext) != 1 {
		refuse(http.StatusBadRequest, "SerializationException")
		return
	}
	key, found := k.keys[request.KeyId]
	if !found {
		refuse(http.StatusBadRequest, "NotFoundException")
		return
	}
	bound := []byte(request.KeyId + request.EncryptionContext["onbehalf"])
	answer := map[string]any{"KeyId": request.KeyId, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
	switch r.Header.Get("X-Amz-Target") {
	case "TrentService.Encrypt":
		answer["CiphertextBlob"] = key.Seal(nil, nil, request.Plaintext, bound)
	case "TrentService.Decrypt":
		plaintext, err := key.Open(nil, nil, request.CiphertextBlob, bound)
		if err != nil {
			refuse(http.StatusBadRequest, "InvalidCiphertextException")
			return
		}
		answer["Plaintext"] = plaintext
	default:
		refuse(http.StatusBadRequest, "UnknownOperationException")
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// spec is the setting that names one of the server's keys, with the credentials in a file.
func (k *kms) spec(t *testing.T, arn string) string {
	t.Helper()
	folder := t.TempDir()
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.Certificate().Raw})
	profile := "[default]\naws_access_key_id = AKIAWRONG\naws_secret_access_key = wrong\n[platform]\naws_access_key_id = " + kmsAccessKey + "\naws_secret_access_key = " + kmsSecretKey + "\n"
	for name, content := range map[string][]byte{"ca.pem": roots, "credentials": []byte(profile)} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "awskms:" + arn + "@" + k.URL + ",credentials-file=" + filepath.Join(folder, "credentials") + ",profile=platform,ca-file=" + filepath.Join(folder, "ca.pem")
}

func openSpec(t *testing.T, text string) seal.KeyWrapper {
	t.Helper()
	spec, err := seal.ParseWrapper(text)
	if err != nil {
		t.Fatal(err)
	}
	w, err := spec.Open()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAKMSKey(t *testing.T) {
	t.Parallel()
	server := newKMS(t, kmsARN, otherARN)
	key := openSpec(t, server.spec(t, kmsARN))
	db := storetest.Open(t)
	k := newKeeper(t, db, key)
	if err := k.EnsureAccount(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	sealed := mustSeal(t, k, grant, "x")
	restarted := newKeeper(t, db, openSpec(t, server.spec(t, kmsARN)))
	if opened, err := restarted.Open(t.Context(), grant, sealed); err != nil || string(opened) != "x" {
		t.Errorf("after a restart: %q, %v", opened, err)
	}
	if key.ID() != "awskms:"+kmsARN {
		t.Errorf("the key's name is %s", key.ID())
	}
	if _, err := seal.NewKeeper(t.Context(), db, openSpec(t, server.spec(t, otherARN))); !fault.Is(err, fault.Undecryptable) || !strings.Contains(err.Error(), "Put back the key") {
		t.Errorf("with another key: %v", err)
	}
	wrapped, err := key.Wrap(t.Context(), []byte("a data key"), "mine")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Unwrap(t.Context(), wrapped, "yours"); !fault.Is(err, fault.Undecryptable) {
		t.Errorf("unwrapped as somebody else's: %v", err)
	}
	if _, err := openSpec(t, server.spec(t, otherARN)).Unwrap(t.Context(), wrapped, "mine"); !fault.Is(err, fault.Undecryptable) {
		t.Errorf("unwrapped by another key: %v", err)
	}
}

func TestAKMSThatDoesNotDoItsWork(t *testing.T) {
	t.Parallel()
	respond := func(status int, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
			return true
		}
	}
	for name, test := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request) bool
		calls  int64
	}{
		"refuses":   {respond(400, `{"__type":"AccessDeniedException","message":"no"}`), 1},
		"disabled":  {respond(400, `{"__type":"DisabledException"}`), 1},
		"pending":   {respond(400, `{"__type":"KMSInvalidStateException"}`), 1},
		"throttles": {respond(400, `{"__type":"ThrottlingException"}`), 3},
		"fails":     {respond(500, `{}`), 3},
		"other key": {respond(200, `{"KeyId":"`+otherARN+`","CiphertextBlob":"AAAA","Plaintext":"AAAA"}`), 1},
		"no key":    {respond(200, `{"CiphertextBlob":"AAAA"}`), 1},
		"not JSON":  {respond(200, `<html>`), 1},
		"endless":   {respond(200, strings.Repeat("x", 1<<20)), 1},
		"in clear":  {respond(200, `{"KeyId":"`+kmsARN+`","CiphertextBlob":"YSBkYXRhIGtleQ=="}`), 1},
		"hangs up":  {func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, 3},
		"sends abroad": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			return true
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newKMS(t, kmsARN)
			server.answer = test.answer
			_, err := openSpec(t, server.spec(t, kmsARN)).Wrap(t.Context(), []byte("a data key"), "mine")
			if !fault.Is(err, fault.Unavailable) || strings.Contains(err.Error(), "a data key") || strings.Contains(err.Error(), kmsSecretKey) {
				t.Errorf("%v", err)
			}
			if n := server.calls.Load(); n != test.calls {
				t.Errorf("asked %d times, want %d", n, test.calls)
			}
		})
	}
}

func TestAKMSThatIsSlowOnce(t *testing.T) {
	t.Parallel()
	server := newKMS(t, kmsARN)
	server.answer = func(w http.ResponseWriter, _ *http.Request) bool {
		if server.calls.Load() > 1 {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	if _, err := openSpec(t, server.spec(t, kmsARN)).Wrap(t.Context(), []byte("a data key"), "mine"); err != nil {
		t.Error(err)
	}
}

func TestCredentialsOfAKey(t *testing.T) {
	server := newKMS(t, kmsARN)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} { // the platform's clients' own: never used
		t.Setenv(name, kmsSecretKey)
	}
	file := server.spec(t, kmsARN)
	ca := file[strings.Index(file, ",ca-file="):]
	bare := "awskms:" + kmsARN + "@" + server.URL + ca
	wrap := func(text string) error {
		_, err := openSpec(t, text).Wrap(t.Context(), []byte("a data key"), "mine")
		return err
	}
	if err := wrap(bare); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "ONBEHALF_KMS_ACCESS_KEY_ID") {
		t.Errorf("without credentials: %v", err)
	}
	if server.calls.Load() != 0 {
		t.Error("asked without credentials")
	}
	t.Setenv("ONBEHALF_KMS_ACCESS_KEY_ID", kmsAccessKey)
	t.Setenv("ONBEHALF_KMS_SECRET_ACCESS_KEY", kmsSecretKey)
	if err := wrap(bare); err != nil {
		t.Errorf("from the environment: %v", err)
	}
	t.Setenv("ACME_ACCESS_KEY_ID", kmsAccessKey)
	t.Setenv("ACME_SECRET_ACCESS_KEY", "wrong")
	if err := wrap(bare + ",credentials-env=ACME"); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "refused our credentials") {
		t.Errorf("with a wrong secret: %v", err)
	}
	if err := wrap(strings.Replace(file, "profile=platform", "profile=nobody", 1)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("with a profile that is not there: %v", err)
	}
}

func TestKeysAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"file:/etc/onbehalf/key", "file:with,comma=and space", "gone",
		"transit:https://bao.example.com:8200#onbehalf", "transit:http://127.0.0.1:8200#onbehalf,mount=a/b,namespace=team,token-file=/run/token",
		"awskms:" + kmsARN, "awskms:" + kmsARN + "@http://localhost:4566,credentials-env=LOCAL", "awskms:" + strings.Replace(kmsARN, "aws:", "aws-cn:", 1),
	} {
		if _, err := seal.ParseWrapper(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "file:", "/etc/onbehalf/key", "vault:https://x#y", "transit:https://bao.example.com", "transit:http://bao.example.com#k",
		"transit:https://bao.example.com#k,token=hvs.x", "transit:https://bao.example.com#k,token-file=a,token-env=B", "transit:https://bao.example.com#k,mount=,",
		"transit:https://bao.example.com#k,token-env=hvs.secret value", "transit:https://bao.example.com#k,mount=a,mount=b",
		"awskms:alias/x", "awskms:" + kmsARN + "@http://kms.example.com", "awskms:" + kmsARN + ",profile=x", "awskms:arn:aws:kms:eu-central-1:1:key/x",
	} {
		if _, err := seal.ParseWrapper(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestATokenIsReadAnewEachTime(t *testing.T) {
	t.Parallel()
	server := newTransit(t, 'a')
	folder := t.TempDir()
	token, ca := filepath.Join(folder, "token"), filepath.Join(folder, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	key := openSpec(t, "transit:"+server.URL+"#onbehalf,mount=keys/transit,namespace=team,token-file="+token+",ca-file="+ca)
	for content, good := range map[string]bool{"": false, "hvs.expired\n": false, "two\nlines": false, transitToken + "\n": true} {
		if err := os.WriteFile(token, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		wrapped, err := key.Wrap(t.Context(), []byte("a data key"), "mine")
		if good != (err == nil) || bytes.Contains(wrapped, []byte("data key")) || err != nil && strings.Contains(err.Error(), "hvs.") {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func respondDisabled(w http.ResponseWriter, _ *http.Request) bool {
	w.WriteHeader(http.StatusBadRequest)
	_, _ = io.WriteString(w, `{"__type":"DisabledException"}`)
	return true
}
