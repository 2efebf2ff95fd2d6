package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/onbehalf/onbehalf/internal/server"
)

// embedded is how a platform in this process is reached.
type embedded struct {
	endpoint    string
	credentials []func(*config.LoadOptions) error
}

// embed starts the platform in this process, on loopback, with the demo provider beside it.
func (b *Backend) embed(ctx context.Context, s *Settings, own *SignIn, logs logWriter) (*embedded, error) {
	data, remove := s.Data, func() {}
	if data == "" {
		temporary, err := os.MkdirTemp("", "sayhello-")
		if err != nil {
			return nil, &ConfigurationError{Problem{What: "no temporary folder can be made", Cause: err, Hint: "Name a folder with --data."}}
		}
		data, remove = temporary, func() { _ = os.RemoveAll(temporary) }
	}
	c := embeddedConfig(s, data, own)
	log := server.Logger(c, logs)
	slog.SetDefault(log)
	platform, err := server.Start(ctx, c, log)
	if err != nil {
		remove()
		if ctx.Err() != nil {
			return nil, stopped()
		}
		problem := Problem{What: "the platform does not start", Cause: err, Hint: "Another --data folder makes a fresh start."}
		var taken *server.PortTakenError
		if errors.As(err, &taken) {
			problem.Hint = "Stop the program that listens there, or choose another address with --addr."
		}
		return nil, &ConfigurationError{problem}
	}
	b.DemoURL = platform.DemoURL()
	b.Description = "embedded platform on " + platform.URL()
	b.Stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = platform.Close(ctx)
		remove()
	}
	return &embedded{platform.URL(), []func(*config.LoadOptions) error{
		config.WithSharedCredentialsFiles([]string{platform.CredentialsFile()}),
		config.WithSharedConfigFiles([]string{}),       // none: nil would be the person's own
		config.WithSharedConfigProfile(server.Profile), // wins over keys in the environment
	}}, nil
}

// embeddedConfig is the configuration of the platform in this process. Ports that
// are chosen freely are kept with the data, because issuers and callback URLs
// that others remember contain them.
func embeddedConfig(s *Settings, data string, own *SignIn) server.Config {
	c := server.Config{Addr: or(s.Addr, "127.0.0.1:0"), DemoAddr: "127.0.0.1:0", Data: data, Dev: true, Region: s.Region, LogLevel: "error"}
	if s.LogLevel <= slog.LevelDebug {
		c.LogLevel = "debug"
	}
	if own != nil {
		c.TrustedIssuers = []string{own.Issuer + "=" + own.ClientID}
		// The person named it, so it may also be on this machine or in this network.
		if u, err := url.Parse(own.Issuer); err == nil {
			c.EgressAllow = []string{fmt.Sprintf("%s:%d", bracketed(u.Hostname()), portOf(u))}
		}
	}
	if absolute, err := filepath.Abs(data); err == nil {
		c.Data = absolute
	}
	return c
}
