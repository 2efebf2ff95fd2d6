package server

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gateway"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/runtime"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
	"github.com/onbehalf/onbehalf/internal/vault"
)

// keys are the settings about key-encryption keys, read: the platform's own, and
// those that accounts may put around their vaults.
type keys struct {
	platform seal.WrapperSpec
	declared []declaredKey
}

type declaredKey struct {
	arn, account string
	spec         seal.WrapperSpec
}

// vaultKeyARN is the model's pattern for kmsKeyArn: what no request can name need not be declared.
var vaultKeyARN = regexp.MustCompile(`^arn:aws(?:|-cn|-us-gov):kms:[a-zA-Z0-9-]*:([0-9]{12}):key/[a-zA-Z0-9-]{36}$`)

// keys reads --key-file, --key-wrapper and --kms-key, and opens nothing.
func (c Config) keys() (k keys, err error) {
	switch {
	case c.KeyWrapper == "":
		k.platform, err = seal.ParseWrapper("file:" + folder{path: c.Data}.keyFile(c.KeyFile))
	case c.KeyFile != "":
		return k, errors.New("--key-file and --key-wrapper both name the key-encryption key: leave one of them out")
	default:
		k.platform, err = seal.ParseWrapper(c.KeyWrapper)
	}
	if err != nil {
		return k, errors.New("--key-wrapper: " + fault.Of(err).Message)
	}
	if k.platform.Gone() {
		return k, errors.New("--key-wrapper: nothing can be opened without the platform's key; gone is for --kms-key")
	}
	seen := map[string]bool{}
	for _, text := range c.KMSKeys {
		arn, wrapper, _ := strings.Cut(text, "=")
		parts := vaultKeyARN.FindStringSubmatch(arn)
		if parts == nil {
			return k, fmt.Errorf("--kms-key %q does not begin with the ARN of a KMS key and =: write arn:aws:kms:REGION:ACCOUNT:key/UUID=WRAPPER", text)
		}
		if seen[arn] {
			return k, fmt.Errorf("--kms-key %s is declared twice", arn)
		}
		seen[arn] = true
		spec, err := seal.ParseWrapper(wrapper)
		if err != nil {
			return k, fmt.Errorf("--kms-key %s: %s", arn, fault.Of(err).Message)
		}
		k.declared = append(k.declared, declaredKey{arn: arn, account: parts[1], spec: spec})
	}
	return k, nil
}

// open opens the keys. A first start makes the platform's, where it is a file;
// the operator's commands, and restore, never do.
func (k keys) open(ctx context.Context, db *store.DB, first bool) (platform seal.KeyWrapper, declared []seal.Declared, err error) {
	if path := k.platform.FilePath(); path != "" && first {
		platform, err = seal.FileKey(ctx, db, path)
	} else {
		platform, err = k.platform.Open()
	}
	if err != nil {
		return nil, nil, err
	}
	for _, d := range k.declared {
		w, err := d.spec.Open()
		if err != nil {
			return nil, nil, errors.New("--kms-key " + d.arn + ": " + forOperator(err).Error())
		}
		declared = append(declared, seal.Declared{ARN: d.arn, Account: d.account, Wrapper: w})
	}
	return platform, declared, nil
}

// keeper opens the keys and proves that they are those of the database.
func (k keys) keeper(ctx context.Context, db *store.DB, first bool) (*seal.Keeper, error) {
	platform, declared, err := k.open(ctx, db, first)
	if err != nil {
		return nil, err
	}
	return seal.NewKeeper(ctx, db, platform, declared...)
}

// sealedTables are where the rooms keep sealed values: all of them.
func sealedTables() []seal.Table {
	return slices.Concat(seal.Own, auth.Sealed, identity.Sealed, vault.Sealed, broker.Sealed, gateway.Sealed, runtime.Sealed, audit.Sealed)
}

// CreateKeyFile makes a key-encryption key in a file that does not exist yet.
func CreateKeyFile(path string) error { return readable(seal.CreateFileKey(path)) }
