package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/auth"
	"github.com/onbehalf/onbehalf/internal/broker"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/gate"
	"github.com/onbehalf/onbehalf/internal/gateway"
	"github.com/onbehalf/onbehalf/internal/identity"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/runtime"
	"github.com/onbehalf/onbehalf/internal/seal"
	"github.com/onbehalf/onbehalf/internal/store"
)

// Operator is whoever has the database (the data folder, or a PostgreSQL URL) and
// its key: the one who may make accounts, keys and roles and say what they may
// do. No signed call does that.
//
//	command ── Operator ── gate (as the platform itself) ──▶ auth, policy ──▶ record
//
// It works on the database beside a running server, which sees every change
// within a second (keys are read again each second, and so are remembered
// reads), and just as well while none runs. Each change is recorded in a chain
// of its own.
type Operator struct {
	folder   folder
	shared   bool   // the database is not the folder's own
	keyFile  string // of the platform's key, where that is a file
	region   string // of the server that has this data folder, or had it last
	secure   bool   // that server is reached by TLS
	db       *store.DB
	keeper   *seal.Keeper
	auth     *auth.Authenticator
	policies *policy.Engine
}

// OpenOperator opens an installation that exists. It makes nothing: neither a
// data folder, nor a key, nor an account.
func OpenOperator(ctx context.Context, s Storage) (_ *Operator, err error) {
	o := &Operator{shared: s.DatabaseURL.Reveal() != ""}
	defer func() {
		if err != nil {
			_ = o.Close()
			err = readable(err)
		}
	}()
	if o.folder, o.db, o.keeper, err = openStorage(ctx, s); err != nil {
		return nil, err
	}
	if k, err := s.Config().keys(); err == nil { // it was read before
		o.keyFile = k.platform.FilePath()
	}
	served, _ := o.folder.readEndpoint() // without it, the defaults hold
	o.region, o.secure = cmp.Or(served.Region, DefaultRegion), strings.HasPrefix(served.URL, "https://")
	o.policies = policy.New(o.db)
	o.auth = auth.New(o.db, o.keeper, nil, auth.Options{Region: o.region, NewAccount: newAccount(o.policies)})
	o.policies.UseTags(o.tags().of)
	return o, nil
}

// tags are those of all resources, for explanations. The rooms that own them are
// here to read rows alone, and have nothing to act with.
func (o *Operator) tags() tags {
	identities := identity.New(o.db, o.keeper, o.auth, identity.Options{Region: o.region})
	brokers := broker.New(o.db, o.keeper, identities, nil, nil, nil, o.auth, nil, broker.Options{Region: o.region})
	return newTags(o.region, identities, brokers, gateway.New(o.db, o.keeper, identities, brokers, o.auth, nil, gateway.Options{Region: o.region}),
		runtime.New(o.db, o.keeper, identities, o.auth, nil, runtime.Options{Region: o.region}))
}

// Close lets go of the database.
func (o *Operator) Close() error {
	if o.db == nil {
		return nil
	}
	return o.db.Close()
}

// act does one change as the platform itself, and records it.
func (o *Operator) act(ctx context.Context, account, action, resource string, fn func(context.Context) error) error {
	records, err := audit.New(ctx, o.db, o.keeper, "")
	if err != nil {
		return readable(err)
	}
	defer func() { _ = records.Close() }()
	check := gate.Check{Action: "onbehalf:" + action, Resource: resource}
	return readable(gate.New(o.auth, o.policies, records).Do(ctx, gate.System(account), []gate.Check{check}, func(ctx context.Context) error {
		gate.Detail(ctx, "operator", "uid "+strconv.Itoa(os.Getuid()))
		return fn(ctx)
	}))
}

// change is act with one transaction.
func (o *Operator) change(ctx context.Context, account, action, resource string, fn func(*store.Tx) error) error {
	return o.act(ctx, account, action, resource, func(ctx context.Context) error { return o.db.Update(ctx, fn) })
}

func (o *Operator) view(ctx context.Context, fn func(*store.Tx) error) error {
	return readable(o.db.View(ctx, fn))
}

// readable is an error as an operator reads it: the message, and the cause where the message points to a log.
func readable(err error) error {
	var known *fault.Error
	if !errors.As(err, &known) {
		return err
	}
	if known.Cause != nil && (known.Kind == fault.Internal || known.Kind == fault.Unavailable) {
		return errors.New(known.Message + " (" + known.Cause.Error() + ")")
	}
	return errors.New(known.Message)
}

// Account is the account that a command means: the one named, else the only
// one, else the one that a first start makes.
func (o *Operator) Account(ctx context.Context, named string) (string, error) {
	list, err := o.Accounts(ctx)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, account := range list {
		ids = append(ids, account.ID)
		if account.ID == named || named == "" && (len(list) == 1 || account.ID == DefaultAccount) {
			return account.ID, nil
		}
	}
	if named != "" {
		return "", fmt.Errorf("there is no account %s", named)
	}
	return "", fmt.Errorf("name one of the accounts with --account: %s", strings.Join(ids, ", "))
}

// Principal is the ARN that a command means by user/NAME, role/NAME, root, or an
// ARN, and its account.
func (o *Operator) Principal(ctx context.Context, account, text string) (arn, of string, err error) {
	if parsed, err := api.ParseARN(text); err == nil {
		if account != "" && account != parsed.Account {
			return "", "", fmt.Errorf("%s is not of account %s", text, account)
		}
		of, err := o.Account(ctx, parsed.Account)
		return text, of, err
	}
	if account, err = o.Account(ctx, account); err != nil {
		return "", "", err
	}
	arn = "arn:aws:iam::" + account + ":" + text
	if text != "root" {
		if err := policy.CheckPrincipal(account, arn); err != nil {
			return "", "", fmt.Errorf("%q is no principal: write user/NAME, role/NAME or an ARN", text)
		}
	}
	return arn, account, nil
}

// Accounts lists the tenants.
func (o *Operator) Accounts(ctx context.Context) (list []auth.Account, err error) {
	err = o.view(ctx, func(tx *store.Tx) (err error) { list, err = o.auth.ListAccounts(tx); return err })
	return list, err
}

// CreateAccount makes a tenant and its root key.
func (o *Operator) CreateAccount(ctx context.Context, account string) (key auth.NewKey, err error) {
	err = o.act(ctx, account, "CreateAccount", "arn:aws:iam::"+account+":root", func(ctx context.Context) (err error) {
		key, err = o.auth.CreateAccount(ctx, account)
		return err
	})
	return key, err
}

// Keys lists access keys; with an empty account, of all.
func (o *Operator) Keys(ctx context.Context, account string) (list []auth.AccessKey, err error) {
	err = o.view(ctx, func(tx *store.Tx) (err error) { list, err = o.auth.ListKeys(tx, account); return err })
	return list, err
}

// CreateKey makes an access key of a user.
func (o *Operator) CreateKey(ctx context.Context, account, user string) (key auth.NewKey, err error) {
	err = o.act(ctx, account, "CreateAccessKey", user, func(ctx context.Context) (err error) {
		key, err = o.auth.CreateKey(ctx, user)
		return err
	})
	return key, err
}

// SetKey enables or disables an access key.
func (o *Operator) SetKey(ctx context.Context, id string, active bool) error {
	key, err := o.key(ctx, id)
	if err != nil {
		return err
	}
	action, state := "DisableAccessKey", auth.KeyDisabled
	if active {
		action, state = "EnableAccessKey", auth.KeyActive
	}
	return o.change(ctx, key.Account, action, key.Principal, func(tx *store.Tx) error { return o.auth.SetKeyState(tx, id, state) })
}

// DeleteKey takes a user's access key away.
func (o *Operator) DeleteKey(ctx context.Context, id string) error {
	key, err := o.key(ctx, id)
	if err != nil {
		return err
	}
	return o.change(ctx, key.Account, "DeleteAccessKey", key.Principal, func(tx *store.Tx) error { return o.auth.DeleteKey(tx, id) })
}

func (o *Operator) key(ctx context.Context, id string) (key auth.AccessKey, err error) {
	err = o.view(ctx, func(tx *store.Tx) (err error) { key, err = o.auth.FindKey(tx, id); return err })
	return key, err
}

// ResetRoot replaces the account's root key. Where the credentials file has the
// old one, or is lost, it gets the new one, and file says where it is.
func (o *Operator) ResetRoot(ctx context.Context, account string) (key auth.NewKey, file string, err error) {
	ours, err := o.ownsCredentials(ctx, account)
	if err != nil {
		return auth.NewKey{}, "", err
	}
	err = o.act(ctx, account, "ResetRootKey", "arn:aws:iam::"+account+":root", func(ctx context.Context) error {
		return o.auth.ResetRoot(ctx, account, func(fresh auth.NewKey) error {
			key = fresh
			if !ours {
				return nil
			}
			file = o.folder.credentials()
			return o.folder.writeCredentials(fresh.ID, fresh.Secret)
		})
	})
	return key, file, err
}

// ownsCredentials reports whether the credentials file is the account's: it has
// the id of its root key, or does not exist. Of replicas, only one may have it.
func (o *Operator) ownsCredentials(ctx context.Context, account string) (bool, error) {
	content, err := os.ReadFile(o.folder.credentials())
	if errors.Is(err, fs.ErrNotExist) {
		return !o.shared, nil
	}
	if err != nil {
		return false, err
	}
	keys, err := o.Keys(ctx, account)
	for _, key := range keys {
		if key.Root && strings.Contains(string(content), key.ID) {
			return true, nil
		}
	}
	return false, err
}

// Policies lists a principal's policies; with an empty principal, all of the account.
func (o *Operator) Policies(ctx context.Context, account, principal string) (list []policy.Stored, err error) {
	err = o.view(ctx, func(tx *store.Tx) (err error) { list, err = o.policies.List(tx, account, principal); return err })
	return list, err
}

// Policy is one of a principal's policies.
func (o *Operator) Policy(ctx context.Context, account, principal, name string) (found policy.Stored, err error) {
	err = o.view(ctx, func(tx *store.Tx) (err error) {
		found, err = o.policies.Get(tx, account, principal, name)
		return err
	})
	return found, err
}

// PutPolicy attaches a policy, or replaces it. A role must exist.
func (o *Operator) PutPolicy(ctx context.Context, account, principal, name, document string) error {
	return o.change(ctx, account, "PutPolicy", principal, func(tx *store.Tx) error {
		if _, role, isRole := strings.Cut(principal, ":role/"); isRole {
			if err := o.auth.CheckRole(tx, account, role); err != nil {
				return err
			}
		}
		return o.policies.Put(tx, account, principal, name, document)
	})
}

// DeletePolicy takes a policy away.
func (o *Operator) DeletePolicy(ctx context.Context, account, principal, name string) error {
	return o.change(ctx, account, "DeletePolicy", principal, func(tx *store.Tx) error { return o.policies.Delete(tx, account, principal, name) })
}

// Roles lists an account's roles.
func (o *Operator) Roles(ctx context.Context, account string) (list []auth.Role, err error) {
	err = o.view(ctx, func(tx *store.Tx) (err error) { list, err = o.auth.ListRoles(tx, account); return err })
	return list, err
}

// CreateRole makes a role, which may do nothing yet.
func (o *Operator) CreateRole(ctx context.Context, account, name string) error {
	return o.change(ctx, account, "CreateRole", auth.RoleARN(account, name), func(tx *store.Tx) error { return o.auth.CreateRole(tx, auth.Role{Account: account, Name: name}) })
}

// DeleteRole takes a role away with its policies; its credentials end within a second.
func (o *Operator) DeleteRole(ctx context.Context, account, name string) error {
	arn := auth.RoleARN(account, name)
	return o.change(ctx, account, "DeleteRole", arn, func(tx *store.Tx) error {
		if err := o.auth.DeleteRole(tx, account, name); err != nil {
			return err
		}
		return o.policies.DeleteAll(tx, account, arn)
	})
}

// Credentials issues temporary credentials of a role.
func (o *Operator) Credentials(ctx context.Context, account, role, session string, life time.Duration) (issued auth.Credentials, err error) {
	err = o.act(ctx, account, "IssueCredentials", auth.RoleARN(account, role), func(ctx context.Context) (err error) {
		issued, err = o.auth.IssueSession(ctx, account, role, session, life)
		return err
	})
	return issued, err
}

// Explain says why a principal may or may not do an action on a resource. given
// are values of condition keys.
func (o *Operator) Explain(ctx context.Context, account, arn, action, resource string, given map[string][]string) (policy.Explanation, error) {
	caller := principal.Caller{Kind: principal.Key, Account: account, ARN: arn, Root: strings.HasSuffix(arn, ":root"), Request: principal.Request{Region: o.region, Secure: o.secure}}
	if _, role, isRole := strings.Cut(arn, ":role/"); isRole {
		caller.Kind, caller.ARN = principal.Role, "arn:aws:sts::"+account+":assumed-role/"+role+"/explain"
	}
	explained, err := o.policies.Explain(ctx, caller, policy.Check{Action: action, Resource: resource}, given)
	return explained, readable(err)
}
