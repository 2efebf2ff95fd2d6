package deploy

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// buildGo makes one static program: nothing else goes into the package. Neither the
// folder's place on this machine nor its commit is in it, so that it is the same
// program wherever it is built. What it reads from files, it embeds.
func (a *Agent) buildGo(ctx context.Context, progress progress, z *archive) (kind string, entryPoint []string, err error) {
	goos, goarch := runtime.GOOS, runtime.GOARCH
	if a.Platform != "" {
		goos, goarch, _ = strings.Cut(a.Platform, "/")
	}
	folder, err := a.work()
	if err != nil {
		return "", nil, err
	}
	program := filepath.Join(folder, "agent")
	if err := removeLink(program); err != nil {
		return "", nil, err
	}
	progress.say("building", "go build "+a.Entrypoint+" for "+goos+"/"+goarch)
	err = a.run(ctx, progress, command{
		folder: a.Folder(), line: []string{"go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, a.Entrypoint},
		also: []string{"CGO_ENABLED=0", "GOOS=" + goos, "GOARCH=" + goarch},
	})
	if err != nil {
		return "", nil, err
	}
	if _, err := os.Stat(program); err != nil {
		return "", nil, err
	}
	return executable, []string{"agent"}, z.addFile("agent", program)
}
