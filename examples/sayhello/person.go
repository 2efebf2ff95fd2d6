package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Who plays, as the demo provider knows her.
const (
	demoPersonID   = "ada-lovelace"
	demoPersonName = "Ada Lovelace"
)

// demoPerson plays the person at the demo provider over HTTP: it follows
// redirects with a cookie jar as a browser does, signs in and allows. It fills in
// forms of the demo provider only, so it can consent to nothing real.
type demoPerson struct {
	provider *url.URL
	http     *http.Client
}

func newDemoPerson(providerURL string) (*demoPerson, error) {
	provider, err := url.Parse(providerURL)
	if err != nil || provider.Host == "" {
		return nil, &ConfigurationError{Problem{What: fmt.Sprintf("%q is not the URL of a demo provider", providerURL), Hint: "It is printed by onbehalf serve --dev."}}
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	return &demoPerson{provider: provider, http: &http.Client{Jar: jar, Timeout: time.Minute}}, nil
}

var (
	formAction   = regexp.MustCompile(`<form[^>]*\baction="([^"]+)"`)
	hiddenField  = regexp.MustCompile(`<input[^>]*\bname="request"[^>]*\bvalue="([^"]+)"`)
	hiddenField2 = regexp.MustCompile(`<input[^>]*\bvalue="([^"]+)"[^>]*\bname="request"`)
)

// visit opens a link and does what its pages ask, until a page asks for nothing.
// A link of the platform redirects at once, because no HTML is asked for.
func (d *demoPerson) visit(ctx context.Context, link string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return &OAuthError{Problem{What: "the link cannot be opened", Hint: hintAgain}}
	}
	for range 4 { // sign in, allow, and the same once more for the application's own sign-in
		response, body, err := d.send(request)
		if err != nil {
			return err
		}
		if response.Request.URL.Host != d.provider.Host || !formAction.MatchString(body) {
			switch {
			case response.StatusCode < 400:
				return nil
			case response.Request.URL.Host == d.provider.Host && strings.Contains(body, "Redirect URI mismatch"):
				return &OAuthError{Problem{What: "the provider does not know the redirect URI", Hint: hintRedirectURI}}
			default:
				return &OAuthError{Problem{What: fmt.Sprintf("the demo person was refused by %s: %s", response.Request.URL.Host, response.Status), Hint: hintAgain}}
			}
		}
		if request, err = d.fill(ctx, response.Request.URL, body); err != nil {
			return err
		}
	}
	return &OAuthError{Problem{What: "the demo provider asks again and again", Hint: hintInvalidOAuth}}
}

// fill answers the form of a sign-in or consent page.
func (d *demoPerson) fill(ctx context.Context, at *url.URL, body string) (*http.Request, error) {
	unknown := &OAuthError{Problem{What: "the demo provider shows a page that the demo person does not understand", Hint: "Open the link yourself, or use the demo provider of this version."}}
	field := hiddenField.FindStringSubmatch(body)
	if field == nil {
		field = hiddenField2.FindStringSubmatch(body)
	}
	action, err := at.Parse(formAction.FindStringSubmatch(body)[1])
	if field == nil || err != nil || action.Host != d.provider.Host {
		return nil, unknown
	}
	form := url.Values{"request": {field[1]}}
	switch action.Path {
	case "/signin":
		form.Set("person", demoPersonID)
	case "/consent":
		form.Set("decision", "allow")
	default:
		return nil, unknown
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, action.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, unknown
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", d.provider.Scheme+"://"+d.provider.Host)
	return request, nil
}

func (d *demoPerson) send(request *http.Request) (*http.Response, string, error) {
	response, err := d.http.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // without the URL, which has the request in it
		}
		return nil, "", &OAuthError{Problem{What: "the demo person cannot reach " + request.URL.Host, Cause: err, Hint: "Is it running, and reachable from this machine?"}}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, "", &OAuthError{Problem{What: "the demo person cannot read a page of " + request.URL.Host, Cause: err, Hint: hintAgain}}
	}
	return response, string(body), nil
}

// registerDemoClient registers the platform's callback URL at the demo provider
// (RFC 7591), as a person does by hand at Google's console.
func registerDemoClient(providerURL, name string) func(context.Context, string) (string, string, error) {
	return func(ctx context.Context, callbackURL string) (id, secret string, err error) {
		body, err := json.Marshal(map[string]any{"client_name": name, "redirect_uris": []string{callbackURL}, "token_endpoint_auth_method": "client_secret_basic"})
		if err != nil {
			return "", "", err
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(providerURL, "/")+"/register", bytes.NewReader(body))
		if err != nil {
			return "", "", err
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
		if err != nil {
			return "", "", err
		}
		defer response.Body.Close()
		var made struct {
			ID     string `json:"client_id"`
			Secret string `json:"client_secret"`
		}
		if response.StatusCode != http.StatusCreated {
			return "", "", fmt.Errorf("the demo provider answered %s", response.Status)
		}
		if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&made); err != nil || made.ID == "" {
			return "", "", errors.New("the demo provider answered with something else than a client")
		}
		return made.ID, made.Secret, nil
	}
}
