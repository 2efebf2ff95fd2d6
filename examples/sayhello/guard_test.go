package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bare is a callback server without a platform behind it.
func bare(t testing.TB, o CallbackOptions) *OAuth2CallbackServer {
	t.Helper()
	s := NewOAuth2CallbackServer("us-east-1", nil, o)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// Whom to wait for is said by this program alone.
func TestStoreIdentifierRules(t *testing.T) {
	t.Parallel()
	s := bare(t, CallbackOptions{})
	good := func() *http.Request {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.CallbackBaseURL()+pathIdentifier, strings.NewReader(`{"userTokenIdentifier":"ada"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		r.Header.Set("Authorization", "Bearer "+s.secret)
		return r
	}
	body := func(text string) func(*http.Request) {
		return func(r *http.Request) {
			fresh, err := http.NewRequest(http.MethodPost, r.URL.String(), strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			r.Body, r.ContentLength = fresh.Body, fresh.ContentLength
		}
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for what, test := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"as the agent does it":       {func(*http.Request) {}, http.StatusNoContent},
		"from its own page":          {header("Origin", s.CallbackBaseURL()), http.StatusNoContent},
		"from a foreign page":        {header("Origin", "https://evil.example"), http.StatusForbidden},
		"from no page to be named":   {header("Origin", "null"), http.StatusForbidden},
		"from a neighbour's port":    {header("Origin", "http://localhost:1"), http.StatusForbidden},
		"to a foreign name":          {func(r *http.Request) { r.Host = "evil.example:" + fmt.Sprint(s.port) }, http.StatusMisdirectedRequest},
		"to another port":            {func(r *http.Request) { r.Host = "localhost:1" }, http.StatusMisdirectedRequest},
		"to no name":                 {func(r *http.Request) { r.Host = "localhost" }, http.StatusMisdirectedRequest},
		"without the secret":         {func(r *http.Request) { r.Header.Del("Authorization") }, http.StatusUnauthorized},
		"with another secret":        {header("Authorization", "Bearer "+strings.ToLower(s.secret)), http.StatusUnauthorized},
		"with the secret, unadorned": {header("Authorization", s.secret), http.StatusUnauthorized},
		"as a form":                  {header("Content-Type", "application/x-www-form-urlencoded"), http.StatusUnsupportedMediaType},
		"as text":                    {header("Content-Type", "text/plain"), http.StatusUnsupportedMediaType},
		"as nothing":                 {header("Content-Type", ""), http.StatusUnsupportedMediaType},
		"not JSON":                   {body("ada"), http.StatusBadRequest},
		"two":                        {body(`{"userTokenIdentifier":"ada"} {}`), http.StatusBadRequest},
		"nobody":                     {body(`{"userTokenIdentifier":""}`), http.StatusBadRequest},
		"too much":                   {body(`{"userTokenIdentifier":"` + strings.Repeat("a", maxCallbackBody) + `"}`), http.StatusRequestEntityTooLarge},
		"by another method":          {func(r *http.Request) { r.Method = http.MethodPut }, http.StatusMethodNotAllowed},
	} {
		s.mu.Lock()
		s.identifier = ""
		s.mu.Unlock()
		r := good()
		test.change(r)
		_, response := send(t, http.DefaultClient, r)
		if response.StatusCode != test.status {
			t.Errorf("%s: status %d instead of %d", what, response.StatusCode, test.status)
		}
		s.mu.Lock()
		stored := s.identifier
		s.mu.Unlock()
		if (stored == "ada") != (test.status == http.StatusNoContent) {
			t.Errorf("%s: stored %q", what, stored)
		}
	}
}

// From another machine it is said over TLS or not at all.
func TestStoreIdentifierFromElsewhere(t *testing.T) {
	t.Parallel()
	s := bare(t, CallbackOptions{})
	for _, secured := range []bool{false, true} {
		r := httptest.NewRequest(http.MethodPost, s.CallbackBaseURL()+pathIdentifier, strings.NewReader(`{"userTokenIdentifier":"ada"}`))
		r.RemoteAddr = "192.0.2.1:4711"
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+s.secret)
		if secured {
			r.TLS = &tls.ConnectionState{}
		}
		w := httptest.NewRecorder()
		s.routes().ServeHTTP(w, r)
		if want := map[bool]int{false: http.StatusForbidden, true: http.StatusNoContent}[secured]; w.Code != want {
			t.Errorf("over TLS %t: %d", secured, w.Code)
		}
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	s := bare(t, CallbackOptions{})
	page, response := look(t, http.DefaultClient, s.CallbackBaseURL()+pathPing)
	if response.StatusCode != http.StatusOK || page != `{"status":"ok"}` {
		t.Errorf("ping: %d %s", response.StatusCode, page)
	}
	page, response = look(t, http.DefaultClient, s.CallbackURL()+"?session_id=x")
	for name, want := range map[string]string{
		"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store",
		"Content-Security-Policy": "default-src 'none'", "Content-Type": "text/html; charset=utf-8",
	} {
		if got := response.Header.Get(name); !strings.Contains(got, want) {
			t.Errorf("%s is %q", name, got)
		}
	}
	if strings.Contains(page, "<script") || !strings.Contains(page, `name="viewport"`) || !strings.Contains(page, `lang="en"`) {
		t.Error("the page is not as pages are")
	}
	for _, host := range []string{"localhost", "127.0.0.1"} {
		if _, response := look(t, http.DefaultClient, fmt.Sprintf("http://%s:%d%s", host, s.port, pathPing)); response.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", host, response.StatusCode)
		}
	}
	for _, method := range []string{http.MethodHead, http.MethodPost, http.MethodDelete} {
		r, err := http.NewRequestWithContext(t.Context(), method, s.CallbackURL(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, response := send(t, http.DefaultClient, r); response.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, response.StatusCode)
		}
	}
	if _, response := look(t, http.DefaultClient, s.CallbackBaseURL()+"/elsewhere"); response.StatusCode != http.StatusNotFound {
		t.Errorf("elsewhere: %d", response.StatusCode)
	}
	if page, response := look(t, http.DefaultClient, s.SignInLink()); response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(page, "Nobody can sign in yet") {
		t.Errorf("a sign-in before there is one: %d %s", response.StatusCode, page)
	}
}

func TestGuardLimits(t *testing.T) {
	t.Parallel()
	s := bare(t, CallbackOptions{})
	limited := 0
	for range 3 * requestsAtOnce {
		if _, response := look(t, http.DefaultClient, s.CallbackBaseURL()+pathPing); response.StatusCode == http.StatusTooManyRequests {
			limited++
			if response.Header.Get("Retry-After") == "" {
				t.Error("it does not say when to come back")
			}
		}
	}
	if limited == 0 {
		t.Error("nothing was limited")
	}

	closed := bare(t, CallbackOptions{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	if _, response := look(t, http.DefaultClient, closed.CallbackBaseURL()+pathPing); response.StatusCode != http.StatusForbidden {
		t.Errorf("an address off the list: %d", response.StatusCode)
	}
	open := bare(t, CallbackOptions{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}})
	if _, response := look(t, http.DefaultClient, open.CallbackBaseURL()+pathPing); response.StatusCode != http.StatusOK {
		t.Errorf("an address on the list: %d", response.StatusCode)
	}
}

// A taken port is named, with the flag that changes it, whichever of the two
// loopback addresses somebody else has.
func TestStartOnATakenPort(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		taken, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("no %s here", address)
			continue
		}
		defer taken.Close()
		port := taken.Addr().(*net.TCPAddr).Port
		s := NewOAuth2CallbackServer("us-east-1", nil, CallbackOptions{Port: port})
		wants[*ConfigurationError](t, s.Start(t.Context()), fmt.Sprintf("port %d is taken", port), "--callback-port")
		s.Stop()
	}
}

// A browser's spare connections do not hold up the end.
func TestStopIsQuick(t *testing.T) {
	t.Parallel()
	s := bare(t, CallbackOptions{})
	for range 3 {
		spare, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
		if err != nil {
			t.Fatal(err)
		}
		defer spare.Close()
	}
	look(t, http.DefaultClient, s.CallbackBaseURL()+pathPing) // the server has seen the others by now
	started := time.Now()
	s.Stop()
	if took := time.Since(started); took >= graceOfStop { // which is what they cost where they do
		t.Errorf("it took %s", took)
	}
	s.Stop() // again is fine
}

func TestTLS(t *testing.T) {
	t.Parallel()
	certificate, key, pool := selfSigned(t)
	s := bare(t, CallbackOptions{Certificate: certificate, Key: key})
	if !strings.HasPrefix(s.CallbackURL(), "https://localhost:") {
		t.Errorf("browsers come back to %s", s.CallbackURL())
	}
	browser := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	if _, response := look(t, browser, s.CallbackBaseURL()+pathPing); response.StatusCode != http.StatusOK {
		t.Errorf("status %d", response.StatusCode)
	}
	if cookie := s.cookie("x", "y"); !cookie.Secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode {
		t.Errorf("the cookie is %+v", cookie)
	}
	if err := StoreTokenInCallbackServer(t.Context(), s.Client(), "ada"); err != nil || s.identifier != "ada" {
		t.Errorf("the agent cannot reach it: %v", err)
	}
	// Another server with that name, however well certified, is not told the secret.
	other, otherKey, _ := selfSigned(t)
	impostor := bare(t, CallbackOptions{Certificate: other, Key: otherKey})
	client := s.Client()
	client.BaseURL = impostor.CallbackBaseURL()
	wants[*IdentityError](t, StoreTokenInCallbackServer(t.Context(), client, "ada"), "does not answer", "--callback-port")

	broken := NewOAuth2CallbackServer("us-east-1", nil, CallbackOptions{Certificate: certificate, Key: otherKey})
	wants[*ConfigurationError](t, broken.Start(t.Context()), "certificate cannot be used", "--callback-tls-key")
}

// Where others may reach it by name, it listens to others, and only then.
func TestListensToOthersOnlyWithTLSAndAName(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		base            string
		tls, everywhere bool
	}{
		{"", false, false}, {"", true, false}, {"https://127.0.0.1:1", true, false}, {"https://agent.example.com", false, false}, {"https://agent.example.com", true, true},
	} {
		s := NewOAuth2CallbackServer("us-east-1", nil, CallbackOptions{BaseURL: test.base})
		if test.tls {
			s.certified = &tls.Certificate{}
		}
		listeners, err := s.listen()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range listeners {
			if loopback := l.Addr().(*net.TCPAddr).IP.IsLoopback(); loopback == test.everywhere {
				t.Errorf("%+v: it listens on %s", test, l.Addr())
			}
			_ = l.Close()
		}
	}
}

// selfSigned is a certificate for localhost in two files, and a pool that trusts it.
func selfSigned(t testing.TB) (certificate, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	certificate, key = filepath.Join(folder, "certificate.pem"), filepath.Join(folder, "key.pem")
	pool = x509.NewCertPool()
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool.AppendCertsFromPEM(block)
	for path, content := range map[string][]byte{certificate: block, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key, pool
}
