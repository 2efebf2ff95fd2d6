package server

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/demoidp"
)

// demoServer is the demo identity provider of --dev: a provider like any other,
// on a port of its own, reached over HTTP. Nothing in the platform knows it
// beyond its issuer.
type demoServer struct {
	provider *demoidp.Provider
	http     *http.Server
	unused   newcomers
	url      string
	address  string // HOST:PORT, which egress may reach
	done     chan struct{}
}

func startDemo(addr string, f folder) (*demoServer, error) {
	before, err := demoidp.StoredIssuer(f.demoState())
	if err != nil {
		return nil, err
	}
	listener, err := listen("--demo-addr", addr, strings.TrimPrefix(before, "http://"))
	if err != nil {
		return nil, err
	}
	url := "http://" + listener.Addr().String()
	provider, err := demoidp.New(demoidp.Options{Issuer: url, StateFile: f.demoState()})
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	d := &demoServer{
		provider: provider, url: url, address: listener.Addr().String(), done: make(chan struct{}),
		http: &http.Server{Handler: provider, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute, ErrorLog: nil},
	}
	d.http.ConnState = d.unused.follow
	go func() {
		defer close(d.done)
		_ = d.http.Serve(listener)
	}()
	return d, nil
}

func (d *demoServer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	d.unused.dismiss()
	err := d.http.Shutdown(ctx)
	if err != nil {
		err = d.http.Close()
	}
	<-d.done
	return err
}
