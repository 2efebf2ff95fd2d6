// Package eventstream writes the binary frames of application/vnd.amazon.eventstream,
// in which AWS's SDKs read the answer of InvokeAgentRuntimeCommand.
//
//	┌────────┬──────────────┬─────────────┬─────────┬─────────┬─────────────┐
//	│ length │ of headers   │ CRC of both │ headers │ payload │ CRC of all  │   numbers of 4 bytes, big-endian
//	└────────┴──────────────┴─────────────┴─────────┴─────────┴─────────────┘
//
// It knows the two kinds of message that operations here send: an event, which
// is one member of the stream's union, and an exception, which ends the stream.
//
// Invariant: a frame is appended whole or not at all, so that a stream that is
// flushed between two calls is always one that can be read so far.
package eventstream

import (
	"encoding/binary"
	"hash/crc32"
)

// ContentType is the Content-Type of a stream of frames.
const ContentType = "application/vnd.amazon.eventstream"

// MaxPayload is the longest payload of one frame. AWS sends chunks of at most
// 64 KB; this is the format's own bound.
const MaxPayload = 16 << 20

// AppendEvent appends an event: member is its name in the stream's union
// ("chunk"), payload its JSON.
func AppendEvent(b []byte, member string, payload []byte) []byte {
	return appendFrame(b, "event", ":event-type", member, payload)
}

// AppendException appends the error that ends a stream: member is its name in
// the stream's union, which is its own in lower camel case ("runtimeClientError"),
// payload its JSON ({"message": …}).
func AppendException(b []byte, member string, payload []byte) []byte {
	return appendFrame(b, "exception", ":exception-type", member, payload)
}

// text is the type of a header whose value is a string.
const text = 7

// appendFrame writes headers and payload into b and goes back for the lengths.
func appendFrame(b []byte, kind, typeHeader, member string, payload []byte) []byte {
	if len(payload) > MaxPayload || len(member) > 255 {
		panic("eventstream: a frame that no client reads")
	}
	const prelude = 12
	start := len(b)
	b = append(b, make([]byte, prelude)...)
	b = appendHeader(b, ":message-type", kind)
	b = appendHeader(b, typeHeader, member)
	b = appendHeader(b, ":content-type", "application/json")
	headers := len(b) - start - prelude
	b = append(b, payload...)
	frame := b[start:]
	binary.BigEndian.PutUint32(frame, uint32(len(frame)+4))
	binary.BigEndian.PutUint32(frame[4:], uint32(headers))
	binary.BigEndian.PutUint32(frame[8:], crc32.ChecksumIEEE(frame[:8]))
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(frame))
}

func appendHeader(b []byte, name, value string) []byte {
	b = append(b, byte(len(name)))
	b = append(b, name...)
	b = append(b, text)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}
