package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// spooling is a world whose long bodies lie in a folder of the test's.
func spooling(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	w.spool = newSpool(filepath.Join(t.TempDir(), "spool"), 0)
	return w
}

// idle fails the test where a body still has something of the spool.
func idle(t *testing.T, s *spool) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != 0 || len(s.by) != 0 {
		t.Errorf("%d bytes are still held, by %v", s.held, s.by)
	}
}

const spoolLimit = 3 << 20

// A body of any size arrives as it was sent, can be read again, and leaves
// nothing behind: in memory up to a megabyte, in a file without a name beyond.
func TestSpooled(t *testing.T) {
	t.Parallel()
	w := spooling(t)
	folder := t.TempDir()
	w.spool = newSpool(folder, 0)
	for _, size := range []int{0, 1, 4 << 10, 4<<10 + 1, promised, promised + 1, inMemory - 1, inMemory, inMemory + 1, inMemory + spoolPiece, spoolLimit} {
		for _, known := range []bool{true, false} {
			content := strings.Repeat("0123456789abcdef", size/16+1)[:size]
			r := w.request(t, request{body: content, after: func(r *http.Request) {
				if !known && size > 0 { // the signature covers a length that is told
					r.Body = io.NopCloser(iotest.OneByteReader(strings.NewReader(content[:1])))
					r.Body = io.NopCloser(io.MultiReader(r.Body, strings.NewReader(content[1:])))
				}
			}, before: func(r *http.Request) {
				if !known {
					r.ContentLength = -1
				}
			}})
			caller, body, err := w.Spooled(httptest.NewRecorder(), r, spoolLimit)
			if err != nil {
				t.Fatalf("%d bytes, length known %t: %v", size, known, err)
			}
			if caller.KeyID != w.root.ID || body.Size() != int64(size) || body.SHA256() != sha256.Sum256([]byte(content)) {
				t.Errorf("%d bytes of %d for %+v", body.Size(), size, caller)
			}
			if whole, inside := body.Bytes(); inside != (size < inMemory || known && size == inMemory) || inside && string(whole) != content {
				t.Errorf("%d bytes in memory: %t", size, inside)
			}
			if body.file != nil {
				about, err := body.file.Stat()
				if err != nil || about.Mode().Perm() != 0o600 {
					t.Errorf("the file is %v, %v", about.Mode(), err)
				}
			}
			for range 2 {
				if _, err := body.Seek(0, io.SeekStart); err != nil {
					t.Fatal(err)
				}
				if size <= 4<<10 { // it is slow on large ones
					if err := iotest.TestReader(body, []byte(content)); err != nil {
						t.Error(err)
					}
				}
				if _, err := body.Seek(0, io.SeekStart); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(body); err != nil || string(got) != content {
					t.Errorf("read %d bytes of %d, %v", len(got), size, err)
				}
			}
			if names, err := os.ReadDir(folder); err != nil || len(names) != 0 {
				t.Errorf("the folder has %v, %v", names, err)
			}
			for range 2 {
				if err := body.Close(); err != nil {
					t.Error(err)
				}
			}
			if _, err := body.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
				t.Errorf("read after Close: %v", err)
			}
			if _, err := body.ReadAt(make([]byte, 1), 0); !errors.Is(err, os.ErrClosed) {
				t.Errorf("read after Close: %v", err)
			}
		}
	}
	idle(t, w.spool)
}

func TestSpooledRefusals(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 2<<20)
	altered := func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("y" + long[1:])) }
	hashed := func(r *http.Request) {
		r.Header.Set("X-Amz-Content-Sha256", "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881")
	} // of "x"
	for name, c := range map[string]struct {
		request request
		kind    fault.Kind
		text    string
	}{
		"unsigned":                {request{body: long, after: func(r *http.Request) { r.Header.Del("Authorization") }}, fault.MissingSignature, "Missing Authentication Token"},
		"wrong secret":            {request{body: long, key: NewKey{"", secret.Text{}}}, fault.BadSignature, "does not match"},
		"altered":                 {request{body: long, after: altered}, fault.BadSignature, "does not match"},
		"altered, and small":      {request{body: "abc", after: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("abd")) }}, fault.BadSignature, "does not match"},
		"another hash":            {request{body: long, before: hashed}, fault.BadSignature, "does not match"},
		"no hash":                 {request{body: long, before: func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }}, fault.BadSignature, "not the SHA-256 of the body"},
		"a streamed signature":    {request{body: long, before: func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD") }}, fault.BadSignature, "not the SHA-256"},
		"over the limit":          {request{body: long + long}, fault.Invalid, "longer than the 3145728 bytes"},
		"over the limit, unknown": {request{body: long + long, before: func(r *http.Request) { r.ContentLength = -1 }}, fault.Invalid, "longer than the 3145728 bytes"},
		"cut off":                 {request{body: long, after: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(long[1:])) }}, fault.Invalid, "could not be read to its end"},
		"cut off, and small":      {request{body: "abc", after: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("ab")) }}, fault.Invalid, "could not be read to its end"},
		"cut off, length unknown": {request{body: long, before: func(r *http.Request) { r.ContentLength = -1 }, after: func(r *http.Request) {
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader(long), iotest.ErrReader(io.ErrUnexpectedEOF)))
		}}, fault.Invalid, "could not be read to its end"},
		"presigned":                {request{body: long, after: func(r *http.Request) { r.URL.RawQuery = "X-Amz-Signature=abc" }}, fault.BadSignature, "Presigned"},
		"two Authorizations":       {request{body: long, after: func(r *http.Request) { r.Header.Add("Authorization", "Bearer x") }}, fault.BadSignature, "more than one Authorization"},
		"a user that is unsigned":  {request{body: long, after: func(r *http.Request) { r.Header.Set("X-Amzn-Bedrock-AgentCore-Runtime-User-Id", "x") }}, fault.BadSignature, "must be a 'SignedHeader'"},
		"a session, also unsigned": {request{body: long, after: func(r *http.Request) { r.Header.Set("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id", "x") }}, fault.BadSignature, "must be a 'SignedHeader'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := spooling(t)
			if name == "wrong secret" {
				c.request.key = NewKey{w.root.ID, secret.New("x")}
			}
			caller, body, err := w.Spooled(httptest.NewRecorder(), w.request(t, c.request), spoolLimit)
			wantFault(t, err, c.kind, c.text)
			if caller.Kind != principal.Nobody || body != nil {
				t.Errorf("a refused caller is %+v", caller)
			}
			idle(t, w.spool)
		})
	}
}

// Nothing is read of a body whose sender or length the headers rule out, nor of
// one whose hash was said and is not the signed one.
func TestSpooledUnread(t *testing.T) {
	t.Parallel()
	w := spooling(t)
	sum := func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", strings.Repeat("00", 32)) }
	for name, q := range map[string]request{
		"unknown key":  {key: NewKey{"AKIAAAAAAAAAAAAAAAAA", secret.New("x")}},
		"old":          {at: w.clock.now().Add(-6 * time.Minute)},
		"too long":     {after: func(r *http.Request) { r.ContentLength = spoolLimit + 1 }},
		"another hash": {body: "abc", before: sum},
		"unsigned":     {body: "abc", before: func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") }},
	} {
		r := w.request(t, q)
		r.Body = io.NopCloser(unreadable{t, name})
		if _, _, err := w.Spooled(httptest.NewRecorder(), r, spoolLimit); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	w.spool.held = w.spool.limit
	r := w.request(t, request{body: strings.Repeat("x", 2<<20)})
	r.Body = io.NopCloser(unreadable{t, "full"})
	_, _, err := w.Spooled(httptest.NewRecorder(), r, spoolLimit)
	wantFault(t, err, fault.Throttled, "Too many long request bodies")
}

// All together have so much, one address half of it, and loopback may have all.
func TestSpoolIsBounded(t *testing.T) {
	t.Parallel()
	w := spooling(t)
	w.spool.limit = 8 << 20
	send := func(address string, size int, known bool) (*Body, error) {
		q := request{body: strings.Repeat("x", size), before: func(r *http.Request) {
			if !known {
				r.ContentLength = -1
			}
		}}
		r := w.request(t, q)
		r.RemoteAddr = address
		_, body, err := w.Spooled(httptest.NewRecorder(), r, spoolLimit)
		return body, err
	}
	var kept []*Body
	keep := func(address string, size int) {
		t.Helper()
		body, err := send(address, size, true)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, body)
	}
	keep("192.0.2.1:1", 3<<20)
	_, err := send("192.0.2.1:2", 2<<20, true)
	wantFault(t, err, fault.Throttled, "Too many long")
	keep("192.0.2.1:3", inMemory) // needs none of it
	keep("192.0.2.2:1", 3<<20)
	_, err = send("192.0.2.3:1", 3<<20, true)
	wantFault(t, err, fault.Throttled, "Too many long")
	_, err = send("192.0.2.3:1", 2<<20, false) // of unknown length: reserves in steps
	wantFault(t, err, fault.Throttled, "Too many long")
	for _, body := range kept {
		_ = body.Close()
	}
	idle(t, w.spool)
	kept = nil
	keep("127.0.0.1:1", 3<<20)
	keep("127.0.0.1:2", 3<<20)
	for _, body := range kept {
		_ = body.Close()
	}
	idle(t, w.spool)
}

// A disk that is full, and a folder that cannot be had, are our trouble.
func TestSpoolWithoutRoom(t *testing.T) {
	t.Parallel()
	w := spooling(t)
	long := request{body: strings.Repeat("x", 2<<20)}
	w.spool.create = func() (*os.File, error) { return os.OpenFile("/dev/full", os.O_RDWR, 0) }
	_, body, err := w.Spooled(httptest.NewRecorder(), w.request(t, long), spoolLimit)
	wantFault(t, err, fault.Unavailable, "could not be kept")
	if body != nil || strings.Contains(fault.Of(err).Message, "space") {
		t.Errorf("the caller is told %v", err)
	}
	taken := filepath.Join(t.TempDir(), "a file")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.spool.create = newSpool(taken, 0).create
	_, _, err = w.Spooled(httptest.NewRecorder(), w.request(t, long), spoolLimit)
	wantFault(t, err, fault.Unavailable, "could not be kept")
	if _, body, err = w.Spooled(httptest.NewRecorder(), w.request(t, request{body: "small"}), spoolLimit); err != nil {
		t.Errorf("a small one: %v", err)
	}
	_ = body.Close()
	idle(t, w.spool)
}

// What was in a buffer is gone before another request gets it.
func TestBuffersAreCleared(t *testing.T) {
	t.Parallel()
	room := take(100)
	copy(*room, "a secret")
	giveBack(room, 8)
	if bytes.Contains(*room, []byte("secret")) {
		t.Error("the buffer still has it")
	}
}

// serve is a listener with the server's ReadTimeout made short; it answers what
// spooling said, after the time that a handler takes.
func (w *world) serve(t *testing.T, timeout time.Duration, handle func(http.ResponseWriter, *http.Request, *Body)) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, body, err := w.Spooled(rw, r, spoolLimit)
		if err != nil {
			http.Error(rw, fault.Of(err).Message, http.StatusBadRequest)
			return
		}
		defer body.Close()
		handle(rw, r, body)
	}))
	server.Config.ReadTimeout = timeout
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// A call that lasts longer than ReadTimeout keeps its context, and still notices
// when its client leaves.
func TestSpooledOutlivesReadTimeout(t *testing.T) {
	t.Parallel()
	w := spooling(t)
	began, ended := make(chan struct{}), make(chan error, 1)
	address := w.serve(t, 4*time.Second, func(_ http.ResponseWriter, r *http.Request, _ *Body) { // within which a busy machine reads a request
		close(began)
		select {
		case <-r.Context().Done():
			ended <- errors.New("the deadline ended the call")
			return
		case <-time.After(5 * time.Second):
		}
		ended <- nil
		<-r.Context().Done()
		ended <- r.Context().Err()
	})
	r := w.request(t, request{body: "small"})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	go func() {
		out := r.Clone(ctx)
		out.RequestURI, out.URL.Host = "", address
		out.Host = r.Host
		response, err := http.DefaultClient.Do(out)
		switch {
		case err == nil:
			_ = response.Body.Close()
			ended <- errors.New("the call was answered: " + response.Status)
		case ctx.Err() == nil: // it did not leave
			ended <- err
		}
	}()
	select {
	case <-began:
	case err := <-ended:
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	leave()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Who stops sending is cut off long before the server's own timeout, and who
// sends fast enough is not cut off by it.
func TestSlowSenders(t *testing.T) {
	t.Parallel()
	w := spooling(t)
	w.spool.patience = 200 * time.Millisecond
	address := w.serve(t, time.Minute, func(rw http.ResponseWriter, _ *http.Request, body *Body) { _, _ = fmt.Fprint(rw, "got ", body.Size()) })
	content := strings.Repeat("x", 2<<20)
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, w.head(t, request{body: content})+content[:100]); err != nil {
		t.Fatal(err)
	}
	if answer, _ := io.ReadAll(connection); !strings.Contains(string(answer), "came too slowly") {
		t.Errorf("got %q", answer)
	}
	idle(t, w.spool)

	w.spool.patience = time.Minute
	address = w.serve(t, 2*time.Second, func(rw http.ResponseWriter, _ *http.Request, body *Body) { _, _ = fmt.Fprint(rw, "got ", body.Size()) })
	steady, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer steady.Close()
	if _, err := io.WriteString(steady, w.head(t, request{body: content}, "Connection: close")); err != nil {
		t.Fatal(err)
	}
	for sent := 0; sent < len(content); sent += 256 << 10 {
		if _, err := io.WriteString(steady, content[sent:sent+256<<10]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond) // the network's share of 2.4 s
	}
	if answer, _ := io.ReadAll(steady); !strings.Contains(string(answer), "got 2097152") {
		t.Errorf("got %q", answer)
	}
}

// raw sends bytes as they are and gives what came back.
func raw(t *testing.T, address string, parts ...string) string {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	for _, part := range parts {
		if _, err := io.WriteString(connection, part); err != nil {
			t.Fatal(err)
		}
	}
	_ = connection.(*net.TCPConn).CloseWrite()
	answer, _ := io.ReadAll(connection)
	return string(answer)
}

// head is a signed request's first lines, as a client would send them.
func (w *world) head(t *testing.T, q request, extra ...string) string {
	t.Helper()
	r := w.request(t, q)
	var b strings.Builder
	b.WriteString("POST " + r.URL.RequestURI() + " HTTP/1.1\r\nHost: " + r.Host + "\r\n")
	for name, values := range r.Header {
		for _, value := range values {
			b.WriteString(name + ": " + value + "\r\n")
		}
	}
	if r.ContentLength >= 0 {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", r.ContentLength)
	}
	for _, line := range extra {
		b.WriteString(line + "\r\n")
	}
	return b.String() + "\r\n"
}

// What clients and attackers make of framing, over a real connection.
func TestSpooledFraming(t *testing.T) {
	t.Parallel()
	w := spooling(t)
	address := w.serve(t, time.Minute, func(rw http.ResponseWriter, _ *http.Request, body *Body) {
		content, _ := io.ReadAll(body)
		_, _ = rw.Write(append([]byte("got "), content...))
	})
	chunked := func(r *http.Request) { r.ContentLength = -1 }
	for name, c := range map[string]struct {
		parts []string
		want  string
	}{
		"chunks without a length": {[]string{w.head(t, request{body: "abcdef", before: chunked}, "Transfer-Encoding: chunked"), "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"}, "got abcdef"},
		"chunks cut off":          {[]string{w.head(t, request{body: "abcdef", before: chunked}, "Transfer-Encoding: chunked"), "3\r\nabc\r\n3\r\ndef\r\n"}, "could not be read to its end"},
		"chunks too few":          {[]string{w.head(t, request{body: "abcdef", before: chunked}, "Transfer-Encoding: chunked"), "3\r\nabc\r\n0\r\n\r\n"}, "does not match"},
		"nonsense for chunks":     {[]string{w.head(t, request{body: "abcdef", before: chunked}, "Transfer-Encoding: chunked"), "zz\r\nabc\r\n0\r\n\r\n"}, "could not be read to its end"},
		"a length too many":       {[]string{w.head(t, request{body: "abc"}, "Content-Length: 4"), "abcd"}, "400 Bad Request"},
		"a length and chunks":     {[]string{w.head(t, request{body: "abc"}, "Transfer-Encoding: chunked"), "3\r\nabc\r\n0\r\n\r\n"}, "does not match"},
		"garbage behind the body": {[]string{w.head(t, request{body: "abc"}), "abcGARBAGE\r\n\r\n"}, "got abc"},
		"cut off":                 {[]string{w.head(t, request{body: "abc"}), "ab"}, "could not be read to its end"},
		"asks first":              {[]string{w.head(t, request{body: "abc"}, "Expect: 100-continue"), "abc"}, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"},
		"asks first, is too long": {[]string{w.head(t, request{body: strings.Repeat("x", spoolLimit+1)}, "Expect: 100-continue")}, "HTTP/1.1 400 Bad Request"},
		"asks first, is nobody":   {[]string{w.head(t, request{body: "abc", key: NewKey{"AKIAAAAAAAAAAAAAAAAA", secret.New("x")}}, "Expect: 100-continue")}, "HTTP/1.1 400 Bad Request"},
		"two Authorizations":      {[]string{w.head(t, request{body: "abc"}, "Authorization: Bearer x"), "abc"}, "more than one Authorization"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := raw(t, address, c.parts...)
			if !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if strings.HasPrefix(name, "asks first,") && strings.Contains(got, "100 Continue") {
				t.Errorf("the body was asked for: %q", got)
			}
		})
	}
}

// Bearer callers get the same body, after their token was verified.
func TestSpooledBearerAsksForTheTokenFirst(t *testing.T) {
	t.Parallel()
	w := spooling(t)
	r := httptest.NewRequest("POST", "/runtimes/x/invocations", io.NopCloser(unreadable{t, "no token"}))
	_, body, err := w.SpooledBearer(t.Context(), httptest.NewRecorder(), r, spoolLimit, account, "arn", Authorizer{})
	wantFault(t, err, fault.Unauthenticated, "Missing Bearer token")
	if body != nil {
		t.Error("there is a body")
	}
}

// BenchmarkSpooled100MB is a file's share: hashing, writing, and reading again.
func BenchmarkSpooled100MB(b *testing.B) {
	w := spooling(b)
	content := strings.Repeat("0123456789abcdef", 100<<20/16)
	r := w.request(b, request{body: content})
	recorder := httptest.NewRecorder()
	b.SetBytes(100 << 20)
	b.ReportAllocs()
	for b.Loop() {
		r.Body = io.NopCloser(strings.NewReader(content))
		_, body, err := w.Spooled(recorder, r, 100<<20)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			b.Fatal(err)
		}
		_ = body.Close()
	}
}

func BenchmarkSpooled1KB(b *testing.B) {
	w := spooling(b)
	content := strings.Repeat("x", 1024)
	r := w.request(b, request{body: content})
	recorder := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		r.Body = io.NopCloser(strings.NewReader(content))
		_, body, err := w.Spooled(recorder, r, 100<<20)
		if err != nil {
			b.Fatal(err)
		}
		_ = body.Close()
	}
}

// An HTTP client may still read a body when its answer is there and the body is
// closed: it sees the body or its end, and never another request's bytes.
func TestBodyIsClosedUnderItsReaders(t *testing.T) {
	t.Parallel()
	w := spooling(t)
	for _, size := range []int{1000, 2 << 20} {
		content := strings.Repeat("a", size)
		_, body, err := w.Spooled(httptest.NewRecorder(), w.request(t, request{body: content}), spoolLimit)
		if err != nil {
			t.Fatal(err)
		}
		var readers sync.WaitGroup
		begun := make(chan struct{}, 4)
		for range cap(begun) {
			readers.Go(func() {
				begun <- struct{}{}
				part := make([]byte, 100)
				for {
					n, err := body.ReadAt(part, int64(size/2))
					if strings.Trim(string(part[:n]), "a") != "" {
						t.Errorf("read %q", part[:n])
					}
					if err != nil {
						if !errors.Is(err, os.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		for range cap(begun) {
			<-begun
		}
		_ = body.Close()
		_, other, err := w.Spooled(httptest.NewRecorder(), w.request(t, request{body: strings.Repeat("b", size)}), spoolLimit)
		if err != nil {
			t.Fatal(err)
		}
		readers.Wait()
		_ = other.Close()
	}
	idle(t, w.spool)
}
