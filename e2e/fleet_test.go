package e2e

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/onbehalf/onbehalf/internal/demoidp"
)

func (f *fleet) ping() int {
	response, err := f.plain.Get(f.url + "/ping")
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// startProviderWith is startProvider for a provider with habits of its own.
func startProviderWith(t testing.TB, o demoidp.Options) *provider {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Address = listener.Addr()
	idp, err := demoidp.New(o)
	if err != nil {
		t.Fatal(err)
	}
	tokens := &tokenLog{next: idp}
	server := &http.Server{Handler: tokens}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return &provider{Provider: idp, url: "http://" + listener.Addr().String(), host: listener.Addr().String(), tokens: tokens}
}

// emptyDatabase is a database of the test's own on the server that tests may use.
func emptyDatabase(t *testing.T) string {
	t.Helper()
	server := os.Getenv("ONBEHALF_TEST_POSTGRES")
	need(t, "PostgreSQL (ONBEHALF_TEST_POSTGRES)", server != "")
	address, err := url.Parse(server)
	if err != nil {
		t.Fatal("ONBEHALF_TEST_POSTGRES is not a URL")
	}
	admin, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatal(err)
	}
	name := "e2e_" + strings.ToLower(rand.Text())
	if _, err := admin.ExecContext(t.Context(), `CREATE DATABASE `+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.ExecContext(context.Background(), `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
		_ = admin.Close()
	})
	address.Path = "/" + name
	return address.String()
}

// balancer sends each connection to the next replica that listens.
type balancer struct {
	listener net.Listener
	backends []string
	next     atomic.Int64

	mu      sync.Mutex
	allowed []int // empty: all
}

func startBalancer(t *testing.T) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{listener: listener}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go b.relay(client)
		}
	}()
	return b
}

// only sends connections to these replicas from now on.
func (b *balancer) only(replicas ...int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allowed = replicas
}

func (b *balancer) relay(client net.Conn) {
	defer client.Close()
	b.mu.Lock()
	var candidates []string
	for i, backend := range b.backends {
		use := len(b.allowed) == 0
		for _, allowed := range b.allowed {
			use = use || allowed == i
		}
		if use {
			candidates = append(candidates, backend)
		}
	}
	b.mu.Unlock()
	turn := int(b.next.Add(1))
	for i := range candidates {
		replica, err := net.Dial("tcp", candidates[(turn+i)%len(candidates)])
		if err != nil {
			continue
		}
		defer replica.Close()
		go func() {
			_, _ = io.Copy(replica, client)
			_ = replica.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(client, replica)
		return
	}
}

// cluster is a PostgreSQL of the test's own, which it may stop.
type cluster struct {
	t        *testing.T
	bin, dir string
	port     string
	as       []string // runs a program as the user that PostgreSQL wants
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_ctl")
	need(t, "PostgreSQL", len(found) > 0)
	dir, err := os.MkdirTemp("/tmp", "onbehalf-cluster-")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, bin: filepath.Dir(found[len(found)-1]), dir: dir, port: freePort(t)}
	if os.Getuid() == 0 {
		c.as = []string{"setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"}
		if out, err := exec.Command("chown", "postgres", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	c.run("initdb", "-D", dir+"/data", "-U", "onbehalf", "--auth=trust", "--no-sync", "-E", "UTF8")
	t.Cleanup(func() {
		c.control("stop", "-m", "immediate")
		_ = os.RemoveAll(dir)
	})
	c.control("start")
	return c
}

func (c *cluster) url() string {
	return "postgres://onbehalf@127.0.0.1:" + c.port + "/postgres?sslmode=disable"
}

func (c *cluster) control(what string, more ...string) {
	c.t.Helper()
	args := append([]string{"-D", c.dir + "/data", "-w", "-s", "-l", c.dir + "/log", what}, more...)
	if what == "start" {
		args = append(args, "-o", "-c listen_addresses=127.0.0.1 -c port="+c.port+" -c unix_socket_directories="+c.dir+" -c fsync=off")
	}
	c.run("pg_ctl", args...)
}

func (c *cluster) run(program string, args ...string) {
	c.t.Helper()
	line := append(append([]string{}, c.as...), append([]string{filepath.Join(c.bin, program)}, args...)...)
	run := exec.Command(line[0], line[1:]...)
	run.Dir = c.dir
	if err := run.Run(); err != nil {
		c.t.Errorf("%s: %v", program, errors.Join(err))
	}
}
