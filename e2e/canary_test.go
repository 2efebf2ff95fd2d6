package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/onbehalf/onbehalf/internal/audit"
	"github.com/onbehalf/onbehalf/internal/store"
)

// canaries are the secrets of a story, as they came up: what must be found
// nowhere but where the protocol puts it.
type canaries struct {
	mu     sync.Mutex
	values map[string]string // to its kind
}

func (c *canaries) add(kind, value string) {
	if len(value) < 16 {
		return // nothing secret is that short, and short texts are everywhere
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil {
		c.values = map[string]string{}
	}
	c.values[value] = kind
}

func (c *canaries) kinds() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Compact(slices.Sorted(maps.Values(c.values)))
}

// sought is a text that gives a canary away.
type sought struct{ kind, text string }

// forms are the canaries as they would show up somewhere: whole, in halves (a
// line that was cut, a page of the database), escaped, in hex, and in base64,
// also in the middle of something longer.
func (c *canaries) forms(except ...string) (all []sought) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for value, kind := range c.values {
		if slices.Contains(except, kind) {
			continue
		}
		parts := []string{value}
		if segments := strings.Split(value, "."); len(segments) == 3 && strings.HasPrefix(value, "eyJ") {
			parts = segments[1:] // the header of a JWT is that of all of them
		}
		for _, part := range parts {
			if len(part) >= 32 {
				parts = append(parts, part[:len(part)/2], part[len(part)/2:])
			}
		}
		for _, part := range parts {
			texts := map[string]bool{part: true, url.QueryEscape(part): true, hex.EncodeToString([]byte(part)): true}
			for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
				for offset := range 3 {
					encoded := encoding.EncodeToString([]byte(strings.Repeat("-", offset) + part))
					texts[encoded[(offset*8+5)/6:len(encoded)-1]] = true // without what shares a letter with a neighbour
				}
			}
			for text := range texts {
				all = append(all, sought{kind, text})
			}
		}
	}
	return all
}

// in looks for the canaries in a text, and names the kinds of those that it finds.
func (c *canaries) in(content string, except ...string) []string {
	found := map[string]bool{}
	for _, s := range c.forms(except...) {
		if strings.Contains(content, s.text) {
			found[s.kind] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// inFolder looks at the bytes of every file of a data folder but the two that
// are there to hold secrets.
func (c *canaries) inFolder(t testing.TB, folder string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "credentials" || d.Name() == "key-encryption-key" {
			return err
		}
		content, err := os.ReadFile(path)
		for _, kind := range c.in(string(content)) {
			found = append(found, kind+" in "+d.Name())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// inRows looks at every cell of every table: in the file, a long one is in pieces.
func (c *canaries) inRows(p *platform) (found []string) {
	p.t.Helper()
	var cells strings.Builder
	p.inside(func(db *store.DB, _ *audit.Log) {
		err := db.View(p.t.Context(), func(tx *store.Tx) error {
			tables, err := column(tx, `SELECT name FROM sqlite_master WHERE type = 'table'`)
			if err != nil {
				return err
			}
			for _, table := range tables {
				names, err := column(tx, `SELECT name FROM pragma_table_info('`+table+`')`)
				if err != nil {
					return err
				}
				for _, name := range names {
					values, err := column(tx, `SELECT `+name+` FROM `+table)
					if err != nil {
						return err
					}
					cells.WriteString(strings.Join(values, "\n") + "\n")
				}
			}
			return nil
		})
		if err != nil {
			p.t.Fatal(err)
		}
	})
	return c.in(cells.String())
}

// watch stands before a provider and takes down every secret that passes. It may
// be told to answer token requests badly, with all that it was told.
type watch struct {
	*canaries
	next http.Handler

	mu  sync.Mutex
	bad func(w http.ResponseWriter, told string)
}

// misbehave answers the next token requests; nil ends it.
func (w *watch) misbehave(bad func(w http.ResponseWriter, told string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bad = bad
}

func (w *watch) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	w.add("state", r.URL.Query().Get("state"))
	if _, secret, ok := r.BasicAuth(); ok {
		if decoded, err := url.QueryUnescape(secret); err == nil {
			w.add("client secret", decoded)
		}
	}
	if r.URL.Path == "/token" {
		form, _ := url.ParseQuery(string(body))
		for field, kind := range map[string]string{"code": "code", "code_verifier": "PKCE verifier", "refresh_token": "refresh token", "client_secret": "client secret"} {
			w.add(kind, form.Get(field))
		}
		w.mu.Lock()
		bad := w.bad
		w.mu.Unlock()
		if bad != nil {
			bad(out, r.Header.Get("Authorization")+" "+string(body)+" "+form.Get("code")+" "+form.Get("refresh_token"))
			return
		}
	}
	answer := httptest.NewRecorder()
	w.next.ServeHTTP(answer, r)
	if location, err := url.Parse(answer.Header().Get("Location")); err == nil {
		w.add("code", location.Query().Get("code"))
	}
	var tokens struct {
		Access       string `json:"access_token"`
		Refresh      string `json:"refresh_token"`
		ID           string `json:"id_token"`
		ClientSecret string `json:"client_secret"`
	}
	if r.Method == http.MethodPost && json.Unmarshal(answer.Body.Bytes(), &tokens) == nil {
		w.add("access token", tokens.Access)
		w.add("refresh token", tokens.Refresh)
		w.add("user JWT", tokens.ID)
		w.add("client secret", tokens.ClientSecret)
	}
	maps.Copy(out.Header(), answer.Header())
	out.WriteHeader(answer.Code)
	_, _ = out.Write(answer.Body.Bytes())
}

// listener is a client's transport that takes down the secrets which the platform
// gives out, and keeps what it says where it should give none.
type listener struct {
	*canaries
	except []string // kinds that may be in an answer to this client

	mu      sync.Mutex
	answers []string
}

// gives are the members of answers that are there to give a secret.
var gives = map[string]string{"workloadAccessToken": "workload access token", "accessToken": "access token", "authorizationUrl": "session", "sessionUri": "session"}

func (l *listener) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	for _, cookie := range response.Cookies() {
		l.add("cookie", cookie.Value)
	}
	var members map[string]any
	if response.StatusCode < 300 && json.Unmarshal(body, &members) == nil {
		for member, kind := range gives {
			if value, ok := members[member].(string); ok {
				l.addSession(kind, value)
				delete(members, member)
			}
		}
		body, _ = json.Marshal(members)
	}
	if response.StatusCode >= 300 && response.StatusCode < 400 || response.StatusCode < 300 && members == nil && len(body) > 0 {
		return response, nil // a redirect, or a page: they go to the person themselves
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = append(l.answers, fmt.Sprintf("%s %s\n%s", r.Method, r.URL.Path, body))
	return response, nil
}

// addSession keeps the part of a link or a session URI that nobody could guess.
func (c *canaries) addSession(kind, value string) {
	if kind == "session" {
		value = value[strings.LastIndexAny(value, ":%")+1:]
		value = strings.TrimPrefix(value, "3A")
	}
	c.add(kind, value)
}
