package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// workFolder is where builds and the agent's state lie; Git is told to pass it over.
const workFolder = ".onbehalf"

// work makes the folder for builds, or something below it, and answers its path.
func (a *Agent) work(below ...string) (string, error) {
	base := filepath.Join(a.Folder(), workFolder)
	folder := filepath.Join(append([]string{base}, below...)...)
	for _, path := range []string{base, folder} { // a folder that came with somebody's agent leads nowhere else
		if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return "", fmt.Errorf("%s is a link: remove it, and a folder takes its place", path)
		}
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	ignore := filepath.Join(base, ".gitignore")
	if isFile(ignore) {
		return folder, nil
	}
	return folder, writeFile(ignore, []byte("*\n"), 0o600)
}

// artifact is a package, and how the platform starts it.
type artifact struct {
	made
	runtime    string   // as codeConfiguration has it
	entryPoint []string // likewise
}

// executable is the platform's own kind of runtime, beside AWS's.
const executable = "EXECUTABLE"

// launcher is the program that starts a command line: an entry point is a file and an argument at most.
const launcher = "onbehalf-start"

// build makes the agent's package.
func (a *Agent) build(ctx context.Context, progress progress) (out artifact, err error) {
	if a.Build != "" {
		progress.say("building", a.Build)
		if err := a.run(ctx, progress, command{folder: a.Folder(), line: shell(a.Build)}); err != nil {
			return out, err
		}
	}
	z := newArchive()
	switch a.Language {
	case Python:
		out.runtime, out.entryPoint, err = a.buildPython(ctx, progress, z)
	case Node:
		out.runtime, out.entryPoint, err = a.buildNode(ctx, progress, z)
	case Go:
		out.runtime, out.entryPoint, err = a.buildGo(ctx, progress, z)
	case Command:
		out.runtime, out.entryPoint = executable, []string{launcher}
		if err = a.addOwn(z); err == nil {
			z.addProgram(launcher, []byte("#!/bin/sh\nexec "+a.Entrypoint+"\n"))
		}
	}
	if err != nil {
		return out, err
	}
	folder, err := a.work()
	if err != nil {
		return out, err
	}
	if len(z.secrets) > 0 {
		progress.say("left out", listed(z.secrets)+": they look like secrets. The agent gets its keys from the vault")
	}
	if len(z.strange) > 0 {
		progress.say("left out", listed(z.strange)+": no files of this folder")
	}
	if out.made, err = z.write(filepath.Join(folder, a.Name+".zip")); err != nil {
		return out, err
	}
	progress.say("packaged", fmt.Sprintf("%d files, %s, SHA-256 %s", out.files, bytesText(out.size), out.sha256))
	return out, nil
}

func (a *Agent) addOwn(z *archive) error {
	x, err := a.exclusions()
	if err != nil {
		return err
	}
	return z.addFolder(a.Folder(), x)
}

// listed is some names, and how many more.
func listed(names []string) string {
	const shown = 20
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
}

// command is a program that a build runs.
type command struct {
	folder string
	line   []string
	also   []string // NAME=value
}

func shell(line string) []string { return []string{"sh", "-c", line} }

// BuildError is a build that failed, with what it printed.
type BuildError struct {
	Command string
	Output  string // the end of it, where it is very long
	Log     string // the file that holds all of it
	Err     error
}

func (e *BuildError) Error() string { return fmt.Sprintf("%s failed: %v", e.Command, e.Err) }

// Unwrap is why.
func (e *BuildError) Unwrap() error { return e.Err }

// run runs a build's command. What it prints goes to build.log, to whoever
// watches, and into the error.
func (a *Agent) run(ctx context.Context, progress progress, c command) error {
	folder, err := a.work()
	if err != nil {
		return err
	}
	log, err := createAnew(filepath.Join(folder, "build.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	output := &outputTail{}
	to := io.MultiWriter(log, output, &lineWriter{each: func(line string) { progress.output(line) }})
	run := exec.CommandContext(ctx, c.line[0], c.line[1:]...)
	run.Dir, run.Env, run.Stdout, run.Stderr = c.folder, append(os.Environ(), c.also...), to, to
	run.WaitDelay = time.Second // a child that does not heed Ctrl-C may hold its output open
	err = run.Run()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%s is not on this machine", c.line[0])
	case err != nil && !errors.Is(err, exec.ErrWaitDelay): // which is a build that went well and left something running
		return &BuildError{Command: strings.Join(c.line, " "), Output: output.text(), Log: log.Name(), Err: err}
	}
	return nil
}

// createAnew makes a file in the place of whatever was there, and follows no link.
func createAnew(file string) (*os.File, error) {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

// removeLink takes a link away that a program would be written through.
func removeLink(file string) error {
	if info, err := os.Lstat(file); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return nil //nolint:nilerr // nothing is there
	}
	return os.Remove(file)
}

// outputTail keeps the end of what is written.
type outputTail struct {
	mu   sync.Mutex
	kept []byte
	cut  bool
}

const longestOutput = 64 << 10

func (o *outputTail) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.kept = append(o.kept, p...); len(o.kept) > longestOutput {
		o.kept, o.cut = bytes.Clone(o.kept[len(o.kept)-longestOutput:]), true
	}
	return len(p), nil
}

func (o *outputTail) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := strings.ToValidUTF8(string(o.kept), string(utf8.RuneError))
	if o.cut {
		_, text, _ = strings.Cut(text, "\n")
		text = "…\n" + text
	}
	return text
}

// lineWriter hands on what is written, line by line.
type lineWriter struct {
	each func(string)
	mu   sync.Mutex
	rest []byte
}

const longestLine = 256 << 10

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		at := bytes.IndexByte(w.rest, '\n')
		if at < 0 && len(w.rest) < longestLine {
			return len(p), nil
		}
		if at < 0 {
			at = len(w.rest) - 1
		}
		w.each(strings.ToValidUTF8(strings.TrimRight(string(w.rest[:at]), "\r"), string(utf8.RuneError)))
		w.rest = w.rest[at+1:]
	}
}
