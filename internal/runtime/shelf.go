package runtime

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// served is a runtime as calls of one endpoint find it: read and unsealed once,
// immutable but for the time of its last check.
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

	checked atomic.Int64 // when the endpoint was last known to serve this version, in nanoseconds since the shelf's start
}

// freshness is how long a runtime is served without a look at its endpoint. A
// change made through this process is seen at once, one made through another
// replica within this time; a look costs one indexed read of one number.
const freshness = time.Second

// maxServed is how many bytes of settings are kept in memory, roughly.
const maxServed = 64 << 20

// shelf keeps what is served, bounded by weight, so that a call costs neither a
// read of the database nor an unsealing.
type shelf struct {
	service *Service
	start   time.Time
	holds   time.Duration // freshness, but for tests
	kept    *otter.Cache[reference, *served]
	loads   singleflight.Group
	drops   atomic.Uint64
	reads   atomic.Uint64 // for tests
}

func newShelf(s *Service) *shelf {
	return &shelf{service: s, start: time.Now(), holds: freshness, kept: otter.Must(&otter.Options[reference, *served]{
		MaximumWeight: maxServed,
		Weigher:       func(_ reference, at *served) uint32 { return at.weight },
	})}
}

func (h *shelf) age() int64 { return int64(time.Since(h.start)) }

// drop forgets everything: this process has just changed a runtime or an
// endpoint, which is rare, and calls are not.
func (h *shelf) drop() {
	h.drops.Add(1) // what is being read now may be what was before, and is not kept
	h.kept.InvalidateAll()
}

// find answers what a call names; fault.NotFound.
func (h *shelf) find(ctx context.Context, named reference) (*served, error) {
	if at, ok := h.kept.GetIfPresent(named); ok && h.age()-at.checked.Load() < int64(h.holds) {
		return at, nil
	}
	// All who wait share one load, so it must not end with the first one's
	// request; who comes after a change does not join a load from before it.
	key := strings.Join([]string{named.account, named.id, named.endpoint, text(int64(h.drops.Load()))}, "\x00")
	loaded, err, _ := h.loads.Do(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return h.load(ctx, named)
	})
	if err != nil {
		return nil, err
	}
	return loaded.(*served), nil
}

func (h *shelf) load(ctx context.Context, named reference) (*served, error) {
	began, drops := h.age(), h.drops.Load()
	kept, _ := h.kept.GetIfPresent(named)
	h.reads.Add(1)
	var fresh *served
	err := h.service.db.View(ctx, func(tx *store.Tx) error {
		if kept != nil {
			var version int64
			err := tx.QueryRow("SELECT version FROM agent_runtime_endpoints WHERE runtime_id = $1 AND name = $2", named.id, named.endpoint).Scan(&version)
			if err != nil && !errors.Is(err, store.ErrNoRows) {
				return fault.Wrap(err, "checking an endpoint")
			}
			if err == nil && version == kept.version.version {
				callback, err := h.service.callback(tx, kept.runtime)
				if err != nil {
					return err
				}
				if callback == kept.callback {
					fresh = kept
					return nil
				}
			}
		}
		var err error
		fresh, err = h.service.read(tx, named)
		return err
	})
	if err != nil {
		if fault.Is(err, fault.NotFound) {
			h.kept.Invalidate(named)
		}
		return nil, err
	}
	fresh.checked.Store(began)
	if fresh != kept && h.drops.Load() == drops {
		h.kept.Set(named, fresh)
		if h.drops.Load() != drops {
			h.kept.Invalidate(named)
		}
	}
	return fresh, nil
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
