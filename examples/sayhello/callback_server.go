package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/smithy-go"
	"golang.org/x/time/rate"
)

// The paths of the callback server.
const (
	pathPing       = "/ping"
	pathIdentifier = "/userIdentifier/token"
	pathCallback   = "/oauth2/callback"
	pathSignIn     = "/oauth2/signin"
)

// CallbackOptions are the callback server's settings; the zero value listens on localhost:9090.
type CallbackOptions struct {
	Port              int
	BaseURL           string // where browsers reach it; empty asks CallbackBaseURL
	CertFile          string
	KeyFile           string
	Allow             []netip.Prefix // empty allows everyone who can connect
	WithoutSignIn     bool           // complete for UseToken's owner, whoever the browser belongs to: USER_TOKEN on loopback
	ExactToken        bool           // the backend compares tokens, not people: AWS wants the very token the session was opened with
	RequestsPerMoment rate.Limit     // requests a second over all clients; 0 is 20
}

// OAuth2CallbackServer is where a consent ends: the browser comes back here, the
// server finds out who sits at it, and completes the session for that person
// and nobody else.
type OAuth2CallbackServer struct {
	region   string
	identity *bedrockagentcore.Client
	options  CallbackOptions
	baseURL  string
	secret   string
	limiter  *rate.Limiter
	server   *http.Server

	mu         sync.Mutex
	signIn     *SignIn
	token      string                     // the user token that the agent's sessions are opened with
	identifier string                     // the user token identifier that is waited for
	sessions   map[string]*expectation    // by session URI
	pending    map[string]*pendingSignIn  // by state
	browsers   map[string]*signedInPerson // by cookie value
	arrived    chan *signedInPerson       // sign-ins that were asked for without a consent
}

// expectation is a session that the agent showed a link for.
type expectation struct {
	customState string
	state       string // "waiting", "completing" or "done"
	outcome     chan error
}

// NewOAuth2CallbackServer makes a server that completes sessions with the given identity client.
func NewOAuth2CallbackServer(region string, identity *bedrockagentcore.Client, options CallbackOptions) (*OAuth2CallbackServer, error) {
	if options.Port == 0 {
		options.Port = defaultCallbackPort
	}
	if options.RequestsPerMoment == 0 {
		options.RequestsPerMoment = 20
	}
	base := options.BaseURL
	if base == "" {
		var err error
		if base, err = CallbackBaseURL(context.Background(), options.Port, options.CertFile != ""); err != nil {
			return nil, err
		}
	}
	return &OAuth2CallbackServer{
		region: region, identity: identity, options: options, baseURL: base,
		secret:   rand.Text(),
		limiter:  rate.NewLimiter(options.RequestsPerMoment, 40),
		sessions: map[string]*expectation{},
		pending:  map[string]*pendingSignIn{},
		browsers: map[string]*signedInPerson{},
		arrived:  make(chan *signedInPerson, 1),
	}, nil
}

// UseSignIn tells the server at which provider browsers sign in.
func (s *OAuth2CallbackServer) UseSignIn(signIn *SignIn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signIn = signIn
}

// UseToken tells the server which user token the agent opens its sessions with.
func (s *OAuth2CallbackServer) UseToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
}

// CallbackURL is the return URL of consents.
func (s *OAuth2CallbackServer) CallbackURL() string { return s.baseURL + pathCallback }

// SignInURL starts a sign-in without a consent; it is also the redirect URI to register at the inbound provider.
func (s *OAuth2CallbackServer) SignInURL() string { return s.baseURL + pathSignIn }

// Start listens and serves until Stop.
func (s *OAuth2CallbackServer) Start() error {
	host := "127.0.0.1"
	if s.options.CertFile != "" {
		host = "" // with TLS it may be reached from elsewhere
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(s.options.Port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return &ConfigurationError{Problem{What: fmt.Sprintf("port %d is taken", s.options.Port), Hint: "Another program, perhaps another sayhello, listens there: choose another with --callback-port, and set CALLBACK_URL accordingly."}}
	} else if err != nil {
		return &ConfigurationError{Problem{What: fmt.Sprintf("the callback server cannot listen on port %d", s.options.Port), Cause: err, Hint: "Choose another port with --callback-port."}}
	}
	s.server = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      60 * time.Second, // a completion calls the platform, which calls the provider
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    32 << 10,
	}
	go func() {
		if s.options.CertFile != "" {
			_ = s.server.ServeTLS(listener, s.options.CertFile, s.options.KeyFile)
		} else {
			_ = s.server.Serve(listener)
		}
	}()
	return nil
}

// Stop finishes what is in flight, for at most five seconds.
func (s *OAuth2CallbackServer) Stop() {
	if s.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close()
	}
}

func (s *OAuth2CallbackServer) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathPing, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"status":"ok"}`))
	})
	mux.HandleFunc("POST "+pathIdentifier, s.storeIdentifier)
	mux.HandleFunc("GET "+pathCallback, s.callback)
	mux.HandleFunc("GET "+pathSignIn, s.signInStep)
	return s.guard(mux)
}

// guard refuses what has no business here before any handler sees it.
func (s *OAuth2CallbackServer) guard(next http.Handler) http.Handler {
	own, _ := url.Parse(s.baseURL)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Cache-Control", "no-store")
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		switch {
		case err != nil || !s.allowed(peer.Addr().Unmap()):
			http.Error(w, "this address may not use the callback server", http.StatusForbidden)
		case !s.limiter.Allow():
			header.Set("Retry-After", "1")
			http.Error(w, "too many requests", http.StatusTooManyRequests)
		case !ownHost(r.Host, own):
			http.Error(w, "this is not the host you are looking for", http.StatusMisdirectedRequest)
		default:
			r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
			next.ServeHTTP(w, r)
		}
	})
}

func (s *OAuth2CallbackServer) allowed(address netip.Addr) bool {
	for _, prefix := range s.options.Allow {
		if prefix.Contains(address) {
			return true
		}
	}
	return len(s.options.Allow) == 0
}

// ownHost keeps pages of other origins from reaching a server on loopback by a name of theirs.
func ownHost(host string, own *url.URL) bool {
	if host == own.Host {
		return true
	}
	name, port, err := net.SplitHostPort(host)
	return err == nil && (name == "localhost" || name == "127.0.0.1" || name == "::1") && (own.Port() == port || isLoopbackProxy(own))
}

// isLoopbackProxy is a notebook's proxy, which calls us as localhost whatever the browser called it.
func isLoopbackProxy(own *url.URL) bool { return strings.Contains(own.Path, "/proxy/") }

// storeIdentifier is POST /userIdentifier/token {"userTokenIdentifier": "…"}.
func (s *OAuth2CallbackServer) storeIdentifier(w http.ResponseWriter, r *http.Request) {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	given := []byte(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	switch {
	case r.TLS == nil && !peer.Addr().Unmap().IsLoopback():
		http.Error(w, "only from this machine, or over TLS", http.StatusForbidden)
		return
	case r.Header.Get("Origin") != "" && r.Header.Get("Origin") != originOf(s.baseURL):
		http.Error(w, "not from another page", http.StatusForbidden)
		return
	case subtle.ConstantTimeCompare(given, []byte(s.secret)) != 1:
		http.Error(w, "the secret of this run is missing", http.StatusUnauthorized)
		return
	case strings.TrimSpace(strings.Split(r.Header.Get("Content-Type"), ";")[0]) != "application/json":
		http.Error(w, "JSON only", http.StatusUnsupportedMediaType)
		return
	}
	var body struct {
		Identifier string `json:"userTokenIdentifier"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Identifier == "" {
		http.Error(w, `expected {"userTokenIdentifier": "…"}`, http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.identifier = body.Identifier
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func originOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// CallbackClient reaches the callback server of this run.
type CallbackClient struct {
	BaseURL string
	secret  string
	HTTP    *http.Client
}

// Client is for the agent's side of this process.
func (s *OAuth2CallbackServer) Client() *CallbackClient {
	scheme := "http"
	if s.options.CertFile != "" {
		scheme = "https"
	}
	return &CallbackClient{BaseURL: fmt.Sprintf("%s://localhost:%d", scheme, s.options.Port), secret: s.secret, HTTP: &http.Client{Timeout: 10 * time.Second}}
}

// StoreTokenInCallbackServer tells the callback server whom to wait for.
func StoreTokenInCallbackServer(ctx context.Context, client *CallbackClient, userTokenIdentifier string) error {
	body, err := json.Marshal(map[string]string{"userTokenIdentifier": userTokenIdentifier})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, client.BaseURL+pathIdentifier, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+client.secret)
	response, err := client.HTTP.Do(request)
	if err != nil {
		return &IdentityError{Problem{What: "the callback server does not answer", Cause: err, Hint: hintCallback}}
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		return &IdentityError{Problem{What: "the callback server refused the user token identifier: " + response.Status, Hint: hintNoIdentifier}}
	}
	return nil
}

// Expect registers a session whose link the agent is about to show; a session
// that nobody registered is not completed here. customState is what the agent
// sent along, where it asked for the token itself. The channel yields the outcome.
func (s *OAuth2CallbackServer) Expect(sessionURI, customState string) <-chan error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.sessions[sessionURI]; ok && known.state != "done" {
		return known.outcome
	}
	e := &expectation{customState: customState, state: "waiting", outcome: make(chan error, 1)}
	s.sessions[sessionURI] = e
	return e.outcome
}

// callback is where the platform sends the browser: ?session_id=… and, where it
// was sent along, state; or an error when the person or the provider said no.
func (s *OAuth2CallbackServer) callback(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	session := query.Get("session_id")
	s.mu.Lock()
	expected, known := s.sessions[session]
	identifier := s.identifier
	s.mu.Unlock()
	switch {
	case !known:
		s.page(w, http.StatusBadRequest, page{Title: "This link is not known here", Text: "It belongs to another run of the agent, or to none. Ask the agent for a new link.", Bad: true})
		return
	case expected.customState != "" && subtle.ConstantTimeCompare([]byte(expected.customState), []byte(query.Get("state"))) != 1:
		s.page(w, http.StatusBadRequest, page{Title: "This answer does not belong to the question", Text: "Its state is not the one the agent sent along. Nothing was allowed.", Bad: true})
		return
	case query.Get("error") != "":
		s.refused(w, expected, query.Get("error"))
		return
	case identifier == "":
		s.page(w, http.StatusConflict, page{Title: "Nobody is waited for", Text: hintNoIdentifier, Bad: true})
		return
	}
	person := s.personAt(r)
	if person == nil && !s.options.WithoutSignIn {
		s.beginSignIn(w, r, session, query.Get("state"))
		return
	}
	s.complete(w, r, session, expected, person)
}

// refused ends a session that the person, or the provider, said no to.
func (s *OAuth2CallbackServer) refused(w http.ResponseWriter, expected *expectation, code string) {
	s.mu.Lock()
	open := expected.state == "waiting"
	if open {
		expected.state = "done"
	}
	s.mu.Unlock()
	if !open {
		s.page(w, http.StatusGone, page{Title: "This was answered before", Text: "You can close this window.", Bad: true})
		return
	}
	if code == "access_denied" {
		expected.outcome <- &OAuthError{Problem{What: "you did not allow it", Cause: errDenied, Hint: "Nothing was shared. " + hintAgain}}
		s.page(w, http.StatusOK, page{Title: "You said no", Text: "Nothing was shared with the agent. You can close this window.", Bad: true})
		return
	}
	expected.outcome <- &OAuthError{Problem{What: "the provider ended the consent: " + redact(code), Hint: hintInvalidOAuth + " " + hintRedirectURI}}
	s.page(w, http.StatusBadGateway, page{Title: "The provider refused", Text: "It gave the reason “" + redact(code) + "”. The agent has been told. You can close this window.", Bad: true})
}

// complete hands the session and the person at this browser to the platform,
// which compares them with the person who asked.
func (s *OAuth2CallbackServer) complete(w http.ResponseWriter, r *http.Request, session string, expected *expectation, person *signedInPerson) {
	s.mu.Lock()
	if expected.state != "waiting" {
		s.mu.Unlock()
		s.page(w, http.StatusGone, page{Title: "This link was used before", Text: "A link completes once. If the agent still waits, ask it for a new one.", Bad: true})
		return
	}
	expected.state = "completing"
	token, asker := s.token, s.identifier
	s.mu.Unlock()

	// Whose token it is decides the platform. A stranger's is handed over as well:
	// the platform then throws away what that person allowed, records it, and
	// frees the link for the one who asked.
	if !s.options.WithoutSignIn && !(s.options.ExactToken && person.subject == asker) {
		token = person.idToken
	}
	_, err := s.identity.CompleteResourceTokenAuth(r.Context(), &bedrockagentcore.CompleteResourceTokenAuthInput{
		SessionUri: &session, UserIdentifier: &types.UserIdentifierMemberUserToken{Value: token},
	})
	var api smithy.APIError
	switch {
	case err == nil:
		s.settle(expected, "done")
		expected.outcome <- nil
		done := page{Title: "It worked", Text: "The agent may now read your name. You can close this window and go back to your terminal."}
		if s.options.WithoutSignIn {
			done.Note = "This was completed for the owner of USER_TOKEN without asking who sits at this browser. That is fine on your own machine, and only there."
		} else {
			done.Note = "Signed in as " + person.name + "."
		}
		s.page(w, http.StatusOK, done)
		return
	case errors.As(err, &api) && api.ErrorCode() == "AccessDeniedException" && person != nil && person.subject != asker:
		s.settle(expected, "waiting")
		s.forget(r)
		s.page(w, http.StatusForbidden, page{Title: "You are signed in as someone else", Text: "This link was made for another person, and you are signed in as " + person.name + ". Nothing was shared, and what you allowed was thrown away.", Note: "The person who asked can still open the link and finish.", Bad: true})
		return
	}
	s.settle(expected, "done")
	expected.outcome <- fromAWS(err, func(p Problem) error { return &OAuthError{p} }, "the session could not be completed", hintBinding+" "+hintAgain)
	s.page(w, http.StatusBadGateway, page{Title: "That did not work", Text: "The platform could not finish. The agent has been told why. You can close this window.", Bad: true})
}

func (s *OAuth2CallbackServer) settle(e *expectation, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.state = state
}
