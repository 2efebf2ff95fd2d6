package wire

import (
	"io"
	"net/http"
	"strconv"
	"sync"
)

// The parts of a response that generated types may have.
type (
	jsonBody   interface{ AppendJSON([]byte) []byte }
	headered   interface{ SetHeaders(http.Header) }
	statused   interface{ HTTPStatus() int }
	streamBody interface{ Stream() io.Reader }
)

// buffers are reused between replies. A reply may hold secrets, so each buffer
// is cleared before it goes back. They start large enough for a reply with a
// token, because what outgrows a buffer leaves a copy of its beginning behind.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}

// bufferLimit keeps one huge reply from staying in memory.
const bufferLimit = 64 << 10

// write sends a success.
func (c *call) write(output any) error {
	status := c.op.Status
	if own, is := output.(statused); is && own.HTTPStatus() != 0 {
		status = own.HTTPStatus()
	}
	if more, is := output.(headered); is {
		more.SetHeaders(c.w.Header())
	}
	if stream, is := output.(streamBody); is {
		return c.stream(status, stream.Stream())
	}
	buffer := buffers.Get().(*[]byte)
	defer func() {
		clear(*buffer)
		if cap(*buffer) <= bufferLimit {
			buffers.Put(buffer)
		}
	}()
	*buffer = output.(jsonBody).AppendJSON((*buffer)[:0])
	writeJSON(c.w, status, *buffer)
	return nil
}

// writeJSON sends a body in one piece. A failed write means that the client is gone.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// stream passes a body on as it comes, each part at once.
func (c *call) stream(status int, body io.Reader) error {
	c.w.WriteHeader(status)
	if body == nil {
		return nil
	}
	if closer, is := body.(io.Closer); is {
		defer closer.Close()
	}
	control := http.NewResponseController(c.w)
	part := make([]byte, 32<<10)
	for {
		n, err := body.Read(part)
		if n > 0 {
			if _, err := c.w.Write(part[:n]); err != nil {
				return nil // the client is gone
			}
			_ = control.Flush()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			panic(http.ErrAbortHandler) // half a reply must not look whole
		}
	}
}
