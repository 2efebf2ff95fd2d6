package server

import (
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// signIns reads --sign-in: the platform's own clients, with which the hosted
// completion page asks an issuer who sits at a browser.
func (c Config) signIns() ([]broker.SignIn, error) {
	var clients []broker.SignIn
	for _, raw := range c.SignIns {
		head, file, withSecret := strings.Cut(raw, ",")
		at := strings.LastIndexByte(head, '=')
		if at <= 0 || at == len(head)-1 || withSecret && file == "" {
			return nil, fmt.Errorf("--sign-in %q is not of the form URL=CLIENT-ID or URL=CLIENT-ID,SECRET-FILE", head)
		}
		client := broker.SignIn{Issuer: head[:at], ClientID: head[at+1:]}
		if u, err := url.Parse(client.Issuer); err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && c.Dev && loopback(u.Hostname())) {
			return nil, fmt.Errorf("--sign-in %s must be https: its answer decides who a user is", client.Issuer)
		}
		for _, other := range clients {
			if other.Issuer == client.Issuer {
				return nil, fmt.Errorf("--sign-in names %s twice", client.Issuer)
			}
		}
		if withSecret {
			content, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("--sign-in %s: the client secret cannot be read: %w", client.Issuer, err)
			}
			client.ClientSecret = secret.New(strings.TrimSpace(string(content)))
			clear(content)
			if client.ClientSecret.Empty() {
				return nil, fmt.Errorf("--sign-in %s: the file %s is empty", client.Issuer, file)
			}
		}
		clients = append(clients, client)
	}
	return clients, nil
}

// demoSignIn makes the hosted page work with the demo provider, as an operator
// would: a client whose redirect URL is registered there.
func (s *Server) demoSignIn(clients []broker.SignIn) ([]broker.SignIn, error) {
	if s.demo == nil {
		return clients, nil
	}
	if err := s.demo.provider.AddRedirectURI(demoidp.SignInClientID, broker.SignInRedirectURL(s.url, s.demo.url)); err != nil {
		return nil, err
	}
	for _, client := range clients {
		if client.Issuer == s.demo.url {
			return clients, nil
		}
	}
	return append(clients, broker.SignIn{Issuer: s.demo.url, ClientID: demoidp.SignInClientID}), nil
}
