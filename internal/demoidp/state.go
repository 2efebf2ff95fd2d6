package demoidp

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// state is the file that lets a restarted provider honour what it issued. It
// has no token and no client secret, only their hashes; but it has the key.
type state struct {
	Version  int                  `json:"version"`
	Issuer   string               `json:"issuer"`
	Key      string               `json:"key,omitempty"` // PEM; not here when there is a key file
	Clients  []registered         `json:"clients"`
	Families []*family            `json:"families"`
	Revoked  map[string]time.Time `json:"revoked"` // family to when its last access token has expired
}

const stateVersion = 1

// StoredIssuer is the issuer that a state file was made for, and "" when there
// is no such file. A listener that wants its old tokens to stay valid reads
// the port from it.
func StoredIssuer(stateFile string) (string, error) {
	s, err := readState(stateFile)
	if err != nil || s == nil {
		return "", err
	}
	return s.Issuer, nil
}

func readState(path string) (*state, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("demoidp: %w", err)
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("demoidp: the state file %s is damaged; remove it to start afresh: %w", path, err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("demoidp: the state file %s has version %d, this program knows %d", path, s.Version, stateVersion)
	}
	return &s, nil
}

// load finds the signing key (key file, state file, or a new one) and what was kept.
func (p *Provider) load(keyFile string) error {
	s, err := readState(p.stateFile)
	if err != nil {
		return err
	}
	var private *rsa.PrivateKey
	switch {
	case keyFile != "":
		private, err = openKeyFile(keyFile)
		p.stateHasKey = false
	case s != nil && s.Key != "":
		private, err = decodeKey([]byte(s.Key))
		p.stateHasKey = true
	default:
		private, err = newKey()
		p.stateHasKey = true
	}
	if err != nil {
		return err
	}
	if p.signing, err = useKey(private); err != nil {
		return err
	}
	if s != nil {
		for _, c := range s.Clients {
			p.clients[c.ID] = c
		}
		for _, f := range s.Families {
			p.families[f.ID] = f
		}
		now := p.now()
		for id, until := range s.Revoked {
			p.revoked.put(id, struct{}{}, now, until)
		}
	}
	return p.save()
}

// save writes the state, if it is kept, in one rename: a killed process leaves
// the old file or the new one. The caller holds p.mu (New excepted).
func (p *Provider) save() error {
	if p.stateFile == "" {
		return nil
	}
	s := state{Version: stateVersion, Issuer: p.issuer, Revoked: map[string]time.Time{}}
	if p.stateHasKey {
		encoded, err := encodeKey(p.signing.private)
		if err != nil {
			return err
		}
		s.Key = string(encoded)
	}
	for _, c := range p.clients {
		s.Clients = append(s.Clients, c)
	}
	for _, f := range p.families {
		s.Families = append(s.Families, f)
	}
	now := p.now()
	for id, e := range p.revoked.entries {
		if now.Before(e.expires) {
			s.Revoked[id] = e.expires
		}
	}
	data, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	// CreateTemp makes it 0600.
	file, err := os.CreateTemp(filepath.Dir(p.stateFile), filepath.Base(p.stateFile)+".*")
	if err != nil {
		return fmt.Errorf("demoidp: %w", err)
	}
	_, err = file.Write(data)
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(file.Name(), p.stateFile)
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return fmt.Errorf("demoidp: %w", err)
	}
	return nil
}
