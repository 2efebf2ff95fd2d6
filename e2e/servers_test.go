package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// foreign is an OpenID provider that others wrote, as a process of its own.
type foreign struct {
	name      string
	discovery string
	allow     string            // HOST:PORT
	fields    map[string]string // what a person types into its forms, by the field's name
	userinfo  string            // where an access token says whose it is
}

// startForeign runs a provider's program until the test ends, and waits until it describes itself.
func startForeign(t *testing.T, f foreign, wait time.Duration, command *exec.Cmd) foreign {
	t.Helper()
	output := &logs{}
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = groupOfItsOwn()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		_ = command.Wait()
		if t.Failed() {
			t.Logf("output of %s:\n%s", f.name, tail(output.String(), 4000))
		}
	})
	for deadline := time.Now().Add(wait); ; time.Sleep(50 * time.Millisecond) {
		response, err := http.Get(f.discovery)
		if err == nil {
			var metadata struct {
				Userinfo string `json:"userinfo_endpoint"`
			}
			err = json.NewDecoder(response.Body).Decode(&metadata)
			_ = response.Body.Close()
			if err == nil && response.StatusCode == http.StatusOK {
				f.userinfo = metadata.Userinfo
				return f
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not describe itself: %v\n%s", f.name, err, tail(output.String(), 4000))
		}
	}
}

func tail(text string, length int) string { return text[max(0, len(text)-length):] }

// startOIDCProvider is npm's oidc-provider.
func startOIDCProvider(t *testing.T, wants ...string) foreign {
	t.Helper()
	node, err := exec.LookPath("node")
	need(t, "npm's oidc-provider", err == nil && exists(filepath.Join("clients", "node_modules", "oidc-provider")))
	port := freePort(t)
	f := foreign{
		name: "oidc-provider", discovery: "http://127.0.0.1:" + port + "/.well-known/openid-configuration", allow: "127.0.0.1:" + port,
		fields: map[string]string{"login": "ada", "password": "any"},
	}
	command := exec.Command(node, append([]string{"openid_provider.mjs", port}, wants...)...)
	command.Dir = "clients"
	return startForeign(t, f, time.Minute, command)
}

// declareSigningKey makes the key of a client that signs: what its provider is
// given of it, and the platform's flags.
func declareSigningKey(t *testing.T) (public jose.JSONWebKeySet, flags []string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "client.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), Algorithm: "ES256", Use: "sig"}}}, []string{"--signing-key", signingKeyARN + "=file:" + file}
}

// zitadel is the provider that the makers of Zitadel wrote beside their OpenID
// library in Go, before it is started. Its clients are fixed, but for where they
// are sent back to.
func zitadel(t *testing.T) foreign {
	t.Helper()
	need(t, "Zitadel's OpenID provider", exists(filepath.Join("clients", ".servers", "zitadel")))
	port := freePort(t)
	return foreign{
		name: "Zitadel", discovery: "http://localhost:" + port + "/.well-known/openid-configuration", allow: "localhost:" + port,
		fields: map[string]string{"username": "test-user@localhost", "password": "verysecure"},
	}
}

func (f foreign) startZitadel(t *testing.T, redirectURIs ...string) foreign {
	t.Helper()
	_, port, _ := strings.Cut(f.allow, ":")
	command := exec.Command(filepath.Join("clients", ".servers", "zitadel"))
	command.Env = append(os.Environ(), "PORT="+port, "REDIRECT_URI="+strings.Join(redirectURIs, ","))
	return startForeign(t, f, time.Minute, command)
}

// keycloak is Keycloak before it is started.
func keycloak(t *testing.T) foreign {
	t.Helper()
	_, err := exec.LookPath("java")
	need(t, "Keycloak", err == nil && exists(filepath.Join("clients", ".servers", "keycloak")))
	port := freePort(t)
	return foreign{
		name: "Keycloak", discovery: "http://127.0.0.1:" + port + "/realms/onbehalf/.well-known/openid-configuration", allow: "127.0.0.1:" + port,
		fields: map[string]string{"username": "ada", "password": "verysecure"},
	}
}

// startKeycloak starts it with a realm that it is given over its own API, in memory.
func (f foreign) startKeycloak(t *testing.T, realm map[string]any) foreign {
	t.Helper()
	at := "http://" + f.allow
	host, port, _ := strings.Cut(f.allow, ":")
	command := exec.Command(filepath.Join("clients", ".servers", "keycloak", "bin", "kc.sh"), "start-dev", "--db=dev-mem", "--http-host="+host, "--http-port="+port)
	command.Env = append(os.Environ(), "KC_BOOTSTRAP_ADMIN_USERNAME=admin", "KC_BOOTSTRAP_ADMIN_PASSWORD=admin", "JAVA_OPTS_APPEND=-Xmx512m")
	whole := f.discovery
	f.discovery = at + "/realms/master/.well-known/openid-configuration"
	f = startForeign(t, f, 5*time.Minute, command)
	admin := f.post(t, at+"/realms/master/protocol/openid-connect/token", "", "", url.Values{
		"grant_type": {"password"}, "client_id": {"admin-cli"}, "username": {"admin"}, "password": {"admin"},
	})
	body, err := json.Marshal(realm)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at+"/admin/realms", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+admin["access_token"].(string))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if answer, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusCreated {
		t.Fatalf("Keycloak makes no realm: %s", answer)
	}
	f.discovery, f.userinfo = whole, at+"/realms/onbehalf/protocol/openid-connect/userinfo"
	return f
}

// post sends a form to a provider, as a client where one is named, and reads its answer.
func (f foreign) post(t *testing.T, endpoint, client, secret string, form url.Values) map[string]any {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if client != "" {
		request.SetBasicAuth(client, secret)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s answers %d: %v %v", f.name, response.StatusCode, answer, err)
	}
	return answer
}

var (
	aForm   = regexp.MustCompile(`(?s)<form\b([^>]*)>(.*?)</form>`)
	anInput = regexp.MustCompile(`(?s)<(?:input|button)\b([^>]*)>`)
	anAttr  = regexp.MustCompile(`([a-zA-Z-]+)\s*=\s*"([^"]*)"`)
)

// attributes of a tag, unescaped.
func attributes(tag string) map[string]string {
	found := map[string]string{}
	for _, pair := range anAttr.FindAllStringSubmatch(tag, -1) {
		found[strings.ToLower(pair[1])] = html.UnescapeString(pair[2])
	}
	return found
}

// walkThrough is a person with a fresh browser who opens a link and fills in
// whatever form comes, until the provider sends them to the application.
func (f foreign) walkThrough(ctx context.Context, link string) (arrival string, err error) {
	jar, _ := cookiejar.New(nil) // never fails without options
	browser := &http.Client{Jar: jar, Timeout: 30 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), returnURL) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return "", err
	}
	for range 10 {
		response, err := browser.Do(request)
		if err != nil {
			return "", err
		}
		page, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		_ = response.Body.Close()
		if err != nil {
			return "", err
		}
		if location := response.Header.Get("Location"); strings.HasPrefix(location, returnURL) {
			return location, nil
		}
		form := aForm.FindStringSubmatch(string(page))
		if form == nil {
			return "", fmt.Errorf("%s shows a page without a form, status %d: %.2000s", f.name, response.StatusCode, page)
		}
		target, err := response.Request.URL.Parse(attributes(form[1])["action"])
		if err != nil {
			return "", err
		}
		values := url.Values{}
		for _, tag := range anInput.FindAllStringSubmatch(form[2], -1) {
			input := attributes(tag[1])
			if input["name"] == "" || input["name"] == "cancel" {
				continue
			}
			value := input["value"]
			if typed, known := f.fields[input["name"]]; known {
				value = typed
			}
			values.Set(input["name"], value)
		}
		if request, err = http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(values.Encode())); err != nil {
			return "", err
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return "", errors.New("more than ten pages")
}

// whose asks the provider's userinfo endpoint for the subject of an access token.
func (f foreign) whose(t *testing.T, access string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.userinfo, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+access)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var claims struct{ Sub string }
	if err := json.NewDecoder(response.Body).Decode(&claims); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("userinfo of %s: status %d, %v", f.name, response.StatusCode, err)
	}
	return claims.Sub
}

// register registers a client at a provider that allows that to everybody (RFC 7591).
func (f foreign) register(t *testing.T, endpoint string, client map[string]any) (id, secret string) {
	t.Helper()
	body, err := json.Marshal(client)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(endpoint, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(response.Body)
	var made struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	if err := json.Unmarshal(answer, &made); err != nil || made.ID == "" {
		t.Fatalf("%s registers no client: %s", f.name, answer)
	}
	return made.ID, made.Secret
}
