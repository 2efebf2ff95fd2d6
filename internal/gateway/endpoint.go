package gateway

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// endpoint is a gateway as it is served: read from the database once, compiled,
// immutable.
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

const (
	maxEndpoints = 128 << 20 // bytes of compiled gateways kept in memory, roughly
	toolsPerPage = 100
)

// newShelf keeps endpoints, each under its gateway's id, whoever's it is: the MCP
// path names nothing else.
func newShelf(s *Service) *store.Shelf[string, *endpoint] {
	return store.NewShelf(s.db, store.Shelving[string, *endpoint]{
		Room:   maxEndpoints,
		Weight: func(e *endpoint) uint32 { return e.weight },
		Make:   s.read,
		Holds:  holds,
	})
}

// holds reports whether the gateway still has the version that the endpoint was made of.
func holds(tx *store.Tx, id string, e *endpoint) (bool, error) {
	var version int64
	err := tx.QueryRow("SELECT version FROM gateways WHERE id = $1", id).Scan(&version)
	if errors.Is(err, store.ErrNoRows) {
		return false, nil
	}
	return version == e.version, fault.Wrap(err, "checking a gateway's version")
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
