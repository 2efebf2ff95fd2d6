//go:build linux

package process

import (
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Long requests come in a few at a time, whatever a session's agent begins; short
// ones pass them.
func TestLongRequests(t *testing.T) {
	t.Parallel()
	socket := listening(t)
	var long atomic.Int64
	d, err := openDoor(socket, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			long.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
		}
		_, _ = io.WriteString(w, strconv.FormatInt(long.Load(), 10))
	}), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer d.shut()
	begin := func(head string) net.Conn {
		conn, err := net.Dial("tcp", d.Addr().String())
		if err == nil {
			_, err = io.WriteString(conn, "POST /long HTTP/1.1\r\nHost: localhost\r\n"+head+"\r\n\r\nhalf")
		}
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	var all []net.Conn
	for range longRequests {
		all = append(all, begin("Content-Length: 7000000"), begin("Transfer-Encoding: chunked"))
	}
	inside := func() string {
		answer, err := http.Post("http://"+d.Addr().String()+"/short", "text/plain", strings.NewReader(strings.Repeat("x", shortRequest)))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		count, _ := io.ReadAll(answer.Body)
		return string(count)
	}
	for inside() != strconv.Itoa(longRequests) {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond) // one too many would come now
	if count := inside(); count != strconv.Itoa(longRequests) {
		t.Errorf("%s long requests were let in", count)
	}
	for _, conn := range all { // whoever leaves makes room
		_ = conn.Close()
	}
	for inside() != strconv.Itoa(2*longRequests) {
		time.Sleep(10 * time.Millisecond)
	}
	http.DefaultClient.CloseIdleConnections()
}

// A request that does not come whole holds the platform's memory for so long and no
// longer; one that goes by the way out may take its time.
func TestSlowRequests(t *testing.T) {
	t.Parallel()
	for name, patience := range map[string]time.Duration{"platform": 300 * time.Millisecond, "way out": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket := listening(t)
			ended := make(chan error, 1)
			enough := time.Second // to see that nothing happens
			if patience != 0 {
				enough = 30 * time.Second
			}
			d, err := openDoor(socket, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, err := io.Copy(io.Discard, r.Body)
				ended <- err
			}), patience)
			if err != nil {
				t.Fatal(err)
			}
			defer d.shut()
			conn, err := net.Dial("tcp", d.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if patience == 0 || err == nil {
					t.Errorf("the request ended: %v", err)
				}
			case <-time.After(enough):
				if patience != 0 {
					t.Error("half a request is still waited for")
				}
			}
		})
	}
}

// listening is a socket as a session's init hands it over.
func listening(t *testing.T) *os.File {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	return socket
}
