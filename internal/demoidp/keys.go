package demoidp

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"

	"github.com/go-jose/go-jose/v4"
)

const keyBits = 2048

// signingKey signs everything this provider says, RS256.
type signingKey struct {
	private *rsa.PrivateKey
	id      string // RFC 7638 thumbprint
	access  jose.Signer
	plain   jose.Signer
}

func useKey(private *rsa.PrivateKey) (signingKey, error) {
	k := signingKey{private: private}
	thumbprint, err := (&jose.JSONWebKey{Key: &private.PublicKey}).Thumbprint(crypto.SHA256)
	if err != nil {
		return k, err
	}
	k.id = base64.RawURLEncoding.EncodeToString(thumbprint)
	key := jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: private, KeyID: k.id}}
	// RFC 9068 types access tokens, so that an ID token is never taken for one.
	if k.access, err = jose.NewSigner(key, (&jose.SignerOptions{}).WithType(accessTokenType)); err != nil {
		return k, err
	}
	k.plain, err = jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT"))
	return k, err
}

func newKey() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, keyBits) }

// openKeyFile reads the signing key, or makes it. It never overwrites.
func openKeyFile(path string) (*rsa.PrivateKey, error) {
	data, err := os.ReadFile(path)
	switch {
	case err == nil:
		return decodeKey(data)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("demoidp: %w", err)
	}
	private, err := newKey()
	if err != nil {
		return nil, err
	}
	encoded, err := encodeKey(private)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("demoidp: %w", err)
	}
	_, err = file.Write(encoded)
	if closing := file.Close(); err == nil {
		err = closing
	}
	return private, err
}

func encodeKey(private *rsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func decodeKey(data []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("demoidp: the key is not a PEM PRIVATE KEY")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("demoidp: %w", err)
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("demoidp: the key is not RSA")
	}
	return private, nil
}

func (p *Provider) jwks(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
		Key: &p.signing.private.PublicKey, KeyID: p.signing.id, Algorithm: string(jose.RS256), Use: "sig",
	}}})
}
