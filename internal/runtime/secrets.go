package runtime

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/onbehalf/onbehalf/internal/api"
)

const (
	// shortest is the length from which a value is looked for: replacing shorter
	// ones would eat ordinary words.
	shortest = 6
	// longestForms is up to which length the other ways to write a passing value are
	// looked for. Longer ones are tokens, which look the same everywhere, and come with each call.
	longestForms = 256
	// mostPassing is how many of the values that change (tokens, an hour's
	// credentials) are remembered; those that the session was started with stay.
	mostPassing = 4096
	redacted    = "[redacted]"
)

// secrets are the values that a session was handed, found by their first four
// bytes. Safe for concurrent use.
type secrets struct {
	mu      sync.RWMutex
	index   map[[4]byte][]string // sorted, so that thousands that begin alike, as tokens do, cost no more than a few
	passing []string             // a ring, once it is full
	next    int                  // of it
	most    int                  // the length of the longest so far
}

// keep remembers a value for as long as the session lives.
func (s *secrets) keep(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.insert(value)
	for _, form := range forms(value) {
		s.insert(form)
	}
}

// add remembers a value that will be replaced by others.
func (s *secrets) add(value string) {
	if len(value) < shortest {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known(value) {
		return
	}
	s.insert(value)
	for _, form := range passingForms(value) {
		s.insert(form)
	}
	if len(s.passing) < mostPassing {
		s.passing = append(s.passing, value)
		return
	}
	oldest := s.passing[s.next]
	s.remove(oldest)
	for _, form := range passingForms(oldest) {
		s.remove(form)
	}
	s.passing[s.next] = value
	s.next = (s.next + 1) % mostPassing
}

func passingForms(value string) []string {
	if len(value) > longestForms {
		return nil
	}
	return forms(value)
}

func head(text string) [4]byte { return [4]byte([]byte(text[:4])) }

func (s *secrets) known(value string) bool {
	_, found := slices.BinarySearch(s.index[head(value)], value)
	return found
}

func (s *secrets) insert(value string) {
	if len(value) < shortest {
		return
	}
	key := head(value)
	place, known := slices.BinarySearch(s.index[key], value)
	if known {
		return // also a form that two values share: it goes with the first that is forgotten
	}
	if s.index == nil {
		s.index = map[[4]byte][]string{}
	}
	s.most = max(s.most, len(value))
	s.index[key] = slices.Insert(s.index[key], place, value)
}

func (s *secrets) remove(value string) {
	if len(value) < shortest {
		return
	}
	key := head(value)
	if place, known := slices.BinarySearch(s.index[key], value); known {
		s.index[key] = slices.Delete(s.index[key], place, place+1)
	}
	if len(s.index[key]) == 0 {
		delete(s.index, key)
	}
}

// forms are the other ways in which a value is likely to be printed: in JSON, in a URL, in base64 (alone, and behind a name as Basic credentials are), and each
// line of those that have several.
func forms(value string) (all []string) {
	if quoted, err := json.Marshal(value); err == nil {
		all = append(all, string(quoted[1:len(quoted)-1]))
		all = append(all, strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(quoted[1:len(quoted)-1])))
	}
	all = append(all, url.QueryEscape(value), url.PathEscape(value))
	for line := range strings.Lines(value) {
		if line = strings.TrimSpace(line); len(line) >= 16 && line != value {
			all = append(all, line)
		}
	}
	if len(value) >= 12 {
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			for shift := range 3 {
				// What stands before the value moves it by so many bytes; the first and last
				// characters hold bits of its neighbours.
				text := encoding.EncodeToString(append(make([]byte, shift), value...))
				from, to := (shift*8+5)/6, (shift+len(value))*8/6
				all = append(all, text[from:to])
			}
		}
	}
	return all
}

// find calls match with each place of a value in a text, from left to right.
func (s *secrets) find(text string, match func(from, to int) (goOn bool)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.index) == 0 {
		return
	}
	for i := 0; i+shortest <= len(text); {
		next := i + 1
		if alike := s.index[head(text[i:])]; alike != nil {
			if length := longestPrefix(alike, text[i:]); length > 0 {
				next = i + length
				if !match(i, next) {
					return
				}
			}
		}
		i = next
	}
}

// longestPrefix is the length of the longest of the sorted values with which a text
// begins; 0 where it begins with none. The greatest value that is not after the text
// either is that one, or says how much of the text can still be one.
func longestPrefix(values []string, text string) int {
	for {
		place, whole := slices.BinarySearch(values, text)
		if whole {
			return len(text)
		}
		if place == 0 {
			return 0
		}
		value := values[place-1]
		shared := 0
		for shared < min(len(value), len(text)) && value[shared] == text[shared] {
			shared++
		}
		if shared == len(value) {
			return shared
		}
		values, text = values[:place], text[:shared]
	}
}

// hide replaces the values in a text.
func (s *secrets) hide(text string) string {
	var out strings.Builder
	done := 0
	s.find(text, func(from, to int) bool {
		out.WriteString(text[done:from])
		out.WriteString(redacted)
		done = to
		return true
	})
	if done == 0 {
		return text
	}
	out.WriteString(text[done:])
	return out.String()
}

// cut is a place at or after at where a text can be cut without cutting a value. The
// text goes on for longest bytes after at.
func (s *secrets) cut(text string, at int) int {
	s.find(text, func(from, to int) bool {
		if from < at && to > at {
			at = to
		}
		return from < at
	})
	return at
}

// longest is the length of the longest value that there was: so much of a cut line
// may be the beginning of one.
func (s *secrets) longest() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.most
}

// handing are the calls whose answers are secrets for the session, and where in them they are.
var handing = map[string]string{
	api.GetResourceOauth2Token.Info.Path:          "accessToken",
	api.GetResourceApiKey.Info.Path:               "apiKey",
	api.GetWorkloadAccessToken.Info.Path:          "workloadAccessToken",
	api.GetWorkloadAccessTokenForJWT.Info.Path:    "workloadAccessToken",
	api.GetWorkloadAccessTokenForUserId.Info.Path: "workloadAccessToken",
}

// watch serves a call of the session to the platform, and remembers the secret in
// the answer before the agent has it.
func (s *secrets) watch(w http.ResponseWriter, r *http.Request, to http.Handler) {
	member, hands := handing[strings.TrimSuffix(r.URL.Path, "/")]
	if !hands {
		to.ServeHTTP(w, r)
		return
	}
	o := &overheard{ResponseWriter: w}
	to.ServeHTTP(o, r)
	var answer map[string]any
	if json.Unmarshal(o.body.Bytes(), &answer) == nil {
		if value, ok := answer[member].(string); ok {
			s.add(value)
		}
	}
	if o.status != 0 {
		w.WriteHeader(o.status)
	}
	_, _ = w.Write(o.body.Bytes())
}

// overheard keeps an answer back until it is whole. These are short.
type overheard struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (o *overheard) WriteHeader(status int)      { o.status = status }
func (o *overheard) Write(p []byte) (int, error) { return o.body.Write(p) }
