package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/onbehalf/onbehalf/internal/egress"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// The endpoints that a client posts to, as errors name them.
const (
	tokenEndpoint      = "token endpoint"
	revocationEndpoint = "revocation endpoint"
	pushEndpoint       = "pushed authorization endpoint"
)

// request is one POST to an endpoint of a server, under the client's authentication.
type request struct {
	server   Server
	endpoint string // what it is
	address  string
	form     url.Values
	secrets  []secret.Text // what of the form an answer must not bring into an error
}

// answer is what came back, whatever its status.
type answer struct {
	vendor   Vendor
	endpoint string
	host     string
	status   int
	header   http.Header
	body     []byte
	sent     []string // spellings of the request's secrets
	started  time.Time
}

// post sends a request once: whatever happens, it is not sent again. An error
// means that no answer came; whether the request arrived is then unknown.
func (c *Client) post(ctx context.Context, r request) (answer, error) {
	unreachable := func() error {
		return fault.New(fault.Invalid, "The provider has no %s that can be reached.", r.endpoint)
	}
	vendor, err := r.server.vendor()
	if err != nil {
		return answer{}, err
	}
	address, err := url.Parse(r.address)
	if err != nil || address.Host == "" {
		return answer{}, unreachable()
	}
	header := http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"},
		"Accept":       {"application/json"},
		"User-Agent":   {"onbehalf"},
	}
	for name, value := range vendor.Quirks.Headers {
		header.Set(name, value)
	}
	started := c.now()
	proof, err := authenticate(r.server, r.form, header, started)
	if err != nil {
		return answer{}, err
	}
	body := r.form.Encode()
	if vendor.Quirks.JSONBody {
		header.Set("Content-Type", "application/json")
		body = jsonBody(r.form)
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), strings.NewReader(body))
	if err != nil {
		return answer{}, unreachable()
	}
	req.Header = header
	req.GetBody = nil // without it net/http cannot send the body again

	resp, err := c.egress.Do(req)
	if err != nil {
		return answer{}, withoutAnswer(r.endpoint, err)
	}
	got, err := egress.ReadAll(resp, bodyLimit)
	if err != nil {
		return answer{}, withoutAnswer(r.endpoint, err)
	}
	sent := proof
	for _, value := range r.secrets {
		sent = append(sent, spellings(value.Reveal())...)
	}
	return answer{
		vendor: vendor, endpoint: r.endpoint, host: address.Host,
		status: resp.StatusCode, header: resp.Header, body: got, sent: sent, started: started,
	}, nil
}

// jsonBody is a form as a JSON object; a parameter that is there once is a string.
func jsonBody(form url.Values) string {
	object := make(map[string]any, len(form))
	for name, values := range form {
		object[name] = values
		if len(values) == 1 {
			object[name] = values[0]
		}
	}
	body, _ := json.Marshal(object) // strings and lists of strings alone: it cannot fail
	return string(body)
}

// authenticate puts the client's proof where its method wants it, and says what
// of it is secret.
func authenticate(s Server, form url.Values, header http.Header, now time.Time) ([]string, error) {
	method, err := s.authMethod()
	if err != nil {
		return nil, err
	}
	password := s.ClientSecret.Reveal()
	switch method {
	case AuthSecretBasic:
		id, password := url.QueryEscape(s.ClientID), url.QueryEscape(password) // RFC 6749 section 2.3.1
		request := http.Request{Header: header}
		request.SetBasicAuth(id, password)
		if password != "" {
			return spellings(s.ClientSecret.Reveal(), id+":"+password), nil
		}
	case AuthSecretPost:
		form.Set("client_id", s.ClientID)
		form.Set("client_secret", password)
		return spellings(password), nil
	case AuthPrivateKeyJWT:
		assertion, err := s.Assertion.sign(s.ClientID, s.Metadata.TokenEndpoint, now)
		if err != nil {
			return nil, err
		}
		form.Set("client_id", s.ClientID)
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion.Reveal())
		return spellings(assertion.Reveal()), nil
	case AuthNone:
		form.Set("client_id", s.ClientID)
	case AuthOmitted:
		if grant := form.Get("grant_type"); grant != GrantTokenExchange && grant != GrantJWTBearer {
			return nil, fault.New(fault.Invalid, "A client can be left out of a token exchange alone.")
		}
	default:
		return nil, fault.New(fault.NotBuilt, "Client authentication by %s is not supported.", method)
	}
	return nil, nil
}

// authMethod is decided by configuration and metadata, never by trying: a
// method that fails may have spent the code.
func (s Server) authMethod() (AuthMethod, error) {
	if s.AuthMethod != "" {
		return s.AuthMethod, nil
	}
	vendor, err := s.vendor()
	if err != nil || vendor.AuthMethod != "" {
		return vendor.AuthMethod, err
	}
	offered := s.Metadata.TokenEndpointAuthMethods
	if !slices.Contains(offered, string(AuthSecretBasic)) && slices.Contains(offered, string(AuthSecretPost)) {
		return AuthSecretPost, nil
	}
	return AuthSecretBasic, nil // the default of RFC 8414, and of AWS
}
