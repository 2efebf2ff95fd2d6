package server

import (
	"context"
	"net/http"
	"path/filepath"
	"sync"

	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/runtime"
	"github.com/onbehalf/onbehalf/internal/runtime/process"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/wire"
)

// Init is the first line of every main, and of TestMain: a session's first process
// is this executable again, and Init is where it turns into that. It returns in all others.
func Init() { process.Init() }

// openAgents makes the room of hosted agents. What this machine can do for
// sessions is found out beside the start, which does not wait for it.
func (s *Server) openAgents(running context.Context, k *seal.Keeper, i *identity.Service, a *auth.Authenticator, g *gate.Gate, p *policy.Engine) *runtime.Service {
	driver := sync.OnceValues(func() (runtime.Driver, error) { return process.New(running) })
	s.agents = runtime.New(s.db, k, i, a, g, runtime.Options{
		Region: s.config.Region, PublicURL: s.url, Folder: filepath.Join(s.folder.path, "agents"),
		Driver:    driver,
		Platform:  http.NotFoundHandler(),
		Proxy:     http.NotFoundHandler(),
		Refuse:    wire.WriteErrorOf,
		CheckRole: roleChecker(a, p), Deleted: deletePolicy(p),
	})
	return s.agents
}
