package main

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// Lines go to whoever asked last, and nothing is read for nobody.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in, keys := io.Pipe()
		k := &keyboard{in: in}
		var taken atomic.Int32 // lines that somebody has read
		typed := func(line string) {
			go func() {
				_, _ = io.WriteString(keys, line)
				taken.Add(1)
			}()
			synctest.Wait()
		}
		typed("before anybody asks\n")
		if taken.Load() != 0 {
			t.Error("somebody reads, and nobody has asked")
		}
		if err := <-k.listen(); err != nil {
			t.Error(err)
		}
		given := k.listen() // whoever asked gave up …
		asked := k.listen() // … and the same read serves the next one
		typed("\n")
		if err := <-asked; err != nil || taken.Load() != 2 {
			t.Errorf("%v, %d lines were taken", err, taken.Load())
		}
		select {
		case <-given:
			t.Error("who gave up is told as well")
		default:
		}
		typed("for another program\n")
		if taken.Load() != 2 {
			t.Error("a line that nobody waits for is taken")
		}
		if err := <-k.listen(); err != nil {
			t.Error(err)
		}
		_ = keys.Close()
		for range 2 {
			if err := <-k.listen(); !errors.Is(err, io.EOF) {
				t.Errorf("got %v", err)
			}
		}
	})
}

// At a terminal the link is opened, and Enter lets the demo person consent.
func TestTerminal(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	s, args := at(p)
	s.terminal = true
	r := s.play(t, append(args, "--name", "enter")...)
	link := r.link()
	if got := <-r.browsed; got != link {
		t.Errorf("%s is opened", got)
	}
	r.await("Enter lets the demo person consent")
	r.press("\n")
	r.greets("Ada Lovelace")
	if !strings.Contains(r.out.String(), "      ada-lovelace signs in at the demo provider and allows it … authorized\n") || !strings.Contains(r.out.String(), "choose Ada Lovelace there") {
		t.Error("a line is missing")
	}

	// The person is quicker in the browser, and the keyboard is left alone after that.
	r = s.play(t, append(args, "--name", "browser")...)
	newBrowser(t, p, demoidp.Ada).open(r.link())
	r.greets("Ada Lovelace")
	if !strings.Contains(r.out.String(), "Enter lets the demo person consent) … authorized\n") {
		t.Error("the line is not ended well")
	}

	// Input that has ended is no Enter, and no reason to stop waiting.
	r = s.play(t, append(args, "--name", "ended")...)
	_ = r.keys.Close()
	newBrowser(t, p, demoidp.Ada).open(r.link())
	r.greets("Ada Lovelace")

	r = s.play(t, append(args, "--name", "ctrl-c")...)
	r.await("Enter lets the demo person consent")
	r.interrupt()
	r.fails(exitCancelled, "stopped", hintStopped)
	nothingLeft(t, p)
}

// Log lines do not run into a line that waits for its end.
func TestDebug(t *testing.T) {
	t.Parallel()
	for what, s := range map[string]situation{"embedded": {env: map[string]string{"LOG_LEVEL": "DEBUG"}}} {
		r := s.play(t)
		r.greets("Ada Lovelace")
		logs := r.errOut.String()
		for _, line := range []string{
			"msg=step number=4 name=gateway", "msg=call operation=CreateGateway request_id=", "msg=gateway status=200 request_id=", `msg="callback server" method=GET path=/oauth2/callback`, `msg=clean-up what="gateway sayhello"`,
		} {
			if !strings.Contains(logs, line) {
				t.Errorf("%s: %s is not logged", what, line)
			}
		}
		for _, id := range []string{"request_id= ", `request_id=""`} {
			if strings.Contains(logs, id) {
				t.Errorf("%s: a call has no request id", what)
			}
		}
		session, err := sessionOf(r.link())
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{session[strings.LastIndex(session, ":")+1:], "eyJ", "Bearer e"} {
			if strings.Contains(logs, secret) {
				t.Errorf("%s: %.8s… is logged", what, secret)
			}
		}
		for _, line := range strings.Split(strings.TrimSuffix(r.out.String()+logs, "\n"), "\n") {
			if strings.Contains(line, "time=") && !strings.HasPrefix(line, "time=") {
				t.Errorf("%s: %s", what, line)
			}
		}
	}
}
