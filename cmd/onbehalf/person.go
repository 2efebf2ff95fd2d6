package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// What a command does when a person sits at the terminal, and leaves out when
// none does: questions, secrets that are typed, signs of life.

// screen reports whether a person reads w, and how wide it is.
func screen(w io.Writer) (width int, is bool) {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	return width, true
}

// colored reports whether w may have colours: https://no-color.org.
func colored(w io.Writer) bool {
	_, is := screen(w)
	return is && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// keyboard is the terminal's file number where a person can answer a question.
func (t *terminal) keyboard() (int, bool) {
	file, ok := t.in.(*os.File)
	_, seen := screen(t.err)
	if !ok || !seen || !term.IsTerminal(int(file.Fd())) {
		return 0, false
	}
	return int(file.Fd()), true
}

// waiting shows what is awaited, after a second, until the function that it
// returns is called.
func (t *terminal) waiting(what string) func() {
	if _, is := screen(t.err); !is {
		return func() {}
	}
	done, shown := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(shown)
		select {
		case <-time.After(time.Second):
			fmt.Fprintf(t.err, "%s …", plain(what))
			<-done
			fmt.Fprint(t.err, "\r\x1b[K")
		case <-done:
		}
	}()
	return func() { close(done); <-shown }
}

// errStopped is a question that Ctrl-C answered.
var errStopped = errors.New("stopped")

// sure asks before something that cannot be taken back. Where nobody can answer, --yes must have.
func (t *terminal) sure(ctx context.Context, yes bool, question string) error {
	if yes {
		return nil
	}
	if _, can := t.keyboard(); !can {
		return usageError{hinted{errors.New("this cannot be taken back, and nobody is here to be asked"), "add --yes"}}
	}
	fmt.Fprintf(t.err, "%s [y/N] ", plain(question))
	answer, err := t.line(ctx, func() ([]byte, error) {
		line, err := bufio.NewReader(t.in).ReadString('\n')
		return []byte(line), err
	})
	if err != nil {
		return err
	}
	if word := strings.ToLower(strings.TrimSpace(string(answer))); word != "y" && word != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}

// line reads one line, and leaves the terminal as it was when Ctrl-C comes instead.
func (t *terminal) line(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	fd, _ := t.keyboard()
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	type outcome struct {
		line []byte
		err  error
	}
	answered := make(chan outcome, 1)
	go func() {
		line, err := read()
		answered <- outcome{line, err}
	}()
	select {
	case <-ctx.Done():
		_ = term.Restore(fd, before)
		fmt.Fprintln(t.err)
		return nil, errStopped
	case o := <-answered:
		return o.line, o.err
	}
}

// typed reads a line that is not shown. The terminal goes silent before the
// question is put, so that what is typed or pasted ahead is not shown either.
func (t *terminal) typed(ctx context.Context, fd int, question string) ([]byte, error) {
	return t.line(ctx, func() ([]byte, error) {
		before, err := term.MakeRaw(fd)
		if err != nil {
			return nil, err
		}
		defer func() { _ = term.Restore(fd, before) }()
		line, err := term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{t.in, t.err}, "").ReadPassword(question)
		if errors.Is(err, io.EOF) { // Ctrl-C is a key here, and Ctrl-D
			return nil, errStopped
		}
		return []byte(line), err
	})
}

// longestSecret is far beyond what any provider hands out.
const longestSecret = 64 << 10

// secret reads a secret from a file, from standard input for "-", or, where
// neither is named, from the person at the terminal, without showing it. It is
// never an argument: those are in the shell's history and in the process list.
// The flag is named in errors.
func (t *terminal) secret(ctx context.Context, flag, path, what string) (string, error) {
	var content []byte
	var err error
	fd, can := t.keyboard()
	switch {
	case path != "" && path != "-":
		content, err = readSecretFile(path)
	case can:
		content, err = t.typed(ctx, fd, plain(what)+" (not shown): ")
	case path == "-":
		content, err = io.ReadAll(io.LimitReader(t.in, longestSecret+1))
	default:
		return "", usageError{hinted{fmt.Errorf("the %s is missing", strings.ToLower(what[:1])+what[1:]), flag + " FILE reads it from a file, " + flag + " - from standard input"}}
	}
	if err != nil {
		return "", err
	}
	if len(content) > longestSecret {
		return "", fmt.Errorf("%s: this is too long for a secret", flag)
	}
	value := strings.TrimRight(string(content), "\r\n") // what editors and echo put behind it
	if value == "" {
		return "", fmt.Errorf("%s: the secret is empty", flag)
	}
	return value, nil
}

func readSecretFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, longestSecret+1))
}
