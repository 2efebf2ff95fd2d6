package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/server"
)

// child is a process of the comparison: this executable under another name, so
// that no two sides share a scheduler, a heap or a garbage collector.
type child struct {
	*exec.Cmd
	url string
}

// startChild runs a child until it prints its URL on the first line.
func startChild(ctx context.Context, name string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{Cmd: exec.CommandContext(ctx, self, append([]string{name}, args...)...)}
	c.Stderr = os.Stderr
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("%s did not start: %w", name, err)
	}
	c.url = strings.TrimSpace(line)
	return c, nil
}

func (c *child) stop() {
	if c == nil || c.Process == nil {
		return
	}
	_ = c.Process.Signal(syscall.SIGTERM)
	_ = c.Wait()
}

// serveUntilTerm prints the URL and serves.
func serveUntilTerm(handler http.Handler) int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	s := &http.Server{Handler: handler}
	fmt.Printf("http://%s\n", listener.Addr())
	go func() {
		<-ctx.Done()
		_ = s.Close()
	}()
	_ = s.Serve(listener)
	return 0
}

// childFloor is the floor of API calls: it reads the request and answers as many
// bytes as the query says, and that is all.
func childFloor() int {
	answers := map[string][]byte{}
	for _, size := range []int{256, 512, 1024, 1536, 2048} {
		answers[strconv.Itoa(size)] = make([]byte, size)
	}
	return serveUntilTerm(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		size := r.URL.Query().Get("size")
		answer, ok := answers[size]
		if !ok {
			n, _ := strconv.Atoi(size)
			answer = make([]byte, n)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}))
}

// profile is what the target answers: the size of a small API's answer.
const profile = `{"resourceName":"people/117","etag":"%EgUBAgM3Lg==","names":[{"metadata":{"primary":true,"source":{"type":"PROFILE","id":"117"}},"displayName":"Ada Lovelace","familyName":"Lovelace","givenName":"Ada","displayNameLastFirst":"Lovelace, Ada"}]}`

// childTarget is the API behind the gateway and behind the bare proxy: a tool
// call over JSON-RPC for the proxy's comparison, a plain GET for the gateway's.
func childTarget() int {
	return serveUntilTerm(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header.Get("Authorization") == "" {
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, profile)
	}))
}

// childProxy is the floor of the gateway: a bare reverse proxy with a tuned transport.
func childProxy(args []string) int {
	target, err := url.Parse(args[0])
	if err != nil {
		return 1
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns:        1024,
		MaxIdleConnsPerHost: 1024,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
	}
	return serveUntilTerm(proxy)
}

// childPlatform is the platform as `onbehalf serve` runs it, and on SIGUSR1 it
// begins a CPU profile, which ends with the next SIGUSR1.
func childPlatform(args []string) int {
	var c server.Config
	var profileFile, trust, allow, database, vaultKey string
	flags := flag.NewFlagSet("child-platform", flag.ContinueOnError)
	flags.StringVar(&c.Data, "data", "", "")
	flags.StringVar(&profileFile, "profile", "", "")
	flags.StringVar(&database, "database", "", "")
	flags.StringVar(&trust, "trust", "", "")
	flags.StringVar(&vaultKey, "kms-key", "", "")
	flags.StringVar(&allow, "allow", "", "")
	flags.BoolVar(&c.Dev, "dev", true, "")
	if flags.Parse(args) != nil {
		return 2
	}
	c.Addr, c.LogLevel = "127.0.0.1:0", "error"
	c.AgentCPU = float64(runtime.NumCPU()) // as many as the agent has that runs by itself
	if database != "" {
		c.DatabaseURL = secret.New(database)
	}
	if vaultKey != "" {
		c.KMSKeys = []string{vaultKey}
	}
	if trust != "" {
		c.TrustedIssuers = []string{trust}
	}
	if allow != "" {
		c.EgressAllow = strings.Split(allow, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	log := server.Logger(c, os.Stderr)
	slog.SetDefault(log)
	server.Tune()
	s, err := server.Start(ctx, c, log)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go profiling(profileFile)
	fmt.Println(s.URL())
	if err := s.Wait(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func profiling(path string) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGUSR1)
	for range signals {
		file, err := os.Create(path)
		if err != nil {
			continue
		}
		if pprof.StartCPUProfile(file) == nil {
			<-signals
			pprof.StopCPUProfile()
		}
		_ = file.Close()
		_ = os.WriteFile(path+".done", nil, 0o600)
	}
}
