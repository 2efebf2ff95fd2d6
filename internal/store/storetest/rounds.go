package storetest

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
)

// Rounds is the URL of a new, empty PostgreSQL schema behind a relay, and how
// many round trips it has seen: how often the server said that it is ready again.
func Rounds(t testing.TB) (address string, rounds *atomic.Int64) {
	t.Helper()
	to, err := url.Parse(Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	server := to.Host
	rounds = &atomic.Int64{}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go relay(client, server, rounds)
		}
	}()
	to.Host = listener.Addr().String()
	return to.String(), rounds
}

// relay joins a connection with the server until one of the two ends it.
func relay(client net.Conn, server string, rounds *atomic.Int64) {
	defer func() { _ = client.Close() }()
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer func() { _ = upstream.Close() }()
	go func() {
		_, _ = io.Copy(upstream, client)
		_ = upstream.Close()
	}()
	// A message is its kind, its length with these four bytes, and as much.
	for message := make([]byte, 5); ; {
		if _, err := io.ReadFull(upstream, message); err != nil {
			return
		}
		if message[0] == 'Z' { // ReadyForQuery
			rounds.Add(1)
		}
		if _, err := client.Write(message); err != nil {
			return
		}
		if _, err := io.CopyN(client, upstream, int64(binary.BigEndian.Uint32(message[1:]))-4); err != nil {
			return
		}
	}
}
