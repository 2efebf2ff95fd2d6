package external

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"crypto"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/sigv4"
)

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func TestVault(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var paths []string
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		paths = append(paths, r.URL.EscapedPath())
		mu.Unlock()
		if r.Header.Get("X-Vault-Token") != "canary-token" || r.Header.Get("X-Vault-Namespace") != "team" || r.Method != http.MethodGet {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		switch strings.TrimPrefix(r.URL.Path, "/v1/kv/data/agents/") {
		case "github":
			_, _ = io.WriteString(w, `{"data":{"data":{"clientSecret":"canary-github","list":["x"]},"metadata":{"version":3}}}`)
		case "deleted":
			_, _ = io.WriteString(w, `{"data":{"data":null,"metadata":{"deletion_time":"2026-01-01T00:00:00Z"}}}`)
		case "denied":
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors":["canary permission denied"]}`)
		case "sealed":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "moved":
			http.Redirect(w, r, "http://127.0.0.1:1/v1/kv/data/agents/github", http.StatusTemporaryRedirect)
		case "garbage":
			_, _ = io.WriteString(w, `canary {`)
		case "large":
			_, _ = io.WriteString(w, `{"data":{"data":{"a":"`+strings.Repeat("x", 10<<20)+`"}}}`)
		case "cut":
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"data":`)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"errors":[]}`)
		}
	})
	token := filepath.Join(t.TempDir(), "token")
	write(t, token, "canary-token\n")
	declaration := "name=bao,kind=vault,mount=/kv/,prefix=agents/,namespace=team/,token-file=" + token + ",address=" + address
	s := secretsOf(t, Options{}, declaration)
	if got, err := resolve(t, s, "bao/github", "clientSecret"); got != "canary-github" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	refused(t, s, "bao/github", "list", "not a string")
	refused(t, s, "bao/nobody", "a", "none of that name")
	refused(t, s, "bao/deleted", "a", "none of that name")
	refused(t, s, "bao/denied", "a", "refuses it")
	refused(t, s, "bao/sealed", "a", "source failed")
	refused(t, s, "bao/moved", "clientSecret", "source failed")
	refused(t, s, "bao/garbage", "a", "cannot be understood")
	refused(t, s, "bao/large", "a", "larger than")
	refused(t, s, "bao/cut", "a", "cannot be reached")
	for _, id := range []string{"bao/../../../sys/seal", "bao/..", "bao/a?list=true", "bao/a#b", "bao/a%2f..%2fb", "bao//github"} {
		refused(t, s, id, "a", "must be SOURCE/PATH")
	}
	for id, kind := range map[string]fault.Kind{"bao/denied": fault.Invalid, "bao/sealed": fault.Unavailable, "bao/cut": fault.Unavailable} {
		if _, err := resolve(t, s, id, "a"); !fault.Is(err, kind) {
			t.Errorf("%s: %v", id, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, path := range paths {
		if !strings.HasPrefix(path, "/v1/kv/data/agents/") {
			t.Errorf("%s was asked for", path)
		}
	}
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	refused(t, s, "bao/another", "a", "cannot be reached")
	if _, err := New(declared(t, declaration), Options{}); err == nil || !strings.Contains(err.Error(), "token-file") {
		t.Errorf("without a token: %v", err)
	}
	if _, err := New(declared(t, declaration+",ca-file="+filepath.Join(t.TempDir(), "none")), Options{}); err == nil || !strings.Contains(err.Error(), "ca-file") {
		t.Errorf("without authorities: %v", err)
	}
}

// amazonServer answers who signs well.
func amazonServer(t *testing.T, service string, answer func(operation string, input map[string]any) (int, any)) (endpoint, credentials string) {
	t.Helper()
	endpoint = serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		header, err := sigv4.Parse(r)
		if err == nil {
			err = header.CheckTime(time.Now())
		}
		if err == nil {
			err = header.Verify(r, secret.New("canary-aws"), sha256.Sum256(body))
		}
		if err != nil || header.Service != service || header.Region != "eu-central-1" || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" || header.SessionToken.Reveal() != "canary-session" {
			t.Errorf("a badly signed request: %v", err)
		}
		var input map[string]any
		_ = json.Unmarshal(body, &input)
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		status, output := answer(operation, input)
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(output)
	})
	credentials = filepath.Join(t.TempDir(), "credentials")
	write(t, credentials, "[onbehalf]\naws_access_key_id = AKID\naws_secret_access_key = canary-aws\naws_session_token = canary-session\n")
	return endpoint, credentials
}

func TestSecretsManager(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/agents/"
	type object = map[string]any
	endpoint, credentials := amazonServer(t, "secretsmanager", func(operation string, input map[string]any) (int, any) {
		if operation != "GetSecretValue" || len(input) != 1 {
			t.Errorf("%s %v", operation, input)
		}
		refuse := func(code string) (int, any) {
			return 400, object{"__type": "com.amazonaws.secretsmanager#" + code, "Message": "canary"}
		}
		switch input["SecretId"] {
		case "prod/agents/github", arn + "github-AbCdEf":
			return 200, object{"SecretString": `{"clientSecret":"canary-github"}`}
		case "prod/agents/binary":
			return 200, object{"SecretBinary": []byte("canary-binary")}
		case "prod/agents/denied":
			return refuse("AccessDeniedException")
		case "prod/agents/locked":
			return refuse("DecryptionFailure")
		case "prod/agents/dying":
			return refuse("InvalidRequestException")
		case "prod/agents/busy":
			return refuse("ThrottlingException")
		case "prod/agents/odd":
			return 400, object{"__type": "canary with spaces"}
		}
		return refuse("ResourceNotFoundException")
	})
	s := secretsOf(t, Options{}, "name=aws,kind=secretsmanager,region=eu-central-1,aws-account=123456789012,prefix=prod/agents/,profile=onbehalf,credentials-file="+credentials+",endpoint="+endpoint)
	for _, id := range []string{"aws/github", arn + "github-AbCdEf", arn + "github-AbCdEf"} {
		if got, err := resolve(t, s, id, "clientSecret"); got != "canary-github" || err != nil {
			t.Errorf("%s: got %q, %v", id, got, err)
		}
	}
	if got, err := resolve(t, s, "aws/binary", WholeValue); got != "canary-binary" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	for id, want := range map[string]struct {
		kind fault.Kind
		why  string
	}{
		"aws/nobody": {fault.Invalid, "none of that name"},
		"aws/denied": {fault.Invalid, "refuses it"},
		"aws/locked": {fault.Undecryptable, "cannot decrypt"},
		"aws/dying":  {fault.Invalid, "being deleted"},
		"aws/busy":   {fault.Unavailable, "source failed"},
		"aws/odd":    {fault.Unavailable, "source failed"},
		"arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/other-AbCdEf":      {fault.Invalid, "No source"},
		"arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/agents/github-AbCdEf": {fault.Invalid, "No source"},
		"arn:aws:secretsmanager:eu-central-1:999999999999:secret:prod/agents/github":     {fault.Invalid, "No source"},
		"arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/agents/../x":       {fault.Invalid, "not the ARN"},
	} {
		refused(t, s, id, "clientSecret", want.why)
		if _, err := resolve(t, s, id, "clientSecret"); !fault.Is(err, want.kind) {
			t.Errorf("%s: %v", id, err)
		}
	}
	for id, want := range map[string]string{"aws/github": arn + "github", arn + "github-AbCdEf": arn + "github-AbCdEf", "env/A": "arn:aws:secretsmanager:us-east-1:000000000000:secret:env/A"} {
		if got := s.Show(account, id); got != want {
			t.Errorf("%s is shown as %s", id, got)
		}
	}
}

// Of sources with the same secrets, an ARN always means the one that is nearest.
func TestSourceOfAnARN(t *testing.T) {
	t.Parallel()
	credentials := filepath.Join(t.TempDir(), "credentials")
	write(t, credentials, "[default]\naws_access_key_id = AKID\naws_secret_access_key = canary\n")
	var texts []string
	for name, prefix := range map[string]string{"wide": "prod", "near": "prod/agents/", "other": "prod/agents/", "aside": "test/"} {
		texts = append(texts, "name="+name+",kind=secretsmanager,region=eu-central-1,aws-account=123456789012,credentials-file="+credentials+",prefix="+prefix)
	}
	s := secretsOf(t, Options{}, texts...)
	for range 100 {
		if from, _, err := s.find(account, "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/agents/github-AbCdEf"); err != nil || from.Name != "near" {
			t.Fatalf("got %s, %v", from.Name, err)
		}
	}
}

func pemOf(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func keyARNOf(account string, n int) string {
	return fmt.Sprintf("arn:aws:kms:us-east-1:%s:key/00000000-0000-0000-0000-%012d", account, n)
}

func TestSigningKeys(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	elliptical, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(elliptical)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(folder, name)
		write(t, path, content)
		return path
	}
	wrapped, err := json.Marshal(map[string]string{"pem": pemOf(t, elliptical)})
	if err != nil {
		t.Fatal(err)
	}
	file("key.json", string(wrapped))
	file("wrong.json", `{"pem":"canary"}`)
	kmsARN := "arn:aws:kms:eu-central-1:123456789012:key/11111111-1111-1111-1111-111111111111"
	endpoint, credentials := amazonServer(t, "kms", func(operation string, input map[string]any) (int, any) {
		if input["KeyId"] != kmsARN {
			return 400, map[string]string{"__type": "NotFoundException"}
		}
		if operation == "GetPublicKey" {
			der, _ := x509.MarshalPKIXPublicKey(elliptical.Public())
			return 200, map[string]any{"PublicKey": der}
		}
		var digest []byte
		_ = json.Unmarshal([]byte(`"`+input["Message"].(string)+`"`), &digest)
		if operation != "Sign" || input["MessageType"] != "DIGEST" || input["SigningAlgorithm"] != "ECDSA_SHA_256" {
			t.Errorf("%s %v", operation, input)
		}
		signature, _ := elliptical.Sign(rand.Reader, digest, crypto.SHA256)
		return 200, map[string]any{"Signature": signature}
	})
	parse := func(text string) SigningKey {
		k, err := ParseSigningKey(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return k
	}
	secrets := secretsOf(t, Options{}, "name=file,kind=file,folder="+folder)
	kms := "=awskms:%s@" + endpoint + ",profile=onbehalf,credentials-file=" + credentials
	keys, err := NewKeys([]SigningKey{
		parse(keyARNOf(account, 1) + "=file:" + file("rsa.pem", pemOf(t, rsaKey))),
		parse(keyARNOf(account, 2) + "=file:" + file("sec1.pem", "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"+string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})))),
		parse(keyARNOf(account, 3) + "=secret:file/key.json#pem"),
		parse(keyARNOf(account, 4) + "=secret:file/wrong.json#pem"),
		parse(keyARNOf(account, 5) + fmt.Sprintf(kms, kmsARN)),
		parse(keyARNOf(account, 6) + fmt.Sprintf(kms, strings.Replace(kmsARN, "1111", "2222", 1))),
		parse(keyARNOf(other, 7) + "=file:" + file("other.pem", pemOf(t, elliptical))),
	}, secrets)
	if err != nil {
		t.Fatal(err)
	}
	for n, public := range map[int]interface{ Equal(crypto.PublicKey) bool }{1: &rsaKey.PublicKey, 2: &elliptical.PublicKey, 3: &elliptical.PublicKey, 5: &elliptical.PublicKey} {
		signer, err := keys.Signer(t.Context(), account, keyARNOf(account, n))
		if err != nil || !public.Equal(signer.Public()) {
			t.Fatalf("key %d: %v", n, err)
		}
		digest := sha256.Sum256([]byte("text"))
		signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			t.Fatalf("key %d: %v", n, err)
		}
		if key, elliptic := signer.Public().(*ecdsa.PublicKey); elliptic && !ecdsa.VerifyASN1(key, digest[:], signature) {
			t.Errorf("key %d signs something else", n)
		}
	}
	for _, each := range []struct {
		arn  string
		kind fault.Kind
	}{{keyARNOf(account, 4), fault.Invalid}, {keyARNOf(account, 6), fault.Unavailable}, {keyARNOf(other, 7), fault.Invalid}, {keyARNOf(account, 9), fault.Invalid}, {"", fault.Invalid}} {
		if _, err := keys.Signer(t.Context(), account, each.arn); !fault.Is(err, each.kind) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", each.arn, err)
		}
	}
	if _, err := (*Keys)(nil).Signer(t.Context(), account, keyARNOf(account, 1)); !fault.Is(err, fault.Invalid) {
		t.Errorf("without keys: %v", err)
	}
	for where, why := range map[string]string{
		"=file:" + file("p384.pem", pemOf(t, large)):                                                                        "P-256",
		"=file:" + file("none.pem", "canary"):                                                                               "no private key",
		"=file:" + file("bad.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):                        "cannot be parsed",
		"=file:" + file("locked.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"): "encrypted",
		"=file:" + folder:        "no key file",
		"=file:/not/there.pem":   "no such file",
		"=secret:nobody/key#pem": "No source",
	} {
		if _, err := NewKeys([]SigningKey{parse(keyARNOf(account, 1) + where)}, secrets); err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", where, err)
		}
	}
	for _, text := range []string{"", "arn", keyARNOf(account, 1), keyARNOf(account, 1) + "=file:", keyARNOf(account, 1) + "=secret:a", keyARNOf(account, 1) + "=awskms:alias", keyARNOf(account, 1) + "=awskms:" + kmsARN,
		keyARNOf(account, 1) + "=awskms:" + kmsARN + ",color=red", keyARNOf(account, 1) + "=awskms:" + kmsARN + "@http://kms.example,credentials-file=/c", "arn:aws:kms:us-east-1:1:key/x=file:/a"} {
		if _, err := ParseSigningKey(text); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
}
