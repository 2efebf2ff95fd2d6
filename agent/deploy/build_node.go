package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// nodeRuntime is the only one that the model has; a platform runs it with the Node.js it has.
const nodeRuntime = "NODE_22"

// buildNode packages the folder with what package.json asks for. That is installed
// in a folder of its own: the developer's node_modules keeps its tools.
func (a *Agent) buildNode(ctx context.Context, progress progress, z *archive) (kind string, entryPoint []string, err error) {
	modules, err := a.installNode(ctx, progress)
	if err != nil {
		return "", nil, err
	}
	if err := a.addOwn(z); err != nil {
		return "", nil, err
	}
	if modules != "" {
		err = z.addTree(modules, "node_modules")
	}
	return nodeRuntime, []string{a.Entrypoint}, err
}

// installNode answers the folder with the modules; "" where there are none.
func (a *Agent) installNode(ctx context.Context, progress progress) (string, error) {
	names := []string{"package.json", "package-lock.json", "npm-shrinkwrap.json"}
	if !isFile(filepath.Join(a.Folder(), names[0])) {
		return "", nil
	}
	folder, known, err := a.cache("node", "", names)
	if err != nil {
		return "", err
	}
	modules := filepath.Join(folder, "node_modules")
	if known {
		progress.say("modules", "as before: package.json and its lock file have not changed")
		return existing(modules), nil
	}
	for _, name := range append(names, ".npmrc") { // .npmrc may open a private registry; it stays here
		content, err := readOwn(filepath.Join(a.Folder(), name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err = errors.Join(err, os.WriteFile(filepath.Join(folder, name), content, 0o600)); err != nil {
			return "", err
		}
	}
	defer os.Remove(filepath.Join(folder, ".npmrc"))
	install := "install"
	if isFile(filepath.Join(folder, names[1])) || isFile(filepath.Join(folder, names[2])) {
		install = "ci"
	}
	progress.say("modules", "npm "+install+" --omit=dev")
	err = a.run(ctx, progress, command{folder: folder, line: []string{"npm", install, "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"}})
	if err != nil {
		return "", err
	}
	_ = os.Remove(filepath.Join(modules, ".package-lock.json")) // names the time of the install
	if err := markDone(folder); err != nil {
		return "", fmt.Errorf("keeping what was installed: %w", err)
	}
	return existing(modules), nil
}

func existing(folder string) string {
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return ""
	}
	return folder
}
