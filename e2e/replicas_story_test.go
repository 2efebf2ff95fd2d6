package e2e

import (
	"context"
	"database/sql"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	_ "github.com/jackc/pgx/v5/stdlib" // the tests look into the database themselves

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/servertest"
	"github.com/onbehalf/onbehalf/internal/store"
)

// fleet is replicas over one PostgreSQL database, behind one address.
type fleet struct {
	t        *testing.T
	idp      *provider
	slow     *slow
	database string // its URL
	look     *sql.DB
	keyFile  string
	front    *balancer
	replicas []*platform
	url      string
	plain    *http.Client // one connection per request, so that each may go elsewhere
}

// startFleet starts the replicas at once, on an empty database.
func startFleet(t *testing.T, database string, options demoidp.Options) *fleet {
	t.Helper()
	idp := startProviderWith(t, options)
	f := &fleet{t: t, idp: idp, slow: &slow{next: idp.tokens.next}, database: database, keyFile: filepath.Join(t.TempDir(), "shared-key"),
		plain: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Minute}}
	idp.tokens.next = f.slow
	var err error
	if f.look, err = sql.Open("pgx", database); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.look.Close() })
	f.front = startBalancer(t)
	f.url = "http://" + f.front.listener.Addr().String()
	for range 3 {
		addr := "127.0.0.1:" + freePort(t)
		f.front.backends = append(f.front.backends, addr)
		f.replicas = append(f.replicas, &platform{t: t, data: filepath.Join(t.TempDir(), "data"), logs: &logs{}, flags: append(idp.flags(),
			"--addr", addr, "--demo-addr", "127.0.0.1:"+freePort(t), "--public-url", f.url, "--key-file", f.keyFile, "--database-url", database)})
	}
	t.Cleanup(func() {
		for i, p := range f.replicas {
			if p.process != nil {
				p.stop()
			}
			if t.Failed() {
				all := p.logs.everything()
				t.Logf("log of replica %d, its end:\n%s", i+1, all[max(0, len(all)-3000):])
			}
		}
	})
	var starting sync.WaitGroup
	for _, p := range f.replicas {
		starting.Go(p.start)
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	var made []string
	for _, p := range f.replicas {
		if _, err := os.Stat(filepath.Join(p.data, "credentials")); err == nil {
			made = append(made, p.data)
		}
		if strings.Contains(p.logs.everything(), database) {
			t.Error("the database URL is in the log")
		}
	}
	if len(made) != 1 {
		t.Fatalf("%d replicas have written a root key", len(made))
	}
	loaded, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("us-east-1"), config.WithBaseEndpoint(f.url), config.WithRetryMaxAttempts(1),
		config.WithSharedCredentialsFiles([]string{filepath.Join(made[0], "credentials")}), config.WithSharedConfigFiles(nil), config.WithSharedConfigProfile("onbehalf"))
	if err != nil {
		t.Fatal(err)
	}
	loaded.HTTPClient = f.plain // not an option of the loading: AWS_CA_BUNDLE wants to change that
	for _, p := range f.replicas {
		p.aws, p.control, p.client = loaded, bedrockagentcorecontrol.NewFromConfig(loaded), bedrockagentcore.NewFromConfig(loaded)
	}
	return f
}

// scene is an agent and a credential provider, whichever replica makes them.
func (f *fleet) scene() *scene {
	f.t.Helper()
	s := &scene{platform: f.replicas[0], t: f.t, idp: f.idp, agent: "greeter", provider: "people",
		client: demoidp.Client{ID: "platform", Secret: "secret-of-the-platform-at-the-demo-provider"}}
	s.createAgent(s.agent)
	made, err := s.control.CreateOauth2CredentialProvider(f.t.Context(), &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: &s.provider, CredentialProviderVendor: control.CredentialProviderVendorTypeCustomOauth2, Oauth2ProviderConfigInput: discovered(f.idp.DiscoveryURL(), s.client),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	s.client.RedirectURIs = []string{*made.CallbackUrl}
	if err := f.idp.Register(s.client); err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fleet) count(query string) (n int) {
	f.t.Helper()
	if err := f.look.QueryRowContext(f.t.Context(), query).Scan(&n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

// proven wants the audit chains of all replicas whole.
func (f *fleet) proven() {
	f.t.Helper()
	ctx := f.t.Context()
	db, err := store.Open(ctx, store.Options{URL: f.database})
	if err != nil {
		f.t.Fatal(err)
	}
	defer db.Close()
	wrapper, err := seal.OpenFileKey(f.keyFile)
	if err != nil {
		f.t.Fatal(err)
	}
	keeper, err := seal.NewKeeper(ctx, db, wrapper)
	if err != nil {
		f.t.Fatal(err)
	}
	log, err := audit.New(ctx, db, keeper, "")
	if err != nil {
		f.t.Fatal(err)
	}
	defer log.Close()
	proof, err := log.Verify(ctx)
	if err != nil {
		f.t.Fatalf("the audit does not hold: %v", err)
	}
	if len(proof.Heads) < len(f.replicas)+1 {
		f.t.Errorf("%d chains of %d replicas", len(proof.Heads), len(f.replicas))
	}
}

// One database, one set of keys, and a consent that no replica sees the whole of.
func TestReplicasAreOnePlatform(t *testing.T) {
	t.Parallel()
	f := startFleet(t, emptyDatabase(t), demoidp.Options{})
	if n := f.count(`SELECT count(*) FROM access_keys WHERE root = 1`); n != 1 {
		t.Errorf("%d root keys", n)
	}
	if n := f.count(`SELECT count(DISTINCT wrapper) FROM data_keys`); n != 1 {
		t.Errorf("the data keys are sealed with %d keys", n)
	}
	if n := f.count(`SELECT count(DISTINCT applied) FROM onbehalf_schema`); n != 1 {
		t.Errorf("the tables were made in %d migrations", n)
	}
	s := f.scene()
	jwt := s.signIn(demoidp.Ada)
	f.front.only(0)
	token := s.speakFor(s.agent, jwt)
	link, session := s.link(token)
	f.front.only(1)
	person := servertest.NewPerson(s.idp.url, demoidp.Ada)
	person.HTTP.Transport = f.plain.Transport
	arrival, err := person.Visit(t.Context(), link, "allow")
	if err != nil {
		t.Fatal(err)
	}
	told := sessionOf(t, arrival)
	if got, _, _ := strings.Cut(told, "."); got != session {
		t.Fatal("the application is told of another session")
	}
	f.front.only(2)
	if err := s.complete(told, jwt); err != nil {
		t.Fatal(err)
	}
	for i := range f.replicas {
		f.front.only(i)
		if name := s.whose(s.access(token)); name != "Ada Lovelace" {
			t.Errorf("replica %d gives the token of %s", i+1, name)
		}
	}

	// A replica without the key, or with another one, does not start.
	elsewhere := filepath.Join(t.TempDir(), "data")
	other := filepath.Join(t.TempDir(), "other-key")
	if err := seal.CreateFileKey(other); err != nil {
		t.Fatal(err)
	}
	for want, flags := range map[string][]string{
		"with --key-file":                  {"--data", elsewhere, "--database-url", f.database},
		"The database was sealed with the": {"--data", elsewhere, "--database-url", f.database, "--key-file", other},
		"another onbehalf is running on":   {"--data", f.replicas[0].data, "--database-url", f.database, "--key-file", f.keyFile},
	} {
		_, said, code := command(t, os.Environ(), onbehalfBinary, append([]string{"serve", "--addr", "127.0.0.1:0"}, flags...)...)
		if code != 1 || !strings.Contains(said, want) || strings.Contains(said, f.database) {
			t.Errorf("exit %d: %s", code, said)
		}
	}

	// A folder is not given to another database, which would overwrite its root key.
	f.replicas[0].stop()
	if _, said, code := command(t, os.Environ(), onbehalfBinary, "serve", "--addr", "127.0.0.1:0", "--data", f.replicas[0].data); code != 1 || !strings.Contains(said, "name another --data") {
		t.Errorf("exit %d: %s", code, said)
	}
	f.replicas[0].start()

	// What one learns the others know within a second.
	if _, err := f.look.ExecContext(t.Context(), `UPDATE access_keys SET state = 'disabled'`); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1050 * time.Millisecond)
	for i := range f.replicas {
		f.front.only(i)
		if _, err := s.try(t.Context(), token); err == nil {
			t.Errorf("replica %d believes a key that was disabled a second ago", i+1)
		}
	}
	f.proven()
}

// However many callers in however many processes: the provider is asked once.
func TestRefreshStormOverReplicas(t *testing.T) {
	t.Parallel()
	f := startFleet(t, emptyDatabase(t), demoidp.Options{})
	s := f.scene()
	token, before := s.expire(demoidp.Ada)
	s.idp.tokens.hold(400 * time.Millisecond)
	began := time.Now()
	got := f.storm(s, token, stormCallers)
	t.Logf("%d callers over three replicas had the new token after %s", stormCallers, time.Since(began).Round(time.Millisecond))
	for i, token := range got {
		if token == "" || token == before || token != got[0] {
			t.Fatalf("caller %d has no token, the expired one, or another than caller 0", i)
		}
	}
	if requests := s.idp.TokenRequests("refresh_token"); requests != 1 {
		t.Errorf("the provider was asked %d times", requests)
	}
	f.proven()
}

// stormCallers ask at once.
const stormCallers = 1000

func (f *fleet) storm(s *scene, token string, callers int) []string {
	var waiting sync.WaitGroup
	got := make([]string, callers)
	for i := range callers {
		waiting.Go(func() {
			out, err := s.try(f.t.Context(), token)
			switch {
			case err != nil:
				f.t.Errorf("caller %d: %v", i, err)
			case out.AccessToken != nil:
				got[i] = *out.AccessToken
			}
		})
	}
	waiting.Wait()
	return got
}

// The replica that has the lease dies after the provider has rotated the token:
// one more request, which a provider with a grace period answers. A strict one
// does not; then the grant is kept, and the person is asked.
func TestReplicaKilledDuringRefresh(t *testing.T) {
	t.Parallel()
	for _, grace := range []time.Duration{0, 5 * time.Minute} {
		t.Run("grace "+grace.String(), func(t *testing.T) {
			t.Parallel()
			f := startFleet(t, emptyDatabase(t), demoidp.Options{ReuseGrace: grace})
			s := f.scene()
			token, before := s.expire(demoidp.Ada)
			f.front.only(0)
			reached := f.slow.down("/token", true)
			failed := make(chan error, 1)
			go func() { _, err := s.try(t.Context(), token); failed <- err }()
			select {
			case <-reached:
			case <-time.After(time.Minute):
				t.Fatal("the provider was not asked")
			}
			f.replicas[0].kill()
			if err := <-failed; err == nil {
				t.Fatal("a request whose replica was killed has an answer")
			}
			f.front.only(1, 2)
			ended := make(chan []string, 1)
			go func() { ended <- f.storm(s, token, stormCallers) }()
			if !long() { // the seconds of the lease pass in the database
				time.Sleep(500 * time.Millisecond)
				if n := s.idp.TokenRequests("refresh_token"); n != 1 {
					t.Errorf("%d requests while the dead replica has the lease", n)
				}
				if _, err := f.look.ExecContext(t.Context(), `UPDATE grants SET lease_until = 1`); err != nil {
					t.Fatal(err)
				}
			}
			for i, got := range <-ended {
				if refreshed := got != "" && got != before; refreshed != (grace > 0) {
					t.Fatalf("caller %d has a new token: %t", i, refreshed)
				}
			}
			if n := s.idp.TokenRequests("refresh_token"); n != 2 {
				t.Errorf("the provider was asked %d times", n)
			}
			want := map[bool]string{true: "active", false: "needs-consent"}[grace > 0]
			if n := f.count(`SELECT count(*) FROM grants WHERE state = '` + want + `'`); n != 1 {
				t.Errorf("the grant is not kept as %s", want)
			}
			f.proven()
		})
	}
}

// Replicas die and come back; the others go on, and nothing that was answered is lost.
func TestReplicasKilledAnywhere(t *testing.T) {
	t.Parallel()
	f := startFleet(t, emptyDatabase(t), demoidp.Options{})
	rounds := 4
	if long() {
		rounds = 40
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	for round := range rounds {
		victim := random.IntN(len(f.replicas))
		var stories sync.WaitGroup
		var ended, cut atomic.Int64
		for i := range 3 {
			stories.Go(func() {
				for n := range 2 {
					p := *f.replicas[0]
					p.url = f.url
					j := startJourney(t, &p, f.idp, &receipts{}, fmt.Sprintf("r%d-t%d-n%d", round, i, n))
					j.person.HTTP.Transport = f.plain.Transport
					if err := j.travel(t.Context(), legs); err == nil {
						ended.Add(1)
					} else {
						cut.Add(1)
					}
				}
			})
		}
		time.Sleep(time.Duration(random.IntN(150)) * time.Millisecond)
		f.replicas[victim].kill()
		stories.Wait()
		// The two that are left need no repair.
		p := *f.replicas[(victim+1)%3]
		j := startJourney(t, &p, f.idp, &receipts{}, fmt.Sprintf("r%d-after", round))
		j.person.HTTP.Transport = f.plain.Transport
		if err := j.travel(t.Context(), legs); err != nil || j.greeting == "" {
			t.Fatalf("round %d: without replica %d there is no greeting: %v", round, victim+1, err)
		}
		t.Logf("round %d: %d stories ended, %d were cut off", round, ended.Load(), cut.Load())
		f.replicas[victim].start()
	}
	f.proven()
}

// PostgreSQL goes away under load and comes back: until then a clear error of the
// model and a ping that says so, after that service, with no replica restarted.
func TestReplicasOutliveTheDatabase(t *testing.T) {
	t.Parallel()
	cluster := startCluster(t)
	f := startFleet(t, cluster.url(), demoidp.Options{})
	s := f.scene()
	jwt := s.signIn(demoidp.Ada)
	token := s.speakFor(s.agent, jwt)
	link, _ := s.link(token)
	person := servertest.NewPerson(s.idp.url, demoidp.Ada)
	person.HTTP.Transport = f.plain.Transport
	arrival, err := person.Visit(t.Context(), link, "allow")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.complete(sessionOf(t, arrival), jwt); err != nil {
		t.Fatal(err)
	}
	stop, stopped := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var good, refusals atomic.Int64
	for range 8 {
		load.Go(func() {
			for stop.Err() == nil {
				_, err := s.try(stop, token)
				switch {
				case err == nil:
					good.Add(1)
				case stop.Err() == nil:
					refused(t, err, "InternalServerException")
					refusals.Add(1)
				}
			}
		})
	}
	counts := func(n *atomic.Int64) {
		t.Helper()
		for before, deadline := n.Load(), time.Now().Add(time.Minute); n.Load() < before+8; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the load stands still")
			}
		}
	}
	counts(&good)
	time.Sleep(300 * time.Millisecond)
	cluster.control("stop", "-m", "fast")
	counts(&refusals)
	f.front.only(0)
	if status := f.ping(); status != http.StatusServiceUnavailable {
		t.Errorf("ping says %d while the database is away", status)
	}
	time.Sleep(300 * time.Millisecond)
	cluster.control("start")
	began := time.Now()
	for i := range f.replicas {
		f.front.only(i)
		for f.ping() != http.StatusOK {
			if time.Since(began) > time.Minute {
				t.Fatalf("replica %d does not come back", i+1)
			}
			time.Sleep(20 * time.Millisecond)
		}
		s.access(token)
	}
	t.Logf("all replicas serve %s after the database is back", time.Since(began).Round(time.Millisecond))
	f.front.only(0, 1, 2)
	counts(&good)
	stopped()
	load.Wait()
	t.Logf("%d answers, %d refusals", good.Load(), refusals.Load())
	f.proven()
}
