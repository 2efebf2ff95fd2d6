package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	datatypes "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
)

// pgbenchScript is the least that any server of tokens does on a database: read
// the token, write down that it was read.
const (
	pgbenchTables = `CREATE TABLE tokens (id bigint PRIMARY KEY, token bytea NOT NULL);
CREATE TABLE records (id bigserial PRIMARY KEY, token bigint NOT NULL, at timestamptz NOT NULL DEFAULT now(), record bytea NOT NULL);
INSERT INTO tokens SELECT n, decode(repeat('ab', 830), 'hex') FROM generate_series(1, 1000) n;`
	pgbenchScript = `\set id random(1, 1000)
SELECT token FROM tokens WHERE id = :id;
INSERT INTO records (token, record) VALUES (:id, decode(repeat('cd', 300), 'hex'));
`
)

// benchPostgres is GetResourceOauth2Token on PostgreSQL beside pgbench on the same server.
func benchPostgres(ctx context.Context, s settings) ([]result, error) {
	server, err := startPostgres(ctx)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	stage, err := newStageOn(ctx, server.url("onbehalf"))
	if err != nil {
		return nil, err
	}
	defer stage.close()
	if _, err := stage.control.CreateWorkloadIdentity(ctx, &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: aws.String("bench"), AllowedResourceOauth2ReturnUrls: []string{returnURL}}); err != nil {
		return nil, err
	}
	token, err := stage.data.GetWorkloadAccessTokenForJWT(ctx, &bedrockagentcore.GetWorkloadAccessTokenForJWTInput{WorkloadName: aws.String("bench"), UserToken: &stage.userToken})
	if err != nil {
		return nil, err
	}
	asked, err := stage.data.GetResourceOauth2Token(ctx, &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken: token.WorkloadAccessToken, ResourceCredentialProviderName: aws.String("bench"), Scopes: []string{"openid", "profile"},
		Oauth2Flow: datatypes.Oauth2FlowTypeUserFederation, ResourceOauth2ReturnUrl: aws.String(returnURL),
	})
	if err != nil {
		return nil, err
	}
	if asked.AuthorizationUrl == nil {
		return nil, errNoLink
	}
	if err := stage.consent(ctx, *asked.AuthorizationUrl); err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{
		"workloadIdentityToken": *token.WorkloadAccessToken, "resourceCredentialProviderName": "bench", "scopes": []string{"openid", "profile"},
		"oauth2Flow": "USER_FEDERATION", "resourceOauth2ReturnUrl": returnURL,
	})
	if err != nil {
		return nil, err
	}
	if err := server.prepare(ctx); err != nil {
		return nil, err
	}
	ours := &load{client: newClient(s.connections), make: func(ctx context.Context) (*http.Request, error) {
		return stage.signed(ctx, stage.platform.url, tokenPath, body)
	}}
	if _, err := ours.round(ctx, s.connections, time.Second); err != nil {
		return nil, err
	}
	var rounds []figures
	var floor []float64
	for range s.rounds {
		f, err := ours.round(ctx, s.connections, s.duration)
		if err != nil {
			return nil, err
		}
		rate, err := server.pgbench(ctx, s.connections, s.duration)
		if err != nil {
			return nil, err
		}
		rounds, floor = append(rounds, f), append(floor, rate)
	}
	slices.Sort(floor)
	a, b := medians(rounds), floor[len(floor)/2]
	ratio := a.rate / b
	return []result{{
		what: fmt.Sprintf("GetResourceOauth2Token on PostgreSQL, %d connections", s.connections), aim: "0.5 of pgbench's prepared select and insert, same server",
		measured: fmt.Sprintf("%.2f (%.0f requests/s of %.0f; p50 %s, p99 %s)", ratio, a.rate, b, a.p50.Round(time.Microsecond), a.p99.Round(time.Microsecond)), met: ratio >= 0.5,
	}}, nil
}

// postgres is a server with its default settings, durable, on a folder of its own.
type postgres struct {
	dir, bin, port string
	process        *exec.Cmd
}

func startPostgres(ctx context.Context) (*postgres, error) {
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		return nil, fmt.Errorf("PostgreSQL is not installed; make deps installs it")
	}
	dir, err := os.MkdirTemp("/tmp", "onbehalf-bench-postgres-")
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	p := &postgres{dir: dir, bin: bins[len(bins)-1], port: port}
	if err := p.own(); err != nil {
		return nil, err
	}
	if out, err := p.command(ctx, "initdb", "-D", filepath.Join(dir, "data"), "-U", "bench", "--auth=trust", "-E", "UTF8").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	p.process = p.command(ctx, "postgres", "-D", filepath.Join(dir, "data"), "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="+dir, "-c", "max_connections=200")
	p.process.Cancel = func() error { return p.process.Process.Signal(syscall.SIGQUIT) }
	if err := p.process.Start(); err != nil {
		return nil, err
	}
	for range 200 {
		if p.command(ctx, "pg_isready", "-h", "127.0.0.1", "-p", port).Run() == nil {
			out, err := p.command(ctx, "createdb", "-h", "127.0.0.1", "-p", port, "-U", "bench", "onbehalf").CombinedOutput()
			if err != nil {
				err = fmt.Errorf("createdb: %w: %s", err, out)
			}
			return p, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.stop()
	return nil, fmt.Errorf("PostgreSQL does not start")
}

// own gives the folder to the user that PostgreSQL runs as: it refuses root.
func (p *postgres) own() error {
	if os.Getuid() != 0 {
		return nil
	}
	owner, err := user.Lookup("postgres")
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	return os.Chown(p.dir, uid, gid)
}

func (p *postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	c.Dir = p.dir
	if os.Getuid() == 0 {
		if owner, err := user.Lookup("postgres"); err == nil {
			uid, _ := strconv.Atoi(owner.Uid)
			gid, _ := strconv.Atoi(owner.Gid)
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		}
	}
	return c
}

func (p *postgres) url(database string) string {
	return "postgres://bench@127.0.0.1:" + p.port + "/" + database + "?sslmode=disable"
}

func (p *postgres) stop() {
	if p.process != nil && p.process.Process != nil {
		_ = p.process.Process.Signal(syscall.SIGQUIT)
		_ = p.process.Wait()
	}
	_ = os.RemoveAll(p.dir)
}

func (p *postgres) prepare(ctx context.Context) error {
	if out, err := p.command(ctx, "psql", "-q", "-v", "ON_ERROR_STOP=1", "-c", pgbenchTables, p.url("postgres")).CombinedOutput(); err != nil {
		return fmt.Errorf("psql: %w: %s", err, out)
	}
	return os.WriteFile(filepath.Join(p.dir, "script.sql"), []byte(pgbenchScript), 0o644)
}

var transactions = regexp.MustCompile(`tps = ([0-9.]+)`)

// pgbench is how many times a second it runs the script.
func (p *postgres) pgbench(ctx context.Context, connections int, duration time.Duration) (float64, error) {
	out, err := p.command(ctx, "pgbench", "-n", "-M", "prepared", "-c", strconv.Itoa(connections), "-j", "4", "-T", strconv.Itoa(max(1, int(duration.Seconds()))),
		"-f", filepath.Join(p.dir, "script.sql"), "-h", "127.0.0.1", "-p", p.port, "-U", "bench", "postgres").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	found := transactions.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("pgbench says no rate: %s", strings.TrimSpace(string(out)))
	}
	return strconv.ParseFloat(string(found[1]), 64)
}
