package server

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A browser's spare connections do not hold up a stop.
func TestUnusedConnectionsDoNotHoldUpClose(t *testing.T) {
	t.Parallel()
	c := Config{Addr: "127.0.0.1:0", Data: filepath.Join(t.TempDir(), "data"), Dev: true}
	s, err := Start(t.Context(), c, Logger(c, t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	var spares []net.Conn
	for _, url := range []string{s.URL(), s.DemoURL()} {
		spare, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer spare.Close()
		spares = append(spares, spare)
		asked, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer asked.Close()
		// One that is answered comes after the spare one, so that both are accepted when it is.
		if _, err := asked.Write([]byte("GET /ping HTTP/1.1\r\nHost: " + strings.TrimPrefix(url, "http://") + "\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := asked.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close(context.Background()) }()
	for end := time.Now().Add(4 * time.Second); len(spares) > 0; spares = spares[1:] { // Shutdown alone takes five
		_ = spares[0].SetReadDeadline(end)
		if _, err := spares[0].Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("it takes as long as a connection on which nothing is asked")
		}
	}
	if err := <-closed; err != nil {
		t.Errorf("it does not close: %v", err)
	}
}
