package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
)

// keyboard tells when the person presses Enter. It reads only while somebody
// waits for that, and with one goroutine at most, however often it is asked:
// what is typed for another program stays there for it.
type keyboard struct {
	in io.Reader

	mu      sync.Mutex
	buffer  *bufio.Reader
	reading bool
	waiter  chan error // of who asked last
}

// listen yields one value at the next Enter: nil, or io.EOF where nobody can press it any more.
func (k *keyboard) listen() <-chan error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiter = make(chan error, 1)
	if k.buffer == nil {
		k.buffer = bufio.NewReader(k.in)
	}
	if !k.reading { // a read that an earlier question began serves this one, too
		k.reading = true
		go k.read()
	}
	return k.waiter
}

func (k *keyboard) read() {
	_, err := k.buffer.ReadString('\n')
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reading = false
	k.waiter <- err // has room for one, and nobody else sends
}

// enter waits for Enter. Where standard input has ended, that is an error.
func (s *story) enter(ctx context.Context, pressed <-chan error) error {
	select {
	case err := <-pressed:
		if err != nil && !errors.Is(err, io.EOF) {
			return &ConfigurationError{Problem{What: "the keyboard cannot be read", Cause: err, Hint: "Run it at a terminal."}}
		} else if err != nil {
			return &ConfigurationError{Problem{What: "nobody can press Enter: the input has ended", Hint: "Run it at a terminal."}}
		}
		s.entered()
		return nil
	case <-ctx.Done():
		return stopped()
	}
}

// show prints the link, opens it where there is a display, and lets the demo
// person consent where that was asked for.
func (s *story) show(ctx context.Context, link string) error {
	s.step(6, "greeting", "the agent needs your consent. Open: %s", link)
	wait := minutes(s.Timeout)
	switch {
	case s.AutoConsent:
		s.more("--auto-consent: %s signs in at the demo provider and allows it", demoPersonID)
		s.begin("waiting for you (%s) …", wait)
		return s.person.visit(ctx, link)
	case s.person != nil && s.playable() && s.Terminal:
		if s.demoSignIn() {
			s.more("(choose %s there: she is the one who asked)", demoPersonName)
		}
		s.process.browse(link)
		pressed := s.keyboard.listen()
		s.begin("waiting for you (%s; Enter lets the demo person consent) …", wait)
		s.cleaner.running.Go(func() {
			if s.enter(ctx, pressed) != nil {
				return // the person consents in the browser, or nobody does
			}
			s.begin("%s signs in at the demo provider and allows it …", demoPersonID)
			if err := s.person.visit(ctx, link); err != nil && ctx.Err() == nil {
				s.more("%s", safe(err))
			}
		})
	default:
		s.process.browse(link)
		s.begin("waiting for you (%s) …", wait)
	}
	return nil
}

// openBrowser opens a link where there is a display to show it on. The link is
// always printed as well, so that it failed is no matter.
func openBrowser(link string) {
	var command *exec.Cmd
	switch {
	case runtime.GOOS == "darwin":
		command = exec.Command("open", link)
	case runtime.GOOS == "windows":
		command = exec.Command("rundll32", "url.dll,FileProtocolHandler", link)
	case os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != "":
		command = exec.Command("xdg-open", link)
	default:
		return
	}
	if command.Start() == nil {
		go func() { _ = command.Wait() }()
	}
}
