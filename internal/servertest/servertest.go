// Package servertest starts a whole platform on a temporary folder, with the
// demo provider beside it, in one line of a test:
//
//	p := servertest.Start(t)
//	p.Control.CreateWorkloadIdentity(…)   // the official client, signed
//	NewPerson(p.DemoURL(), demoidp.Ada)   // a person with a browser, over HTTP
//
// Invariant: everything is real (sockets, signatures, database, provider) and
// everything is gone when the test ends.
package servertest

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Platform is a running platform and the official clients pointed at it.
type Platform struct {
	*server.Server
	Config  server.Config
	Logs    *Buffer
	AWS     aws.Config
	Control *bedrockagentcorecontrol.Client
	Data    *bedrockagentcore.Client
}

// Start starts a platform with the demo provider; change may adjust its configuration first.
func Start(t testing.TB, change ...func(*server.Config)) *Platform {
	t.Helper()
	c := server.Config{Addr: "127.0.0.1:0", Data: filepath.Join(t.TempDir(), "data"), Dev: true, LogLevel: "debug"}
	for _, f := range change {
		f(&c)
	}
	p := &Platform{Config: c, Logs: &Buffer{}}
	p.start(t)
	return p
}

// Restart stops the platform and starts it again on the same data.
func (p *Platform) Restart(t testing.TB) {
	t.Helper()
	p.close(t)
	p.start(t)
}

func (p *Platform) start(t testing.TB) {
	t.Helper()
	s, err := server.Start(t.Context(), p.Config, server.Logger(p.Config, p.Logs))
	if err != nil {
		t.Fatalf("the platform does not start: %v", err)
	}
	p.Server = s
	t.Cleanup(func() { p.close(t) })
	p.AWS, err = config.LoadDefaultConfig(t.Context(),
		config.WithRegion("us-east-1"), config.WithBaseEndpoint(s.URL()), config.WithRetryMaxAttempts(1),
		config.WithSharedCredentialsFiles([]string{s.CredentialsFile()}), config.WithSharedConfigFiles(nil), config.WithSharedConfigProfile(server.Profile))
	if err != nil {
		t.Fatal(err)
	}
	p.Control, p.Data = bedrockagentcorecontrol.NewFromConfig(p.AWS), bedrockagentcore.NewFromConfig(p.AWS)
}

func (p *Platform) close(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := p.Server.Close(ctx); err != nil {
		t.Errorf("the platform does not close: %v", err)
	}
}

// Tamper changes rows behind the platform's back, and answers how many.
func (p *Platform) Tamper(t testing.TB, statement string, args ...any) (rows int64) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Path: filepath.Join(p.Config.Data, "onbehalf.db"), URL: p.Config.DatabaseURL.Reveal()})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), func(tx *store.Tx) (err error) {
		rows, err = tx.Exec(statement, args...)
		return err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return rows
}

// UserToken is a fresh sign-in token of a demo person, as the demo provider issues it to its sign-in client.
func (p *Platform) UserToken(t testing.TB, person string) string {
	t.Helper()
	tokens, err := p.Demo().Issue(person, demoidp.SignInClientID, "openid", "profile")
	if err != nil {
		t.Fatal(err)
	}
	return tokens.ID
}

// Buffer collects log lines; safe for concurrent use.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
