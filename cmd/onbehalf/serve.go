package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/onbehalf/onbehalf/internal/server"
)

type serveCmd struct {
	server.Config `embed:""`
}

// Help is shown below the flags of serve.
func (serveCmd) Help() string {
	return `Examples:
  onbehalf serve --dev                                  try it on this machine, with a demo identity provider
  onbehalf serve --public-url https://agents.example.com --addr :7443 --tls-cert cert.pem --tls-key key.pem
  onbehalf serve --config /etc/onbehalf.yaml            the same settings, from a file`
}

// Run serves until SIGINT or SIGTERM, then finishes what is in flight.
func (c *serveCmd) Run(ctx context.Context, t *terminal, line *serving) error {
	c.SettingsFile = line.Config
	log := server.Logger(c.Config.WithDefaults(), t.err)
	slog.SetDefault(log)
	server.Tune()
	c.Version = version
	s, err := server.Start(ctx, c.Config, log)
	if err != nil {
		return advise(err)
	}
	for _, line := range s.Banner() {
		fmt.Fprintln(t.out, line)
	}
	return s.Wait(ctx)
}

// advise adds the way out to the start-up errors that have one.
func advise(err error) error {
	var taken *server.PortTakenError
	if errors.As(err, &taken) {
		return hinted{err, "stop that program, or choose another address: " + taken.Flag + " 127.0.0.1:7090"}
	}
	return err
}
