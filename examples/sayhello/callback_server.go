package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"golang.org/x/time/rate"
)

// The paths of the callback server.
const (
	pathPing       = "/ping"
	pathIdentifier = "/userIdentifier/token"
	pathCallback   = "/oauth2/callback"
	pathSignIn     = "/oauth2/signin"
)

const (
	requestsPerSecond = 20 // over all clients: one person with one browser needs a handful
	requestsAtOnce    = 40
	maxCallbackBody   = 16 << 10
	graceOfStop       = 3 * time.Second
)

// CallbackOptions are the callback server's settings; the zero value listens on
// a free port of localhost.
type CallbackOptions struct {
	Port          int
	BaseURL       string // where browsers reach it; empty: localhost, or the proxy of SageMaker Studio
	Certificate   string // file; with it the server speaks https
	Key           string // file
	Allow         []netip.Prefix
	WithoutSignIn bool // complete for UseToken's owner, whoever sits at the browser: USER_TOKEN, on this machine only
	ExactToken    bool // the backend compares tokens, not people: AWS wants the very token the session was opened with
	Metadata      string
	Log           *slog.Logger
}

// OAuth2CallbackServer is where a consent ends: the browser comes back here, the
// server finds out who sits at it, and completes the session for that person
// and nobody else.
type OAuth2CallbackServer struct {
	region    string
	identity  *bedrockagentcore.Client
	options   CallbackOptions
	base      *url.URL // where browsers reach it
	port      int
	run       string // names this run in cookies
	secret    string // of this run: who may say whom to wait for
	begin     string // of this run: who may become the person who asks
	limiter   *rate.Limiter
	server    *http.Server
	certified *tls.Certificate
	newcomers newcomers

	mu         sync.Mutex
	signIn     *SignIn
	token      string                     // the user token that the agent's sessions are opened with
	identifier string                     // the user token identifier that is waited for
	sessions   map[string]*Consent        // by session URI
	pending    map[string]*pendingSignIn  // by state
	browsers   map[string]*signedInPerson // by cookie value
	arrived    chan *signedInPerson       // sign-ins that were asked for without a consent
}

// NewOAuth2CallbackServer makes a server that completes sessions with the given identity client.
func NewOAuth2CallbackServer(region string, identity *bedrockagentcore.Client, options CallbackOptions) *OAuth2CallbackServer {
	if options.Metadata == "" {
		options.Metadata = resourceMetadata
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	return &OAuth2CallbackServer{
		region: region, identity: identity, options: options,
		run:      strings.ToLower(rand.Text()[:8]),
		secret:   rand.Text(),
		begin:    rand.Text(),
		limiter:  rate.NewLimiter(requestsPerSecond, requestsAtOnce),
		sessions: map[string]*Consent{},
		pending:  map[string]*pendingSignIn{},
		browsers: map[string]*signedInPerson{},
		arrived:  make(chan *signedInPerson, 1),
	}
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

// CallbackBaseURL is where browsers reach the server, on localhost or through
// the proxy of SageMaker Workshop Studio. Known once Start has returned.
func (s *OAuth2CallbackServer) CallbackBaseURL() string { return s.base.String() }

// CallbackURL is the return URL of consents.
func (s *OAuth2CallbackServer) CallbackURL() string { return s.CallbackBaseURL() + pathCallback }

// SignInURL is the redirect URI to register at the inbound provider.
func (s *OAuth2CallbackServer) SignInURL() string { return s.CallbackBaseURL() + pathSignIn }

// Start listens and serves until Stop. The context bounds the start alone.
func (s *OAuth2CallbackServer) Start(ctx context.Context) error {
	if s.options.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(s.options.Certificate, s.options.Key)
		if err != nil {
			return &ConfigurationError{Problem{What: "the callback server's certificate cannot be used", Cause: err, Hint: "--callback-tls-cert and --callback-tls-key are PEM files that belong together."}}
		}
		s.certified = &pair
	}
	listeners, err := s.listen()
	if err != nil {
		return err
	}
	if err := s.findBase(ctx); err != nil {
		for _, l := range listeners {
			_ = l.Close()
		}
		return err
	}
	s.server = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      90 * time.Second, // a completion calls the platform, which calls the provider
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.options.Log.Handler(), slog.LevelDebug),
		ConnState:         s.newcomers.watch,
	}
	for _, l := range listeners {
		if s.certified != nil {
			l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*s.certified}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
		}
		go func() { _ = s.server.Serve(l) }()
	}
	return nil
}

// findBase settles where browsers reach the server.
func (s *OAuth2CallbackServer) findBase(ctx context.Context) (err error) {
	base := s.options.BaseURL
	if base == "" {
		if base, err = studioURL(ctx, s.options.Metadata, s.region, s.port); err != nil {
			return err
		}
	}
	if base == "" {
		base = fmt.Sprintf("%s://localhost:%d", s.scheme(), s.port)
	}
	if s.base, err = url.Parse(strings.TrimSuffix(base, "/")); err != nil || s.base.Host == "" {
		return &ConfigurationError{Problem{What: "the callback server's URL is not one", Cause: err, Hint: "CALLBACK_URL is of the form http://localhost:9090" + pathCallback}}
	}
	if s.options.WithoutSignIn && !isLoopbackHost(s.base.Hostname()) {
		return &ConfigurationError{Problem{What: "USER_TOKEN alone completes on this machine only", Hint: "Set INBOUND_DISCOVERY_URL and INBOUND_CLIENT_ID, so that the person at the browser can sign in."}}
	}
	return nil
}

func (s *OAuth2CallbackServer) scheme() string {
	if s.certified != nil {
		return "https"
	}
	return "http"
}

// listen opens the loopback addresses, and all of them only with TLS and a name
// that others can use. A browser may understand localhost as IPv4 or as IPv6, so
// both are taken where both exist: what somebody else got of the two could
// receive the callbacks.
func (s *OAuth2CallbackServer) listen() ([]net.Listener, error) {
	u, err := url.Parse(s.options.BaseURL)
	if s.certified != nil && err == nil && u.Host != "" && !isLoopbackHost(u.Hostname()) {
		l, err := s.listenOn("", s.options.Port)
		if err != nil {
			return nil, err
		}
		return []net.Listener{l}, nil
	}
	for attempt := 0; ; attempt++ {
		four, err := s.listenOn("127.0.0.1", s.options.Port)
		if err != nil {
			return nil, err
		}
		six, err := net.Listen("tcp", net.JoinHostPort("::1", fmt.Sprint(s.port)))
		switch {
		case err == nil:
			return []net.Listener{four, six}, nil
		case !errors.Is(err, syscall.EADDRINUSE):
			return []net.Listener{four}, nil // a machine without IPv6
		}
		_ = four.Close()
		if s.options.Port != 0 || attempt == 10 {
			return nil, portTaken(s.port)
		}
	}
}

func (s *OAuth2CallbackServer) listenOn(host string, port int) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, portTaken(port)
	} else if err != nil {
		return nil, &ConfigurationError{Problem{What: fmt.Sprintf("the callback server cannot listen on port %d", port), Cause: err, Hint: "Choose another port with --callback-port."}}
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	return l, nil
}

func portTaken(port int) error {
	return &ConfigurationError{Problem{What: fmt.Sprintf("port %d is taken", port), Hint: "Another program, perhaps another sayhello, listens there: choose another port for the callback server with --callback-port."}}
}

// Stop finishes what is in flight, for at most three seconds.
func (s *OAuth2CallbackServer) Stop() {
	if s.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), graceOfStop)
	defer cancel()
	s.newcomers.close()
	if s.server.Shutdown(ctx) != nil {
		_ = s.server.Close()
	}
}

// newcomers are connections that have not asked for anything. Browsers open some
// ahead of time, and Shutdown would wait for what they might ask.
type newcomers struct {
	mu      sync.Mutex
	waiting map[net.Conn]bool
	closed  bool
}

func (n *newcomers) watch(c net.Conn, state http.ConnState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(n.waiting, c)
	case n.closed:
		_ = c.Close()
	default:
		if n.waiting == nil {
			n.waiting = map[net.Conn]bool{}
		}
		n.waiting[c] = true
	}
}

func (n *newcomers) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for c := range n.waiting {
		_ = c.Close()
	}
}
