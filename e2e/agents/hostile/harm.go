package main

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// breakOff says one thing, and is gone.
func breakOff() iter.Seq[string] {
	return func(yield func(string) bool) {
		yield("so far")
		time.Sleep(50 * time.Millisecond) // so that it has left
		os.Exit(5)
	}
}

// fork starts children that start children, until there is no place for more.
func fork() (any, error) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "HOSTILE=child")
	if err := child.Start(); err != nil {
		return nil, err
	}
	most := 0
	for full := 0; full < 20; time.Sleep(50 * time.Millisecond) {
		now := len(processes())
		if most = max(most, now); now <= most {
			full++
		}
	}
	return most, nil
}

// forkOn is a child: it never stops trying.
func forkOn() {
	for {
		child := exec.Command(os.Args[0])
		child.Env = os.Environ()
		_ = child.Start()
		time.Sleep(10 * time.Millisecond)
	}
}

// fillMemory takes 1 GB, and uses it: without a limit a machine stands that.
func fillMemory() int {
	var taken [][]byte
	for range 16 {
		piece := make([]byte, 64<<20)
		for i := 0; i < len(piece); i += 4096 {
			piece[i] = 1
		}
		taken = append(taken, piece)
	}
	runtime.KeepAlive(taken)
	return len(taken) * 64
}

// fillDisk writes until it may not; at most 1 GB.
func fillDisk(folder string) (any, error) {
	file, err := os.Create(filepath.Join(folder, "full"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	piece, written := make([]byte, 1<<20), 0
	for written < 1<<30 {
		n, err := file.Write(piece)
		written += n
		if err != nil {
			return map[string]any{"megabytes": written >> 20, "error": err.Error()}, nil
		}
	}
	return nil, errors.New("nothing stopped it")
}

// burn keeps processors busy for a while and tells how much it got, in milliseconds.
func burn(in payload) string {
	end := time.Now().Add(time.Duration(in.Millis) * time.Millisecond)
	done := make(chan int)
	for range in.Count {
		go func() {
			rounds := 0
			for time.Now().Before(end) {
				rounds++
			}
			done <- rounds
		}()
	}
	for range in.Count {
		<-done
	}
	return fmt.Sprint(in.Count, " burned")
}
