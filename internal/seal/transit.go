package seal

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// TransitOptions name a key of the transit secrets engine of OpenBao or
// HashiCorp Vault. The key never leaves that server; we send it data keys.
type TransitOptions struct {
	Address   string                      // https://bao.example.com:8200; http only on loopback, where the server's agent listens
	Mount     string                      // where the engine is mounted; "transit" when empty
	Key       string                      // the key's name; its type must be aes256-gcm96 (the default) or chacha20-poly1305, which take associated data
	Namespace string                      // of Vault Enterprise and OpenBao; may be empty
	Token     func() (secret.Text, error) // asked at each call, because tokens are renewed; nil where an agent adds its own
	Client    *http.Client                // one for the operator's own servers, with a certificate pool that fits; not the guarded one of egress
}

type transitKey struct {
	id        string
	base      string // address and mount
	key       string
	namespace string
	token     func() (secret.Text, error)
	client    *http.Client
}

var transitName = regexp.MustCompile(`^[A-Za-z0-9_.][A-Za-z0-9_.-]*$`)

// OpenTransitKey checks the options; NewKeeper proves the key.
//
// The token needs the capability "update" on {mount}/encrypt/{key} and
// {mount}/decrypt/{key}, and should not have "create": with it a misspelt name
// would make a new key. Versions of the key may be rotated at will; those that
// wrapped a data key must stay decryptable.
func OpenTransitKey(o TransitOptions) (KeyWrapper, error) {
	if o.Client == nil {
		return nil, fault.New(fault.Internal, "An internal error occurred: the transit key has no HTTP client.")
	}
	address, err := url.Parse(o.Address)
	if err != nil || address.Host == "" || address.User != nil || address.RawQuery != "" || address.Fragment != "" ||
		address.Scheme != "https" && (address.Scheme != "http" || !loopback(address.Hostname())) {
		return nil, fault.New(fault.Invalid, "The address of the transit key must look like https://bao.example.com:8200 (http is for loopback only).")
	}
	mount := strings.Trim(o.Mount, "/")
	if mount == "" {
		mount = "transit"
	}
	for _, part := range append(strings.Split(mount, "/"), o.Key) {
		if !transitName.MatchString(part) || strings.Trim(part, ".") == "" {
			return nil, fault.New(fault.Invalid, "%q is not the name of a transit key or of a mount.", part)
		}
	}
	// A request that carries a token follows no redirect: net/http would take X-Vault-Token along to any host.
	client := *o.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t := &transitKey{
		base:      strings.TrimRight(address.String(), "/") + "/v1/" + mount,
		key:       o.Key,
		namespace: strings.Trim(o.Namespace, "/"),
		token:     o.Token,
		client:    &client,
	}
	// The address is left out: a server that moves keeps its keys.
	t.id = "transit:" + strings.TrimPrefix(t.namespace+"/"+mount+"/"+o.Key, "/")
	return t, nil
}

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// ID implements KeyWrapper.
func (t *transitKey) ID() string { return t.id }

// transitFields are the members of requests and answers that we use.
type transitFields struct {
	Plaintext      []byte `json:"plaintext,omitempty"` // base64, as encoding/json does with bytes
	Ciphertext     string `json:"ciphertext,omitempty"`
	AssociatedData []byte `json:"associated_data,omitempty"`
}

// Wrap implements KeyWrapper.
func (t *transitKey) Wrap(ctx context.Context, dataKey []byte, bound string) ([]byte, error) {
	answer, err := t.call(ctx, "encrypt", transitFields{Plaintext: dataKey, AssociatedData: []byte(bound)})
	if err != nil {
		return nil, err
	}
	if answer.Ciphertext == "" || bytes.Contains([]byte(answer.Ciphertext), base64.StdEncoding.AppendEncode(nil, dataKey)) {
		return nil, t.unavailable("gave no ciphertext", nil)
	}
	return []byte(answer.Ciphertext), nil
}

// Unwrap implements KeyWrapper.
func (t *transitKey) Unwrap(ctx context.Context, wrapped []byte, bound string) ([]byte, error) {
	answer, err := t.call(ctx, "decrypt", transitFields{Ciphertext: string(wrapped), AssociatedData: []byte(bound)})
	if err != nil {
		return nil, err
	}
	return answer.Plaintext, nil
}

func (t *transitKey) call(ctx context.Context, act string, fields transitFields) (transitFields, error) {
	body, err := json.Marshal(fields)
	if err != nil {
		return transitFields{}, fault.Wrap(err, "asking the transit key")
	}
	defer clear(body)
	return persistently(ctx, func(ctx context.Context) (transitFields, error) { return t.once(ctx, act, body) })
}

func (t *transitKey) once(ctx context.Context, act string, body []byte) (transitFields, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.base+"/"+act+"/"+t.key, bytes.NewReader(body))
	if err != nil {
		return transitFields{}, fault.Wrap(err, "asking the transit key")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Vault-Request", "true") // an agent in between refuses requests without it
	if t.token != nil {
		token, err := t.token()
		if err != nil {
			return transitFields{}, err
		}
		request.Header.Set("X-Vault-Token", token.Reveal())
	}
	if t.namespace != "" {
		request.Header.Set("X-Vault-Namespace", t.namespace)
	}
	response, err := t.client.Do(request)
	if err != nil {
		return transitFields{}, passing{t.unavailable("cannot be reached", err)}
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, remoteLimit))
	defer clear(content)
	if err != nil {
		return transitFields{}, passing{t.unavailable("broke off its answer", err)}
	}
	if response.StatusCode != http.StatusOK {
		return transitFields{}, t.refusal(act, response.StatusCode, content)
	}
	var answer struct {
		Data transitFields `json:"data"`
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		return transitFields{}, t.unavailable("gave an answer that cannot be understood", nil) // the cause could quote the key
	}
	return answer.Data, nil
}

// refusal turns an answer that is not 200 into an error. Its messages go to the
// log: they name keys and policies, not values.
func (t *transitKey) refusal(act string, status int, content []byte) error {
	var answer struct {
		Errors []string `json:"errors"`
	}
	_ = json.Unmarshal(content, &answer)
	cause := fmt.Errorf("status %d: %s", status, strings.Join(answer.Errors, "; "))
	switch {
	case act == "decrypt" && slices.Contains(answer.Errors, "encryption key not found"):
		return keyGone(t.id)
	case status == http.StatusBadRequest && act == "decrypt":
		return fault.New(fault.Undecryptable, "A data key does not open with the key %s: it is another key, or the database was altered.", t.id).Because(cause)
	case status == http.StatusForbidden:
		return t.unavailable("refused our token", cause)
	case status == http.StatusServiceUnavailable:
		return passing{t.unavailable("is sealed, or standing by", cause)}
	case status >= http.StatusInternalServerError || status == http.StatusTooManyRequests:
		return passing{t.unavailable("failed", cause)}
	}
	return t.unavailable("failed", cause)
}

func (t *transitKey) unavailable(what string, cause error) error {
	if cause == nil {
		cause = errors.New(t.base)
	}
	return unanswered(t.id, what, cause)
}
