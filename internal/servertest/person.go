package servertest

import (
	"context"
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

// Person is a browser with a demo person before it: it keeps cookies, follows
// redirects and fills in the demo provider's forms. It stops where a redirect
// leaves the platform and the provider, because that is the application's page.
type Person struct {
	provider *url.URL
	person   string
	HTTP     *http.Client
}

// NewPerson is a fresh browser of the person, e.g. demoidp.Ada.
func NewPerson(providerURL, person string) *Person {
	provider, err := url.Parse(providerURL)
	if err != nil {
		panic(err)
	}
	jar, _ := cookiejar.New(nil) // never fails without options
	return &Person{provider: provider, person: person, HTTP: &http.Client{
		Jar: jar, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

var (
	formAction = regexp.MustCompile(`<form[^>]*\baction="([^"]+)"`)
	fieldValue = regexp.MustCompile(`<input[^>]*\bname="request"[^>]*\bvalue="([^"]+)"`)
	valueField = regexp.MustCompile(`<input[^>]*\bvalue="([^"]+)"[^>]*\bname="request"`)
)

// Visit opens a link and answers the provider's pages with decision ("allow" or
// "deny") until a redirect leads elsewhere, whose URL it returns unvisited. A
// page that is no form of the provider ends the visit with an error that quotes
// its status.
func (p *Person) Visit(ctx context.Context, link, decision string) (arrival string, err error) {
	platform, err := url.Parse(link)
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	for range 20 {
		if err != nil {
			return "", err
		}
		response, err := p.HTTP.Do(request)
		if err != nil {
			return "", err
		}
		body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		_ = response.Body.Close()
		if err != nil {
			return "", err
		}
		if response.StatusCode >= 300 && response.StatusCode < 400 {
			next, err := response.Location()
			if err != nil {
				return "", err
			}
			if next.Host != p.provider.Host && next.Host != platform.Host {
				return next.String(), nil
			}
			if request, err = http.NewRequestWithContext(ctx, http.MethodGet, next.String(), nil); err != nil {
				return "", err
			}
			continue
		}
		if at := response.Request.URL; at.Host == platform.Host && at.Path == "/connect/done" && response.StatusCode == http.StatusOK {
			return at.String(), nil // the platform's own page is where it ends
		}
		if response.Request.URL.Host != p.provider.Host {
			return "", &StoppedError{Status: response.StatusCode, Host: response.Request.URL.Host, Page: string(body)}
		}
		if request, err = p.fill(ctx, response, string(body), decision); err != nil {
			return "", err
		}
	}
	return "", errors.New("more than 20 pages")
}

// StoppedError is a visit that ended on a page instead of a redirect to the application.
type StoppedError struct {
	Status int
	Host   string
	Page   string
}

func (e *StoppedError) Error() string {
	return fmt.Sprintf("%s shows a page with status %d", e.Host, e.Status)
}

func (p *Person) fill(ctx context.Context, response *http.Response, body, decision string) (*http.Request, error) {
	action, field := formAction.FindStringSubmatch(body), fieldValue.FindStringSubmatch(body)
	if field == nil {
		field = valueField.FindStringSubmatch(body)
	}
	if action == nil || field == nil {
		return nil, &StoppedError{Status: response.StatusCode, Host: response.Request.URL.Host, Page: body}
	}
	target, err := response.Request.URL.Parse(action[1])
	if err != nil {
		return nil, err
	}
	form := url.Values{"request": {field[1]}, "decision": {decision}}
	if target.Path == "/signin" {
		form = url.Values{"request": {field[1]}, "person": {p.person}}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", p.provider.Scheme+"://"+p.provider.Host)
	return request, nil
}
