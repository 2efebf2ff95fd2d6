package servertest_test

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"pgregory.net/rapid"

	"github.com/onbehalf/onbehalf/client"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
	"github.com/onbehalf/onbehalf/internal/store/storetest"
)

// TestNothingCrosses has two accounts, in which everything is called the same,
// do whatever comes to mind, in any order: ask, consent, complete for others,
// take back, delete and make anew. A model (isolation_model_test.go) says what
// each is to be answered; a token says for whom it was made. No token, key or
// record ever comes to another user, workload, provider or account.
//
// A run is 100 sequences, with ONBEHALF_LONG=1 it is 10,000; -rapid.seed repeats one and
// -rapid.checks says how many.
func TestNothingCrosses(t *testing.T) {
	checks := 100
	if testing.Short() {
		checks = 10
	}
	if os.Getenv("ONBEHALF_LONG") != "" {
		checks = 10_000
	}
	if given := flag.Lookup("rapid.checks"); given.Value.String() != given.DefValue {
		checks, _ = strconv.Atoi(given.Value.String()) // flag has parsed it
	}
	if flag.Lookup("rapid.seed").Value.String() == "0" {
		setFlag(t, "rapid.seed", fmt.Sprint(uint64(time.Now().UnixNano())))
	}
	setFlag(t, "rapid.checks", fmt.Sprint(checks))
	t.Logf("%d sequences of operations, seed %s", checks, flag.Lookup("rapid.seed").Value)

	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			if engine == "postgres" && os.Getenv(storetest.Variable) == "" {
				t.Skipf("%s is not set", storetest.Variable)
			}
			if engine == "postgres" { // differs in its locks, not in its statements
				setFlag(t, "rapid.checks", fmt.Sprint(max(10, checks/10)))
			}
			h := newHouse(t, engine)
			sequence, operations := 0, 0
			rapid.Check(t, func(t *rapid.T) {
				sequence++
				operations += h.tell(t, sequence)
			})
			t.Logf("%s: %d sequences, %d operations", engine, sequence, operations)
		})
	}
}

func setFlag(t *testing.T, name, value string) {
	before := flag.Lookup(name).Value.String()
	if err := flag.Set(name, value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = flag.Set(name, before) })
}

// house is the platform of the property test, and who may call it.
type house struct {
	*servertest.Platform
	mint     *mint
	accounts []*renter
	jwt      map[string]string // of people at the demo provider, by name
}

// renter is an account and its clients.
type renter struct {
	name    string
	control *bedrockagentcorecontrol.Client
	data    *bedrockagentcore.Client
	own     *client.Client
}

func newHouse(t *testing.T, engine string) *house {
	t.Helper()
	h := &house{mint: startMint(t), jwt: map[string]string{}}
	h.Platform = servertest.Start(t, func(c *server.Config) {
		c.LogLevel = "error"
		c.EgressAllow = append(c.EgressAllow, h.mint.host)
		if engine == "postgres" {
			c.DatabaseURL = secret.New(storetest.Postgres(t))
		}
	})
	for _, person := range []string{demoidp.Ada, demoidp.Grace} {
		h.jwt[person] = h.UserToken(t, person)
	}
	operator, err := server.OpenOperator(t.Context(), server.Storage{Data: h.Config.Data, DatabaseURL: h.Config.DatabaseURL})
	if err != nil {
		t.Fatal(err)
	}
	other, err := operator.CreateAccount(t.Context(), "111111111111")
	if err != nil {
		t.Fatal(err)
	}
	if err := operator.Close(); err != nil {
		t.Fatal(err)
	}
	config := h.AWS.Copy()
	config.Credentials = credentials.NewStaticCredentialsProvider(other.ID, other.Secret.Reveal(), "")
	for name, c := range map[string]aws.Config{server.DefaultAccount: h.AWS, "111111111111": config} {
		h.accounts = append(h.accounts, &renter{
			name: name, control: bedrockagentcorecontrol.NewFromConfig(c), data: bedrockagentcore.NewFromConfig(c), own: client.New(c),
		})
	}
	if h.accounts[0].name != server.DefaultAccount {
		h.accounts[0], h.accounts[1] = h.accounts[1], h.accounts[0]
	}
	return h
}

// tell tells one sequence of operations on names of its own, and compares at its end all that there is.
func (h *house) tell(t *rapid.T, sequence int) (operations int) {
	m := newModel(h, t, sequence)
	m.prepare()
	steps := map[string]func(*rapid.T){
		"": func(*rapid.T) {}, "ask": m.ask, "consent": m.consent, "complete for another": m.completeForAnother, "complete again": m.completeAgain,
		"force": m.force, "machine": m.machine, "api key": m.apiKey, "change api key": m.changeKey, "borrow a token": m.borrow,
		"client changes": m.changeClient, "secret changes": m.changeSecret, "workload goes": m.dropWorkload, "provider goes": m.dropProvider,
		"user takes back": m.takeBack, "list": m.list, "expire": m.expire,
	}
	counted := map[string]func(*rapid.T){}
	for name, step := range steps {
		counted[name] = func(t *rapid.T) {
			operations++
			m.t = t
			step(t)
		}
	}
	t.Repeat(counted)
	m.t = t
	m.compare()
	return operations
}

// serial numbers what the mint makes.
type serial struct {
	mu   sync.Mutex
	last int
}

func (s *serial) next() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	return s.last
}

// tokenOf reads what the mint wrote on a token: "kind.client.person.number".
func tokenOf(token string) (kind, client, person string) {
	parts := strings.SplitN(token, ".", 4)
	if len(parts) < 4 {
		return token, "", ""
	}
	return parts[0], parts[1], parts[2]
}
