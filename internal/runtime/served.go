package runtime

import (
	"errors"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// served is a runtime as calls of one endpoint find it: read and unsealed once,
// immutable.
type served struct {
	runtime    *runtimeRow
	arn        string
	endpoint   string
	version    *versionRow
	authorizer *auth.Authorizer // nil: signed requests
	workload   principal.Workload
	speaks     api.ServerProtocol
	host       string   // that the agent is called by
	path       string   // of the agent, that calls go to
	forwarded  []string // headers that callers may send on, as net/http spells them
	callback   string   // where people come back to who consented for the agent; "" for nowhere
	challenge  string   // what who has no token is told; "" without an authorizer
	metadata   []byte   // RFC 9728; nil without an authorizer
	number     string   // the version, for records
	weight     uint32
}

// maxServed is how many bytes of settings are kept in memory, roughly.
const maxServed = 64 << 20

// newShelf keeps what is served, so that a call costs neither a read of the
// database nor an unsealing. A change drops all of it: changes are rare, and
// calls are not.
func newShelf(s *Service) *store.Shelf[reference, *served] {
	return store.NewShelf(s.db, store.Shelving[reference, *served]{
		Room:   maxServed,
		Weight: func(at *served) uint32 { return at.weight },
		Make:   s.read,
		Holds:  s.holds,
	})
}

// holds reports whether the endpoint still serves this version, and people still
// come back to the same page.
func (s *Service) holds(tx *store.Tx, named reference, at *served) (bool, error) {
	var version int64
	err := tx.QueryRow("SELECT version FROM agent_runtime_endpoints WHERE runtime_id = $1 AND name = $2", named.id, named.endpoint).Scan(&version)
	if errors.Is(err, store.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fault.Wrap(err, "checking an endpoint")
	}
	if version != at.version.version {
		return false, nil
	}
	callback, err := s.callback(tx, at.runtime)
	return callback == at.callback, err
}

// read makes it of the rows.
func (s *Service) read(tx *store.Tx, named reference) (*served, error) {
	at := &served{arn: s.arn(named.account, named.id), endpoint: named.endpoint}
	var err error
	if at.runtime, err = findRuntime(tx, named.account, named.id); err != nil {
		return nil, err
	}
	e, err := findEndpoint(tx, named.account, named.id, named.endpoint)
	if err != nil {
		return nil, err
	}
	if at.callback, err = s.callback(tx, at.runtime); err != nil {
		return nil, err
	}
	if at.version, err = s.findVersion(tx, named.account, named.id, e.version); err != nil {
		return nil, err
	}
	settings := &at.version.settings
	if at.authorizer, err = authorizerOf(settings); err != nil {
		return nil, err
	}
	at.workload, at.number = s.workload(at.runtime), text(at.version.version)
	at.speaks, _, at.path = protocol(settings)
	at.host = hostOf(settings)
	at.forwarded = forwardedOf(settings)
	at.weight = 4 << 10
	for name, value := range settings.EnvironmentVariables {
		at.weight += uint32(len(name) + value.Len())
	}
	s.describeAuthorization(at)
	return at, nil
}

// callback is the first return URL of the runtime's own identity: what an SDK's
// decorators take where the agent names none.
func (s *Service) callback(tx *store.Tx, r *runtimeRow) (string, error) {
	own, err := s.identity.Get(tx, r.account, r.workloadID)
	if err != nil || len(own.ReturnURLs) == 0 {
		return "", err
	}
	return own.ReturnURLs[0], nil
}
