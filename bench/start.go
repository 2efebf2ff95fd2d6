package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// build makes a static binary as users get it.
func build(ctx context.Context, dir, name, source string) (string, error) {
	path := filepath.Join(dir, name)
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, source)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w: %s", source, err, out)
	}
	return path, nil
}

// install copies a program piece by piece.
func install(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(struct{ io.Writer }{out}, struct{ io.Reader }{in})
	return errors.Join(err, out.Close())
}

// benchStart is the time from exec to the first 200 of /ping on existing data,
// and the memory of a server that has started and been asked for a little.
func benchStart(ctx context.Context, s settings) ([]result, error) {
	dir, err := os.MkdirTemp("", "onbehalf-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	built, err := build(ctx, dir, "built", "./cmd/onbehalf")
	if err != nil {
		return nil, err
	}
	// A copy, as an installed program is: of a file that the linker has just written,
	// newer kernels map pieces of 2 MB at a touch, and count up to 10 MB more.
	binary := filepath.Join(dir, "onbehalf")
	if err := install(built, binary); err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	var starts []time.Duration
	var memory []int
	for round := range s.rounds + 1 {
		begin := time.Now()
		c := exec.CommandContext(ctx, binary, "serve", "--addr", address, "--data", filepath.Join(dir, "data"), "--log-level", "error")
		c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
		if err := c.Start(); err != nil {
			return nil, err
		}
		for {
			response, err := http.Get("http://" + address + "/ping")
			if err == nil {
				_ = response.Body.Close()
				if response.StatusCode == http.StatusOK {
					break
				}
			}
			if time.Since(begin) > 10*time.Second {
				return nil, fmt.Errorf("not ready after 10 s")
			}
			time.Sleep(200 * time.Microsecond)
		}
		took := time.Since(begin)
		time.Sleep(1500 * time.Millisecond)
		rss, err := residentMemory(c.Process.Pid)
		if err != nil {
			return nil, err
		}
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
		if round == 0 { // that one made the data
			continue
		}
		starts, memory = append(starts, took), append(memory, rss)
	}
	slices.Sort(starts)
	slices.Sort(memory)
	start, rss := starts[len(starts)/2], memory[len(memory)/2]
	return []result{
		{what: "start to ready on existing data", aim: "at most 50 ms", measured: start.Round(100 * time.Microsecond).String(), met: start <= 50*time.Millisecond},
		{what: "memory at rest (RSS)", aim: "at most 40 MB", measured: fmt.Sprintf("%.1f MB", float64(rss)/1000), met: rss <= 40_000},
	}, nil
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// residentMemory is a process's RSS in kB (1000 bytes).
func residentMemory(pid int) (int, error) { return memoryOf(pid, "VmRSS:") }

// memoryOf is one of the lines of a process's status, in kB.
func memoryOf(pid int, what string) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, what); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			return kib * 1024 / 1000, err
		}
	}
	return 0, fmt.Errorf("no %s", what)
}

// benchSayHello is the whole story with the demo person, after the build.
func benchSayHello(ctx context.Context, s settings) ([]result, error) {
	dir, err := os.MkdirTemp("", "onbehalf-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary, err := build(ctx, dir, "sayhello", "./examples/sayhello")
	if err != nil {
		return nil, err
	}
	var times []time.Duration
	for range s.rounds {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		_, port, _ := net.SplitHostPort(address)
		begin := time.Now()
		c := exec.CommandContext(ctx, binary, "--auto-consent", "--callback-port", port)
		c.Dir = dir
		out, err := c.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Hello, Ada Lovelace!") {
			return nil, fmt.Errorf("sayhello: %v: %s", err, out)
		}
		times = append(times, time.Since(begin))
	}
	slices.Sort(times)
	took := times[len(times)/2]
	return []result{{what: "sayhello with auto-consent, after the build", aim: "at most 2 s", measured: took.Round(time.Millisecond).String(), met: took <= 2*time.Second}}, nil
}
