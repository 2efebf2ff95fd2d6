package external

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Kinds of source.
const (
	KindEnvironment    = "env"
	KindFile           = "file"
	KindVault          = "vault"
	KindSecretsManager = "secretsmanager"
)

// Source is what an operator declares: where secrets of one account may lie.
type Source struct {
	Account string // the only one whose providers may name it
	Name    string // the first part of a secretId
	Kind    string

	Prefix          string // of variables, of paths in a vault, of names in Secrets Manager
	Folder          string // of files
	Address         string // of OpenBao or Vault
	Mount           string // of its KV engine, version 2; "secret" when empty
	Namespace       string
	TokenFile       string // read at each request, since tokens are renewed
	Region          string // of Secrets Manager
	AWSAccount      string // whose secrets these are
	Endpoint        string // instead of AWS's own
	CredentialsFile string // in the shared credentials format; read at each request
	Profile         string
	CAFile          string // PEM; the system's authorities when empty
}

// Files are the paths of what the platform itself shows to the source.
func (s Source) Files() []string {
	return slices.DeleteFunc([]string{s.TokenFile, s.CredentialsFile}, func(path string) bool { return path == "" })
}

// members are the settings of each kind; those with a star must be there.
var members = map[string]string{
	KindEnvironment:    "prefix*",
	KindFile:           "folder*",
	KindVault:          "address* mount prefix* token-file* namespace ca-file",
	KindSecretsManager: "region* aws-account* prefix* credentials-file* profile endpoint ca-file",
}

// ParseSource reads "name=NAME,kind=KIND,…". A source without account is of the given one.
func ParseSource(text, account string) (Source, error) {
	s := Source{Account: account}
	fields := map[string]*string{
		"account": &s.Account, "name": &s.Name, "kind": &s.Kind, "prefix": &s.Prefix, "folder": &s.Folder, "address": &s.Address, "mount": &s.Mount,
		"namespace": &s.Namespace, "token-file": &s.TokenFile, "region": &s.Region, "aws-account": &s.AWSAccount, "endpoint": &s.Endpoint,
		"credentials-file": &s.CredentialsFile, "profile": &s.Profile, "ca-file": &s.CAFile,
	}
	given := map[string]bool{}
	for pair := range strings.SplitSeq(text, ",") {
		name, value, found := strings.Cut(pair, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		field := fields[name]
		switch {
		case !found || value == "":
			return s, fmt.Errorf("%q is not NAME=VALUE", pair)
		case field == nil:
			return s, fmt.Errorf("%q is no setting of a source", name)
		case given[name]:
			return s, fmt.Errorf("%s is there twice", name)
		}
		given[name], *field = true, value
	}
	return s, s.check(given)
}

var (
	accountID    = regexp.MustCompile(`^[0-9]{12}$`)
	sourceName   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	regionName   = regexp.MustCompile(`^[a-z0-9-]{1,20}$`)
)

// check says what is wrong with a declaration, before anything is opened.
func (s *Source) check(given map[string]bool) error {
	allowed, known := members[s.Kind]
	switch {
	case !known:
		return errors.New("kind must be one of env, file, vault and secretsmanager")
	case !accountID.MatchString(s.Account):
		return fmt.Errorf("account %q is not a 12-digit account id", s.Account)
	case !sourceName.MatchString(s.Name):
		return fmt.Errorf("name %q must begin with a lower-case letter and go on with up to 31 lower-case letters, digits and hyphens", s.Name)
	}
	fitting := map[string]bool{"account": true, "name": true, "kind": true}
	for member := range strings.FieldsSeq(allowed) {
		name, needed := strings.CutSuffix(member, "*")
		if fitting[name] = true; needed && !given[name] {
			return fmt.Errorf("the kind %s needs %s", s.Kind, name)
		}
	}
	for name := range given {
		if !fitting[name] {
			return fmt.Errorf("%s is not a setting of the kind %s", name, s.Kind)
		}
	}
	switch s.Kind {
	case KindEnvironment:
		if !variableName.MatchString(s.Prefix) || ownVariable(s.Prefix) {
			return fmt.Errorf("prefix %q must be the beginning of variables' names, and not of the platform's own (%s)", s.Prefix, strings.Join(ownVariables, ", "))
		}
		return nil
	case KindFile:
		return checkFolder(s.Folder)
	case KindVault:
		if s.Mount = strings.Trim(s.Mount, "/"); s.Mount == "" {
			s.Mount = "secret"
		}
		s.Prefix, s.Namespace = strings.Trim(s.Prefix, "/"), strings.Trim(s.Namespace, "/")
		if !plainPath(s.Mount) || !plainPath(s.Prefix) || s.Namespace != "" && !plainPath(s.Namespace) {
			return errors.New("mount, prefix and namespace are paths of letters, digits and _ / + = . @ ! -")
		}
		return checkAddress("address", s.Address)
	}
	switch {
	case !regionName.MatchString(s.Region):
		return fmt.Errorf("region %q is not the name of an AWS region", s.Region)
	case !accountID.MatchString(s.AWSAccount):
		return fmt.Errorf("aws-account %q is not a 12-digit account id", s.AWSAccount)
	case !plainPath(strings.TrimSuffix(s.Prefix, "/")):
		return errors.New("prefix is the beginning of secrets' names: letters, digits and _ / + = . @ ! -")
	}
	if s.Endpoint == "" {
		s.Endpoint = "https://secretsmanager." + s.Region + ".amazonaws.com"
	}
	return checkAddress("endpoint", s.Endpoint)
}

// checkFolder refuses what could only be a mistake; what else must not be read
// from a folder is decided file by file.
func checkFolder(folder string) error {
	if !filepath.IsAbs(folder) {
		return fmt.Errorf("folder %q must be an absolute path", folder)
	}
	clean := filepath.Clean(folder)
	if clean == filepath.VolumeName(clean)+string(filepath.Separator) {
		return errors.New("folder must not be the whole file system")
	}
	for _, kernel := range []string{"/proc", "/sys", "/dev"} {
		if clean == kernel || strings.HasPrefix(clean, kernel+"/") && !strings.HasPrefix(clean, "/dev/shm/") {
			return fmt.Errorf("folder must not be in %s", kernel)
		}
	}
	return nil
}

// checkAddress lets tokens travel by https alone, or to this machine.
func checkAddress(name, raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" ||
		u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return fmt.Errorf("%s must look like https://host:port (http is for loopback only)", name)
	}
	return nil
}

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}
