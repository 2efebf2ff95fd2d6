package external

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// SigningKey is what an operator declares: the key that the ARN of a KMS key
// stands for. The account in the ARN is the one whose providers may name it.
type SigningKey struct {
	ARN  string
	File string // PEM: PKCS #8, PKCS #1 or SEC 1, not encrypted

	Secret Reference // or the same as an external secret of that account

	KMS *kmsKey // or a key of AWS KMS, which never leaves it
}

var keyARN = regexp.MustCompile(`^arn:aws(?:|-cn|-us-gov):kms:[a-zA-Z0-9-]*:([0-9]{12}):key/[a-zA-Z0-9-]{36}$`)

// ParseSigningKey reads "ARN=file:PATH", "ARN=secret:SECRETID#JSONKEY" or
// "ARN=awskms:KEYARN[@ENDPOINT],credentials-file=FILE[,profile=…][,ca-file=…]".
func ParseSigningKey(text string) (SigningKey, error) {
	arn, where, _ := strings.Cut(text, "=")
	k := SigningKey{ARN: strings.TrimSpace(arn)}
	if !keyARN.MatchString(k.ARN) {
		return k, fmt.Errorf("%q is not the ARN of a KMS key, as in arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000000", k.ARN)
	}
	kind, rest, _ := strings.Cut(strings.TrimSpace(where), ":")
	switch kind {
	case "file":
		if k.File = rest; rest == "" {
			return k, errors.New("file: the path is missing")
		}
	case "secret":
		id, key, found := strings.Cut(rest, "#")
		if k.Secret = (Reference{ID: id, JSONKey: key}); id == "" || !found || key == "" {
			return k, errors.New("secret: write secret:SECRETID#JSONKEY; the jsonKey $ takes the whole of a plain text")
		}
	case "awskms":
		return k, k.parseKMS(rest)
	default:
		return k, errors.New("after the ARN must come =file:PATH, =secret:SECRETID#JSONKEY or =awskms:KEYARN")
	}
	return k, nil
}

// Files are the paths of the key, or of the credentials for it.
func (k *SigningKey) Files() []string {
	switch {
	case k.File != "":
		return []string{k.File}
	case k.KMS != nil:
		return []string{k.KMS.credentials}
	}
	return nil
}

func (k *SigningKey) account() string { return keyARN.FindStringSubmatch(k.ARN)[1] }

// Keys are the declared signing keys. It is safe for concurrent use; the nil Keys has none.
type Keys struct {
	secrets *Secrets
	files   map[string]crypto.Signer // by ARN: they are read once, and proven at the start
	all     map[string]SigningKey
}

// NewKeys opens the keys. An error names the setting, for operators.
func NewKeys(declared []SigningKey, secrets *Secrets) (*Keys, error) {
	k := &Keys{secrets: secrets, files: map[string]crypto.Signer{}, all: map[string]SigningKey{}}
	for _, each := range declared {
		if _, twice := k.all[each.ARN]; twice {
			return nil, fmt.Errorf("--signing-key %s: it is there twice", each.ARN)
		}
		k.all[each.ARN] = each
		var err error
		switch {
		case each.File != "":
			k.files[each.ARN], err = keyOfFile(each.File)
		case each.KMS != nil:
			err = each.KMS.open()
		default:
			if _, _, findErr := secrets.find(each.account(), each.Secret.ID); findErr != nil {
				err = errors.New(fault.Of(findErr).Message)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("--signing-key %s: %w", each.ARN, err)
		}
	}
	return k, nil
}

func keyOfFile(path string) (crypto.Signer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > contentLimit {
		return nil, fmt.Errorf("file: %s is no key file", path)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	defer clear(content)
	signer, err := parseKey(content)
	if err != nil {
		return nil, fmt.Errorf("file: %s: %w", path, err)
	}
	return signer, nil
}

// parseKey reads the first private key of a PEM text. Its errors quote nothing.
func parseKey(content []byte) (crypto.Signer, error) {
	for rest := content; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("it has no private key in PEM")
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, errors.New("its key is encrypted: store it without a passphrase")
			}
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("its key is encrypted: store it without a passphrase")
		default:
			continue // EC PARAMETERS, certificates
		}
		if err != nil {
			return nil, errors.New("its private key cannot be parsed")
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, errWrongKey
		}
		return signer, checkKey(signer.Public())
	}
}

var errWrongKey = errors.New("the key must be RSA of 2048 to 4096 bits, or elliptic on P-256")

// checkKey holds keys to the types that the three algorithms take.
func checkKey(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits >= 2048 && bits <= 4096 {
			return nil
		}
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return nil
		}
	}
	return errWrongKey
}

// Signer answers the key that an ARN stands for, for the requests of the context
// alone. fault.Invalid: it was not declared for the account.
func (k *Keys) Signer(ctx context.Context, account, arn string) (crypto.Signer, error) {
	if k == nil {
		k = &Keys{}
	}
	declared, known := k.all[arn]
	if !known || declared.account() != account {
		return nil, fault.New(fault.Invalid, "The key %s is not declared for this account. An operator declares it with --signing-key.", arn)
	}
	if signer := k.files[arn]; signer != nil {
		return signer, nil
	}
	if declared.KMS != nil {
		return declared.KMS.signer(ctx, arn)
	}
	text, err := k.secrets.Resolve(ctx, account, declared.Secret, contentLimit)
	if err != nil {
		return nil, err
	}
	content := []byte(text.Reveal())
	defer clear(content)
	signer, err := parseKey(content)
	if err != nil {
		return nil, fault.New(fault.Invalid, "The key %s cannot be used: %s.", arn, err.Error())
	}
	return signer, nil
}
