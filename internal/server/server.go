// Package server is the roof: it turns a configuration into a running platform.
//
//	config.go       what may be set
//	data.go         the data folder
//	environment.go  what `onbehalf env` prints
//	database.go     the folder's own database, or one that replicas share
//	server.go       assembly, background work, start and stop
//	errors.go       why it does not start, in an operator's words
//	front.go        which path is whose door
//	routes.go       the map: one row per operation
//	iam.go          the calls of IAM and STS
//	tags.go         whose row a tag's ARN names
//	operator.go     what the operator's commands do on the data folder; accounts.go what an account starts with
//	operator_vault.go, operator_backup.go: rotation, another key for the platform, backup and restore
//	metrics.go      what is counted, and where Prometheus reads it
//	webhook.go      who is told of consents: the log, and a webhook
//	demo.go         the demo provider of --dev
//	agents.go       what hosted agents run in, and what they reach
//	signin.go       the platform's own clients, for the hosted completion page
//	keys.go         key-encryption keys, and where the rooms keep what is sealed
//	connections.go  what a stop need not wait for
//
// Invariant: Start returns a server that answers, or an error and nothing left
// open. Close finishes what is in flight, writes the last audit records, and only
// then lets go of the database.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/consent"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/gateway"
	"github.com/onbehalf/onbehalf/internal/gateway/openapi"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/oauth"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/runtime"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
	"github.com/onbehalf/onbehalf/internal/wire"
	"github.com/onbehalf/onbehalf/internal/wire/query"
)

// Server is a running platform.
type Server struct {
	config   Config
	log      *slog.Logger
	folder   folder
	created  bool // this start made the installation
	url      string
	tls      *tls.Config // nil without --tls-cert
	listener net.Listener
	http     *http.Server
	unused   newcomers
	signIns  []broker.SignIn
	demo     *demoServer
	db       *store.DB
	egress   *egress.Client
	records  *audit.Log
	agents   *runtime.Service
	wayOut   *egress.Proxy // of agents
	inward   *inward       // what agents reach of the platform
	driver   func() (runtime.Driver, error)
	metrics  *metricsServer // nil without --metrics-addr
	idle     []func()       // close connections that are kept

	background sync.WaitGroup
	stop       context.CancelFunc
	failed     chan error // the listener's end, if it came by itself
	closeOnce  sync.Once
	closeErr   error
}

// Start opens the data folder, assembles the rooms and listens. The server
// answers when Start returns. The context bounds the start alone; end the server with Close.
func Start(ctx context.Context, c Config, log *slog.Logger) (_ *Server, err error) {
	c = c.WithDefaults()
	if err := c.Check(); err != nil {
		return nil, err
	}
	data, err := filepath.Abs(c.Data)
	if err != nil {
		return nil, fmt.Errorf("--data %q cannot be resolved: %w", c.Data, err)
	}
	s := &Server{config: c, log: log, failed: make(chan error, 1)}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	defer func() {
		if err != nil {
			_ = s.release()
			err = forOperator(err)
		}
	}()
	if c.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
		}
		s.tls = &tls.Config{Certificates: []tls.Certificate{pair}}
	}
	if s.folder, err = openFolder(data); err != nil {
		return nil, err
	}
	before, _ := s.folder.readEndpoint() // without it, the defaults hold
	if before.Account != "" && before.Account != c.Account {
		return nil, fmt.Errorf("--account %s: %s is the installation of account %s, whose root key would be overwritten; leave --account as it was, or name another --data", c.Account, data, before.Account)
	}
	if err := s.sameDatabase(before); err != nil {
		return nil, err
	}
	if s.listener, err = listen("--addr", c.Addr, before.Addr); err != nil {
		return nil, err
	}
	s.url = c.publicURL(s.listener.Addr())
	if c.Dev {
		if s.demo, err = startDemo(c.DemoAddr, s.folder); err != nil {
			return nil, err
		}
	}
	handler, err := s.assemble(ctx, running)
	if err != nil {
		return nil, err
	}
	if err := s.folder.writeEndpoint(endpoint{URL: s.url, Region: c.Region, Account: c.Account, Database: s.elsewhere(), Addr: s.listener.Addr().String(), DemoURL: s.DemoURL()}); err != nil {
		return nil, fmt.Errorf("the data folder cannot be written: %w", err)
	}
	s.serve(handler)
	s.background.Go(func() {
		_, _ = s.driver() // it tells the log what it found
		settle()
		keepSettled(running)
	})
	return s, nil
}

// assemble builds the storeys from the tools up to the doors and starts their background work.
func (s *Server) assemble(ctx, running context.Context) (http.Handler, error) {
	c := s.config
	var err error
	if s.db, err = store.Open(ctx, store.Options{Path: s.folder.database(), URL: c.DatabaseURL.Reveal()}); err != nil {
		return nil, err
	}
	if s.signIns, err = c.signIns(); err != nil {
		return nil, err
	}
	if s.signIns, err = s.demoSignIn(s.signIns); err != nil {
		return nil, err
	}
	allow := c.EgressAllow
	issuers, err := c.issuers()
	if err != nil {
		return nil, err
	}
	rates, err := c.rates()
	if err != nil {
		return nil, err
	}
	if s.demo != nil {
		allow = append(allow[:len(allow):len(allow)], s.demo.address)
		issuers = append(issuers, auth.TrustedIssuer{URL: s.demo.url, Audiences: []string{demoidp.SignInClientID}})
	}
	if s.egress, err = egress.New(egress.Options{Allow: allow, LoopbackHTTP: c.Dev}); err != nil {
		return nil, err
	}
	if own, err := netip.ParseAddrPort(s.listener.Addr().String()); err == nil {
		s.egress.Forbid(own)
	}
	if public, err := url.Parse(s.url); err == nil {
		s.egress.ForbidURL(public)
	}

	protocol := oauth.New(s.egress)
	policies := policy.New(s.db)
	var keeper *seal.Keeper
	var authenticator *auth.Authenticator
	// Of replicas that start together on an empty database, one makes the keys.
	if err := s.db.Alone(ctx, func(ctx context.Context) error {
		if keeper, err = s.openKeys(ctx); err != nil {
			return err
		}
		authenticator = auth.New(s.db, keeper, protocol, auth.Options{Region: c.Region, TrustedIssuers: issuers, Rates: rates, NewAccount: newAccount(policies), SpoolFolder: filepath.Join(s.folder.path, "spool")})
		s.created, err = authenticator.EnsureRoot(ctx, c.Account, func(key auth.NewKey) error {
			return s.folder.writeCredentials(key.ID, key.Secret)
		})
		return err
	}); err != nil {
		return nil, err
	}
	s.missCredentials()
	if s.records, err = audit.New(ctx, s.db, keeper, ""); err != nil {
		return nil, err
	}
	gated := gate.New(authenticator, policies, s.records)

	secrets, signing, err := c.openExternal(s.folder.path)
	if err != nil {
		return nil, err
	}
	identities := identity.New(s.db, keeper, authenticator, identity.Options{Region: c.Region})
	grants := vault.New(s.db, keeper)
	custodian := seal.NewCustodian(keeper, sealedTables())
	outbox, err := s.openWebhook()
	if err != nil {
		return nil, err
	}
	brokers := broker.New(s.db, keeper, identities, grants, protocol, s.egress, authenticator, gated, broker.Options{Tell: teller(outbox), Custodian: custodian, SignIns: s.signIns, Region: c.Region, PublicURL: s.url, Secrets: secrets, Keys: signing})
	if err := s.startMetrics(protocol, grants, outbox); err != nil {
		return nil, err
	}
	s.watch(gated)
	if s.elsewhere() == "" {
		// The lock of the data folder says that nobody else is at work on its database.
		if err := brokers.Recover(ctx); err != nil {
			return nil, err
		}
	}
	gateways := gateway.New(s.db, keeper, identities, brokers, authenticator, gated, gateway.Options{
		Region: c.Region, PublicURL: s.url, Version: c.Version, Kinds: []gateway.Kind{openapi.New(s.egress)},
		CheckRole: roleChecker(authenticator, policies), Deleted: deletePolicy(policies),
	})
	agents, err := s.openAgents(keeper, identities, authenticator, gated, policies)
	if err != nil {
		return nil, err
	}
	tagged := newTags(c.Region, identities, brokers, gateways, agents)
	policies.UseTags(tagged.of)
	for name, run := range map[string]func(context.Context) error{
		"audit": s.records.Run, "keys": custodian.Run, "auth": authenticator.Run, "identity": identities.Run, "vault": grants.Run, "broker": brokers.Run, "agents' code": agents.KeepCode, "agents' sessions": agents.Run,
	} {
		s.background.Go(func() {
			if err := run(running); err != nil && running.Err() == nil {
				s.log.Error("background work ended", "room", name, "error", err)
			}
		})
	}

	if outbox != nil {
		s.background.Go(func() { _ = outbox.Run(running) }) // ends with running, and logs what it cannot do
	}

	proxies, err := c.proxies()
	if err != nil {
		return nil, err
	}
	doors := &front{
		ping:     http.HandlerFunc(s.ping),
		wire:     wire.New(gated, keeper, wire.Options{}, routes(resources{c.Region}, identities, brokers, gateways, agents, tagged, resourcePolicies{s.db, policies, c.Region, gateways, agents})),
		query:    query.New(gated, iam{s.db, authenticator, policies}.actions()),
		mcp:      gateways.MCP(),
		agents:   agents.Front(),
		code:     agents.Code(),
		metadata: gateways.Metadata(),
		consent:  consent.New(gated, brokers, consent.Options{PublicURL: s.url, Log: s.log}),
		proxies:  proxies,
		proxied:  strings.HasPrefix(s.url, "https://") && c.TLSCert == "",
		region:   c.Region,
		log:      s.log,
	}
	s.inward.open(doors)
	return doors, nil
}

// serve starts answering. The limits keep a slow or talkative peer from holding
// a connection; bodies are limited by the doors, which know what they expect.
func (s *Server) serve(handler http.Handler) {
	s.http = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    192 << 10, // a bearer token may have 128 KiB
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnState:         s.unused.follow,
		TLSConfig:         s.tls,
	}
	s.background.Go(func() {
		var err error
		if s.tls != nil {
			err = s.http.ServeTLS(s.listener, "", "") // the certificate is in TLSConfig
		} else {
			err = s.http.Serve(s.listener)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			s.failed <- err
		}
	})
}

// ping answers 200 when the database does.
func (s *Server) ping(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := s.db.Ping(ctx); err != nil {
		s.log.Error("not ready: the database does not answer", "error", err)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"status":"unavailable"}`)
		return
	}
	_, _ = io.WriteString(w, `{"status":"ok"}`)
}

// Wait serves until the context is done, then closes.
func (s *Server) Wait(ctx context.Context) error {
	var failure error
	select {
	case <-ctx.Done():
		s.log.Info("stopping: what is in flight is finished first")
	case failure = <-s.failed:
		s.log.Error("the listener failed", "error", failure)
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return errors.Join(failure, s.Close(grace))
}

// Close stops accepting, waits for what is in flight until the context ends, and lets go of everything.
func (s *Server) Close(ctx context.Context) error {
	s.closeOnce.Do(func() {
		s.unused.dismiss()
		// Calls of agents may take long: after a while their sessions are told to end,
		// and what waits for them hears that.
		late := time.AfterFunc(agentsDrain, s.agents.Close)
		defer late.Stop()
		if err := s.http.Shutdown(ctx); err != nil {
			s.closeErr = errors.Join(err, s.http.Close())
		}
		s.closeErr = errors.Join(s.closeErr, s.release())
	})
	return s.closeErr
}

// release undoes Start from the top down; parts that were never made are passed over.
func (s *Server) release() error {
	var problems []error
	s.stop()
	if s.http == nil && s.listener != nil {
		problems = append(problems, s.listener.Close())
	}
	if s.demo != nil {
		problems = append(problems, s.demo.close())
	}
	if s.metrics != nil {
		problems = append(problems, s.metrics.close())
	}
	if s.agents != nil {
		s.agents.Close()
	}
	s.background.Wait()
	if s.records != nil {
		problems = append(problems, s.records.Close())
	}
	if s.egress != nil {
		s.egress.Close()
	}
	for _, closeIdle := range s.idle {
		closeIdle()
	}
	if s.db != nil {
		problems = append(problems, s.db.Close())
	}
	s.folder.close()
	return errors.Join(problems...)
}

// URL is the public URL, without a trailing slash.
func (s *Server) URL() string { return s.url }

// DemoURL is the demo provider's issuer; empty without --dev.
func (s *Server) DemoURL() string {
	if s.demo == nil {
		return ""
	}
	return s.demo.url
}

// Demo is the demo provider itself; nil without --dev. Tests pull its levers.
func (s *Server) Demo() *demoidp.Provider {
	if s.demo == nil {
		return nil
	}
	return s.demo.provider
}

// CredentialsFile is the shared credentials file with the root key.
func (s *Server) CredentialsFile() string { return s.folder.credentials() }

// Banner is what serve prints once it is ready: where it listens and what to do next.
func (s *Server) Banner() []string {
	lines := []string{
		"onbehalf is ready on " + s.url,
		"  data        " + s.folder.path,
	}
	if s.created {
		lines = append(lines, "  root key    "+s.folder.credentials()+" (made now; keep it as you keep a password)")
	}
	command := "onbehalf env"
	if s.config.Data != DefaultData() {
		command += " --data " + ShellQuoted(s.folder.path)
	}
	if s.metrics != nil {
		lines = append(lines, "  metrics     "+s.MetricsURL())
	}
	lines = append(lines, "  use it      eval \"$("+command+")\", then any AWS SDK or the AWS CLI")
	for _, client := range s.signIns {
		if s.demo == nil || client.Issuer != s.demo.url {
			lines = append(lines, "  sign-in     register "+broker.SignInRedirectURL(s.url, client.Issuer)+" for "+client.ClientID+" at "+client.Issuer)
		}
	}
	if s.config.UnsafeAgents {
		lines = append(lines, "  agents      WITHOUT ISOLATION: they can read this platform's files and keys")
	}
	if s.demo != nil {
		lines = append(lines, "  demo people "+s.demo.url+" (--dev: never in production)")
	}
	return lines
}

func (c Config) publicURL(listening net.Addr) string {
	if c.PublicURL != "" {
		return strings.TrimSuffix(c.PublicURL, "/")
	}
	if c.TLSCert != "" {
		return "https://" + listening.String()
	}
	return "http://" + listening.String()
}
