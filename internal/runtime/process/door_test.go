//go:build linux

package process

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// A request that does not come whole holds the platform's memory for so long and no
// longer; one that goes by the way out may take its time.
func TestSlowRequests(t *testing.T) {
	t.Parallel()
	for name, patience := range map[string]time.Duration{"platform": 300 * time.Millisecond, "way out": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			socket, err := listener.(*net.TCPListener).File()
			_ = listener.Close()
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
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
