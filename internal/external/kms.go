package external

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/sigv4"
)

// kmsKey is a key that AWS KMS signs with. Its credentials need kms:Sign and kms:GetPublicKey on it.
type kmsKey struct {
	amazon
	id     string
	caFile string
	public atomic.Pointer[crypto.PublicKey] // a KMS key never becomes another one
}

// parseKMS reads what follows awskms:.
func (k *SigningKey) parseKMS(text string) error {
	where, rest, _ := strings.Cut(text, ",")
	id, endpoint, elsewhere := strings.Cut(where, "@")
	key := &kmsKey{id: id, amazon: amazon{service: "kms", target: "TrentService"}}
	if !keyARN.MatchString(id) {
		return errors.New("awskms: what follows must be the ARN of the key in KMS")
	}
	key.region = strings.Split(id, ":")[3]
	if key.endpoint = endpoint; !elsewhere {
		key.endpoint = "https://kms." + key.region + ".amazonaws.com"
	}
	fields := map[string]*string{"credentials-file": &key.credentials, "profile": &key.profile, "ca-file": &key.caFile}
	for pair := range strings.SplitSeq(rest, ",") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		if fields[name] == nil || value == "" {
			return fmt.Errorf("awskms: %q is none of credentials-file=, profile= and ca-file=", pair)
		}
		*fields[name] = value
	}
	if key.credentials == "" {
		return errors.New("awskms: credentials-file= is missing")
	}
	k.KMS = key
	return checkAddress("awskms: the endpoint", key.endpoint)
}

func (k *kmsKey) open() (err error) {
	if k.client, err = operatorClient(k.caFile); err != nil {
		return err
	}
	if _, err := sigv4.ReadProfile(k.credentials, k.profile); err != nil {
		return fmt.Errorf("credentials-file: %s", fault.Of(err).Message)
	}
	return nil
}

// signer asks KMS for the public key, once, and signs within the context.
func (k *kmsKey) signer(ctx context.Context, arn string) (crypto.Signer, error) {
	if public := k.public.Load(); public != nil {
		return &kmsSigner{k, ctx, *public}, nil
	}
	asking, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var answer struct{ PublicKey []byte }
	if err := k.call(asking, "GetPublicKey", map[string]string{"KeyId": k.id}, &answer); err != nil {
		return nil, kmsFault(arn, err)
	}
	public, err := x509.ParsePKIXPublicKey(answer.PublicKey)
	if err != nil {
		return nil, kmsFault(arn, errors.New("its public key cannot be parsed"))
	}
	if err := checkKey(public); err != nil {
		return nil, fault.New(fault.Invalid, "The key %s cannot be used: %s.", arn, err.Error())
	}
	key := crypto.PublicKey(public)
	k.public.Store(&key)
	return &kmsSigner{k, ctx, key}, nil
}

func kmsFault(arn string, err error) error {
	return fault.New(fault.Unavailable, "The server of the key %s cannot be reached or refuses to sign. Try again later.", arn).Because(err)
}

// kmsSigner is a crypto.Signer, whose method has no context of its own.
type kmsSigner struct {
	key    *kmsKey
	ctx    context.Context
	public crypto.PublicKey
}

func (s *kmsSigner) Public() crypto.PublicKey { return s.public }

// Sign asks KMS to sign a SHA-256 digest.
func (s *kmsSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	algorithm := ""
	switch s.public.(type) {
	case *rsa.PublicKey:
		algorithm = "RSASSA_PKCS1_V1_5_SHA_256"
		if _, pss := opts.(*rsa.PSSOptions); pss {
			algorithm = "RSASSA_PSS_SHA_256"
		}
	case *ecdsa.PublicKey:
		algorithm = "ECDSA_SHA_256"
	}
	if opts.HashFunc() != crypto.SHA256 {
		return nil, errors.New("KMS keys sign SHA-256 digests here")
	}
	ctx, cancel := context.WithTimeout(s.ctx, readTimeout)
	defer cancel()
	var answer struct{ Signature []byte }
	err := s.key.call(ctx, "Sign", map[string]any{"KeyId": s.key.id, "Message": digest, "MessageType": "DIGEST", "SigningAlgorithm": algorithm}, &answer)
	if err == nil && len(answer.Signature) == 0 {
		err = errors.New("KMS gave no signature")
	}
	if err != nil {
		return nil, kmsFault(s.key.id, err)
	}
	return answer.Signature, nil
}
