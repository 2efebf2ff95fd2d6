package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"slices"
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

// endpoint is a gateway as it is served: read from the database once, compiled,
// immutable but for the time of its last check.
type endpoint struct {
	account, id, arn string
	name             string
	version          int64
	role             string // ARN that the gateway runs under
	workload         principal.Workload
	authorizer       *auth.Authorizer // nil: no inbound authorization
	challenge        string           // what who has no token is told; "" without an authorizer
	metadata         []byte           // RFC 9728; nil without an authorizer
	revisions        []string         // newest first
	instructions     string
	debug            bool // exceptionLevel DEBUG
	pageSize         int  // of tools/list; 0 is all
	tools            []*tool
	byName           map[string]*tool
	weight           uint32

	checked atomic.Int64 // when version was last known to hold, in nanoseconds since the shelf's start
}

// tool is a tool as it is served.
type tool struct {
	name       string // with the target's prefix
	own        string // without
	target     *boundTarget
	definition []byte // its entry in tools/list
}

// boundTarget is a target with what it is called with.
type boundTarget struct {
	Target
	id, name   string
	credential *credential
}

// freshness is how long an endpoint is served without a look at its version.
// A change made through this process is seen at once, one made through another
// replica within this time; a look costs one indexed read of one number. A
// look per call would be exact and cost each call a transaction.
const freshness = time.Second

const (
	maxEndpoints = 128 << 20 // bytes of compiled gateways kept in memory, roughly
	toolsPerPage = 100
)

// shelf keeps endpoints, bounded by weight.
type shelf struct {
	service *Service
	start   time.Time
	holds   time.Duration // freshness, but for tests
	kept    *otter.Cache[string, *endpoint]
	loads   singleflight.Group
	drops   atomic.Uint64
}

func newShelf(s *Service) *shelf {
	return &shelf{service: s, start: time.Now(), holds: freshness, kept: otter.Must(&otter.Options[string, *endpoint]{
		MaximumWeight: maxEndpoints,
		Weigher:       func(_ string, e *endpoint) uint32 { return e.weight },
	})}
}

func (h *shelf) age() int64 { return int64(time.Since(h.start)) }

// drop forgets an endpoint that this process has just changed.
func (h *shelf) drop(id string) {
	h.drops.Add(1) // what is being read now may be what was before, and is not kept
	h.loads.Forget(id)
	h.kept.Invalidate(id)
}

// find is the endpoint of a gateway id, whoever's it is: the MCP path names
// nothing else. fault.NotFound.
func (h *shelf) find(ctx context.Context, id string) (*endpoint, error) {
	if e, ok := h.kept.GetIfPresent(id); ok && h.age()-e.checked.Load() < int64(h.holds) {
		return e, nil
	}
	// All who wait share one load, so it must not end with the first one's request.
	loaded, err, _ := h.loads.Do(id, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return h.load(ctx, id)
	})
	if err != nil {
		return nil, err
	}
	return loaded.(*endpoint), nil
}

func (h *shelf) load(ctx context.Context, id string) (*endpoint, error) {
	began, drops := h.age(), h.drops.Load()
	kept, _ := h.kept.GetIfPresent(id)
	var fresh *endpoint
	err := h.service.db.View(ctx, func(tx *store.Tx) error {
		if kept != nil {
			var version int64
			err := tx.QueryRow("SELECT version FROM gateways WHERE id = $1", id).Scan(&version)
			if err == nil && version == kept.version {
				fresh = kept
				return nil
			}
			if err != nil && !errors.Is(err, store.ErrNoRows) {
				return fault.Wrap(err, "checking a gateway's version")
			}
		}
		var err error
		fresh, err = h.service.read(tx, id)
		return err
	})
	if err != nil {
		if fault.Is(err, fault.NotFound) {
			h.kept.Invalidate(id)
		}
		return nil, err
	}
	fresh.checked.Store(began)
	if fresh != kept && h.drops.Load() == drops {
		h.kept.Set(id, fresh)
	}
	return fresh, nil
}

// read makes an endpoint of a gateway's rows.
func (s *Service) read(tx *store.Tx, id string) (*endpoint, error) {
	g, err := scanGateway(tx.QueryRow("SELECT "+gatewayColumns+" FROM gateways WHERE id = $1", id))
	if errors.Is(err, store.ErrNoRows) {
		return nil, noGateway(id)
	}
	if err != nil {
		return nil, fault.Wrap(err, "reading a gateway")
	}
	e := &endpoint{account: g.account, id: g.id, arn: s.arn(g.account, g.id), name: g.settings.Name, version: g.version, role: g.settings.RoleArn, workload: s.workload(g),
		revisions: revisions, pageSize: toolsPerPage, debug: g.settings.ExceptionLevel == api.ExceptionLevelDebug, byName: map[string]*tool{}, weight: 4 << 10}
	if e.authorizer, err = checkSettings(&g.settings); err != nil {
		return nil, err
	}
	if c := g.settings.ProtocolConfiguration; c != nil && c.Mcp != nil {
		e.configure(c.Mcp)
	}
	s.describeAuthorization(e)
	targets, err := targetsOf(tx, id)
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		if err := s.bind(tx, e, t); err != nil {
			// One target that does not open must not take the others with it.
			slog.ErrorContext(tx.Context(), "a gateway target cannot be served", "gateway", id, "target", t.id, "error", err)
		}
	}
	slices.SortFunc(e.tools, func(a, b *tool) int { return strings.Compare(a.name, b.name) })
	return e, nil
}

func (e *endpoint) configure(c *api.MCPGatewayConfiguration) {
	if len(c.SupportedVersions) > 0 {
		e.revisions = slices.DeleteFunc(slices.Clone(revisions), func(r string) bool { return !slices.Contains(c.SupportedVersions, r) })
	}
	if c.Instructions != nil {
		e.instructions = c.Instructions.Reveal()
	}
	if c.DisableMcpListToolsPagination != nil && *c.DisableMcpListToolsPagination {
		e.pageSize = 0
	}
}

// bind opens a target and names its tools.
func (s *Service) bind(tx *store.Tx, e *endpoint, t *targetRow) error {
	settings, err := s.openTarget(tx, t)
	if err != nil {
		return err
	}
	kind, ok := s.kind(t.kind)
	if !ok {
		return fault.New(fault.NotBuilt, "This server has no targets of kind %s.", t.kind)
	}
	target, err := kind.Open(t.compiled)
	if errors.Is(err, ErrStale) {
		var compiled []byte
		if compiled, err = kind.Compile(settings.TargetConfiguration); err == nil {
			target, err = kind.Open(compiled)
		}
	}
	if err != nil {
		return err
	}
	credential, err := checkTarget(settings)
	if err != nil {
		return err
	}
	bound := &boundTarget{Target: target, id: t.id, name: t.name, credential: credential}
	e.weight += uint32(2 * len(t.compiled))
	for _, described := range target.Tools() {
		made := &tool{name: t.name + separator + described.Name, own: described.Name, target: bound}
		made.definition = appendDefinition(nil, made.name, described)
		e.weight += uint32(2 * len(made.definition))
		e.tools = append(e.tools, made)
		e.byName[made.name] = made
	}
	return nil
}

func appendDefinition(out []byte, name string, t Tool) []byte {
	out = appendText(append(out, `{"name":`...), name)
	if t.Description != "" {
		out = appendText(append(out, `,"description":`...), t.Description)
	}
	return append(append(append(out, `,"inputSchema":`...), t.InputSchema...), '}')
}

// cursorAfter is the last name of a page, so that a list that changes between two
// pages neither repeats nor skips what stays; the bytes in front tell a cursor
// of this gateway from an invented one.
func (e *endpoint) cursorAfter(name string) string {
	return base64.RawURLEncoding.EncodeToString(append(e.cursorMark(name), name...))
}

const cursorMarkSize = 6

func (e *endpoint) cursorMark(name string) []byte {
	sum := sha256.Sum256([]byte(e.arn + "\x00" + name))
	return sum[:cursorMarkSize]
}

var errCursor = errors.New("gateway: a cursor that this gateway did not make")

// page is the tools after a cursor, and the cursor for the rest.
func (e *endpoint) page(cursor string) (page []*tool, next string, err error) {
	first := 0
	if cursor != "" {
		marked, err := base64.RawURLEncoding.DecodeString(cursor)
		if err != nil {
			return nil, "", err
		}
		if len(marked) < cursorMarkSize || !bytes.Equal(e.cursorMark(string(marked[cursorMarkSize:])), marked[:cursorMarkSize]) {
			return nil, "", errCursor
		}
		first, _ = slices.BinarySearchFunc(e.tools, string(marked[cursorMarkSize:]), func(t *tool, name string) int {
			if t.name <= name {
				return -1
			}
			return 1
		})
	}
	rest := e.tools[first:]
	if e.pageSize == 0 || len(rest) <= e.pageSize {
		return rest, "", nil
	}
	page = rest[:e.pageSize]
	return page, e.cursorAfter(page[len(page)-1].name), nil
}
