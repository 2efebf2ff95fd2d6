package seal

import (
	"bytes"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/sigv4"
)

// WrapperSpec is a key-encryption key as an operator writes it:
//
//	file:PATH
//	transit:URL#KEY[,mount=MOUNT][,namespace=NAMESPACE][,token-file=PATH|,token-env=NAME][,ca-file=PATH]
//	awskms:ARN[@ENDPOINT][,credentials-file=PATH[,profile=NAME]|,credentials-env=PREFIX][,ca-file=PATH]
//	gone
//
// Tokens and credentials are in files or in the environment, never in the text
// itself, which may be logged and shown.
type WrapperSpec struct {
	kind    string // file, transit, awskms or gone
	path    string // of file
	address string // of transit: URL; of awskms: endpoint
	key     string // of transit: name; of awskms: ARN
	options map[string]string
}

// Variables that are read where the text names no other. The platform's own
// AWS_* variables are never used: they are those of its clients.
const (
	defaultTokenVariable      = "ONBEHALF_TRANSIT_TOKEN"
	defaultCredentialVariable = "ONBEHALF_KMS" // …_ACCESS_KEY_ID, …_SECRET_ACCESS_KEY, …_SESSION_TOKEN
)

var wrapperOptions = map[string][]string{
	"transit": {"mount", "namespace", "token-file", "token-env", "ca-file"},
	"awskms":  {"credentials-file", "profile", "credentials-env", "ca-file"},
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// ParseWrapper reads the text of a setting. It opens nothing.
func ParseWrapper(text string) (WrapperSpec, error) {
	malformed := func(why string) (WrapperSpec, error) {
		return WrapperSpec{}, fault.New(fault.Invalid, "%q is no key: %s. Write file:PATH, transit:URL#KEY or awskms:ARN[@ENDPOINT].", text, why)
	}
	if text == "gone" {
		return WrapperSpec{kind: text}, nil
	}
	kind, rest, found := strings.Cut(text, ":")
	if !found || rest == "" {
		return malformed("it names no kind of key")
	}
	if kind == "file" {
		return WrapperSpec{kind: kind, path: rest}, nil
	}
	known, ok := wrapperOptions[kind]
	if !ok {
		return malformed("there is no kind " + kind)
	}
	parts := strings.Split(rest, ",")
	s := WrapperSpec{kind: kind, options: make(map[string]string)}
	for _, part := range parts[1:] {
		name, value, _ := strings.Cut(part, "=")
		if value == "" || s.options[name] != "" || !slices.Contains(known, name) {
			return malformed("its option " + name + " is unknown, empty or there twice")
		}
		s.options[name] = value
	}
	if kind == "transit" {
		s.address, s.key, found = strings.Cut(parts[0], "#")
		if !found || s.key == "" {
			return malformed("the key's name is missing behind #")
		}
	} else {
		s.key, s.address, _ = strings.Cut(parts[0], "@")
	}
	for _, pair := range [][2]string{{"token-file", "token-env"}, {"credentials-file", "credentials-env"}} {
		if s.options[pair[0]] != "" && s.options[pair[1]] != "" {
			return malformed("of " + pair[0] + " and " + pair[1] + " only one can hold")
		}
	}
	if s.options["profile"] != "" && s.options["credentials-file"] == "" {
		return malformed("a profile is one in a credentials-file")
	}
	for _, name := range []string{"token-env", "credentials-env"} {
		if value := s.options[name]; value != "" && !variableName.MatchString(value) {
			return malformed(name + " is the name of a variable, not a value") // and is quoted: it is in the text
		}
	}
	// What is wrong with addresses and names is found before anything is opened.
	_, err := s.remote(egress.Operator(egress.OperatorOptions{}))
	return s, err
}

// FilePath is the path of a key in a file; empty for the others.
func (s WrapperSpec) FilePath() string { return s.path }

// Files are the paths of what must stay secret: a key, a token, credentials.
func (s WrapperSpec) Files() []string {
	return given(s.path, s.options["token-file"], s.options["credentials-file"])
}

// Variables are the names of what must stay secret in the environment.
func (s WrapperSpec) Variables() []string {
	names := given(s.options["token-env"])
	if prefix := s.options["credentials-env"]; prefix != "" {
		names = append(names, prefix+"_ACCESS_KEY_ID", prefix+"_SECRET_ACCESS_KEY", prefix+"_SESSION_TOKEN")
	}
	return names
}

func given(texts ...string) []string {
	return slices.DeleteFunc(texts, func(text string) bool { return text == "" })
}

// Gone reports whether the text says that the key was destroyed.
func (s WrapperSpec) Gone() bool { return s.kind == "gone" }

// Open opens the key. A file must exist; a server is asked when NewKeeper proves the key.
func (s WrapperSpec) Open() (KeyWrapper, error) {
	switch s.kind {
	case "gone":
		return Gone, nil
	case "file":
		return OpenFileKey(s.path)
	}
	roots, err := readRoots(s.options["ca-file"])
	if err != nil {
		return nil, err
	}
	return s.remote(egress.Operator(egress.OperatorOptions{Roots: roots}))
}

func (s WrapperSpec) remote(client *http.Client) (KeyWrapper, error) {
	if s.kind == "transit" {
		return OpenTransitKey(TransitOptions{
			Address: s.address, Mount: s.options["mount"], Key: s.key, Namespace: s.options["namespace"], Token: s.token(), Client: client,
		})
	}
	return OpenKMSKey(KMSOptions{ARN: s.key, Endpoint: s.address, Credentials: s.credentials(), Client: client})
}

// token reads the token anew each time: agents renew it in its file.
func (s WrapperSpec) token() func() (secret.Text, error) {
	path, name := s.options["token-file"], s.options["token-env"]
	if path == "" && name == "" {
		if os.Getenv(defaultTokenVariable) == "" {
			return nil // an agent in between adds its own
		}
		name = defaultTokenVariable
	}
	return func() (secret.Text, error) {
		if path == "" {
			if value := os.Getenv(name); value != "" {
				return secret.New(value), nil
			}
			return secret.Text{}, fault.New(fault.Unavailable, "The token for the transit key %s is missing: the variable %s is not set.", s.key, name)
		}
		content, err := readSmall(path)
		defer clear(content)
		content = bytes.TrimSpace(content)
		if err != nil || len(content) == 0 || bytes.ContainsAny(content, "\r\n\x00") {
			return secret.Text{}, fault.New(fault.Unavailable, "The token for the transit key %s cannot be read from %s.", s.key, path).Because(err)
		}
		return secret.New(string(content)), nil
	}
}

func (s WrapperSpec) credentials() func() (sigv4.Key, error) {
	if path := s.options["credentials-file"]; path != "" {
		return func() (sigv4.Key, error) { return sigv4.ReadProfile(path, s.options["profile"]) }
	}
	prefix := s.options["credentials-env"]
	if prefix == "" {
		prefix = defaultCredentialVariable
	}
	return func() (sigv4.Key, error) {
		key := sigv4.Key{
			AccessKeyID:  os.Getenv(prefix + "_ACCESS_KEY_ID"),
			Secret:       secret.New(os.Getenv(prefix + "_SECRET_ACCESS_KEY")),
			SessionToken: secret.New(os.Getenv(prefix + "_SESSION_TOKEN")),
		}
		if key.AccessKeyID == "" || key.Secret.Empty() {
			return sigv4.Key{}, fault.New(fault.Unavailable, "The credentials for the key %s are missing: set %s_ACCESS_KEY_ID and %s_SECRET_ACCESS_KEY, or name a file with credentials-file.", s.key, prefix, prefix)
		}
		return key, nil
	}
}

func readRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	content, err := readSmall(path)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "The certificates %s cannot be read.", path).Because(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(content) {
		return nil, fault.New(fault.Invalid, "The file %s has no certificates in PEM.", path)
	}
	return roots, nil
}

func readSmall(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, 1<<20))
}
