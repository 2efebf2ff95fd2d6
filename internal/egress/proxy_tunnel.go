package egress

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// lastWords is how long the second direction of a tunnel may be silent once the
// first has ended.
const lastWords = time.Minute

// connect makes a tunnel to the target of a CONNECT.
func (p *Proxy) connect(w http.ResponseWriter, r *http.Request) {
	name, port, err := targetOf(r.URL.Host, "")
	if err != nil {
		p.fail(w, r, "", err)
		return
	}
	outside, err := p.dial(r.Context(), "tcp", joined(name, port))
	if err != nil {
		p.fail(w, r, name, err)
		return
	}
	defer outside.Close()
	inside, early, err := http.NewResponseController(w).Hijack()
	if err != nil {
		say(w, r, http.StatusInternalServerError, "No tunnel can be made on this connection")
		return
	}
	defer inside.Close()
	_ = inside.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(inside, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	_ = inside.SetDeadline(time.Time{})
	tunnel(inside, early.Reader, outside, p.idle)
}

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// tunnel copies both ways until both have ended, either has failed, or nothing
// has moved for too long. A direction that ends is ended on the other side, too, and alone.
func tunnel(inside net.Conn, early *bufio.Reader, outside net.Conn, idle time.Duration) {
	end := time.AfterFunc(idle, func() {
		_ = inside.Close()
		_ = outside.Close()
	})
	defer end.Stop()
	var mu sync.Mutex
	patience := idle
	moved := func() {
		mu.Lock()
		defer mu.Unlock()
		end.Reset(patience)
	}
	one := func(to net.Conn, from io.Reader) {
		buffer := buffers.Get().(*[32 << 10]byte)
		defer buffers.Put(buffer)
		for {
			n, err := from.Read(buffer[:])
			if n > 0 {
				moved()
				if _, err := to.Write(buffer[:n]); err != nil {
					break
				}
				moved()
			}
			if err == io.EOF {
				if half, can := to.(interface{ CloseWrite() error }); can && half.CloseWrite() == nil {
					mu.Lock()
					patience = min(idle, lastWords)
					mu.Unlock()
					moved()
					return
				}
			}
			if err != nil {
				break
			}
		}
		_ = inside.Close()
		_ = outside.Close()
	}
	// What came right behind the CONNECT lies in the server's buffer.
	var from io.Reader = inside
	if n := early.Buffered(); n > 0 {
		from = io.MultiReader(io.LimitReader(early, int64(n)), inside)
	}
	var both sync.WaitGroup
	both.Go(func() { one(outside, from) })
	both.Go(func() { one(inside, outside) })
	both.Wait()
}
