package runtime

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/api"
)

// A value is replaced in every way it is likely to be printed.
func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	const value = "s3cret/with \"quotes\" & more+of=it<ä>"
	quoted, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var s secrets
	s.keep(value)
	for name, text := range map[string]string{
		"plain": value, "twice": value + value, "JSON": string(quoted), "query": url.QueryEscape(value), "path": url.PathEscape(value),
		"base64": base64.StdEncoding.EncodeToString([]byte(value)), "base64 URL": base64.URLEncoding.EncodeToString([]byte(value)),
		"Basic": base64.StdEncoding.EncodeToString([]byte("user:" + value)), "Basic, a longer name": base64.StdEncoding.EncodeToString([]byte("anton:" + value)),
		"Basic, the longest": base64.StdEncoding.EncodeToString([]byte("someone:" + value)),
	} {
		hidden := s.hide("before " + text + " after")
		if !strings.HasPrefix(hidden, "before ") || !strings.HasSuffix(hidden, " after") || !strings.Contains(hidden, redacted) || len(hidden) > len("before  after")+2*len(redacted)+16 {
			t.Errorf("%s: %s", name, hidden)
		}
	}
	if got := s.hide("nothing of it, s3cre or so"); got != "nothing of it, s3cre or so" {
		t.Error(got)
	}
	s.keep("-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\n-----END KEY-----")
	if got := s.hide("  MIIEvQIBADANBgkqhkiG9w0BAQ"); got != "  "+redacted {
		t.Errorf("a line of one with several: %s", got)
	}
	s.keep("short")
	if got := s.hide("a short word"); got != "a short word" {
		t.Error(got)
	}
}

// The longer of two values that begin alike is the one that is meant; passing values
// are forgotten in their order, kept ones are not.
func TestSecretsThatPass(t *testing.T) {
	t.Parallel()
	var s secrets
	s.keep("the-value-kept")
	s.add("token-0000")
	s.add("token-0000-and-more")
	if got := s.hide("token-0000-and-more token-0000"); got != redacted+" "+redacted {
		t.Error(got)
	}
	for i := range 3 * mostPassing {
		s.add(fmt.Sprintf("passing-%06d", i))
	}
	if got := s.hide("token-0000 passing-000001"); got != "token-0000 passing-000001" {
		t.Error(got)
	}
	if got := s.hide(fmt.Sprintf("the-value-kept passing-%06d", 3*mostPassing-1)); got != redacted+" "+redacted {
		t.Error(got)
	}
	if len(s.passing) != mostPassing || len(s.index) > 8*mostPassing {
		t.Errorf("%d passing, %d heads", len(s.passing), len(s.index))
	}
}

// Thousands of tokens that begin alike cost an agent's flood of such beginnings
// hardly more of the platform's time than a few do.
func TestAlikeSecretsCostLittle(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("toke", 64<<10)
	cost := func(count int) time.Duration {
		var s secrets
		for i := range count {
			s.add(fmt.Sprintf("token-%0100d", i))
		}
		least := time.Hour
		for range 20 { // one of them is not disturbed by other tests
			begun := time.Now()
			s.hide(text)
			least = min(least, time.Since(begun))
		}
		return least
	}
	few, many := cost(2), cost(mostPassing)
	if many > 50*few {
		t.Errorf("2 cost %v, %d cost %v", few, mostPassing, many)
	}
}

// FuzzLongestPrefix: it is the one that looking at each of them finds.
func FuzzLongestPrefix(f *testing.F) {
	f.Add("abcd,abcde,abcdxyz,abce", "abcdef")
	f.Add("aaaa,aaaab,aaaabb,aaab", "aaaabab")
	f.Fuzz(func(t *testing.T, list, text string) {
		values := strings.Split(list, ",")
		slices.Sort(values)
		values = slices.Compact(values)
		want := 0
		for _, value := range values {
			if strings.HasPrefix(text, value) {
				want = max(want, len(value))
			}
		}
		if got := longestPrefix(values, text); got != want {
			t.Errorf("%q in %q: %d, want %d", values, text, got, want)
		}
	})
}

// Nothing of a value is left, wherever a text is cut.
func FuzzSecrets(f *testing.F) {
	f.Add("the-secret-value", "before ", " after", 9)
	f.Add("aaaaaaaaaaaa", "aaa", "aaaa", 5)
	f.Fuzz(func(t *testing.T, value, before, after string, at int) {
		var s secrets
		s.keep(value)
		text := before + value + after
		if len(value) >= shortest && !strings.Contains(before+redacted+after, value) && strings.Contains(s.hide(text), value) {
			t.Errorf("%q is in %q", value, s.hide(text))
		}
		if at = min(max(at, 0), len(text)); len(value) >= shortest {
			cut := s.cut(text, at)
			if hidden := s.hide(text[:cut]) + s.hide(text[cut:]); hidden != s.hide(text) {
				t.Errorf("cut at %d: %q, whole %q", cut, hidden, s.hide(text))
			}
		}
	})
}

// What the platform hands a session is known before the session has it; other
// answers stream.
func TestAnswersAreOverheard(t *testing.T) {
	t.Parallel()
	var s secrets
	for path, member := range map[string]string{
		api.GetResourceOauth2Token.Info.Path: "accessToken", api.GetResourceApiKey.Info.Path: "apiKey", api.GetWorkloadAccessTokenForUserId.Info.Path + "/": "workloadAccessToken",
	} {
		value := "the value of " + member
		w := httptest.NewRecorder()
		s.watch(w, httptest.NewRequest(http.MethodPost, path, nil), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusCreated)
			for _, piece := range []string{`{"` + member + `":"the val`, "ue of " + member + `","authorizationUrl":"https://example.com/authorize"}`} {
				if _, err := w.Write([]byte(piece)); err != nil {
					t.Error(err)
				}
			}
		}))
		if w.Code != http.StatusCreated || !strings.Contains(w.Body.String(), value) || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if got := s.hide("x " + value + " https://example.com/authorize"); got != "x "+redacted+" https://example.com/authorize" {
			t.Errorf("%s: %s", path, got)
		}
	}
	w := httptest.NewRecorder()
	s.watch(w, httptest.NewRequest(http.MethodPost, "/gateway/g/mcp", nil), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	}))
	if !w.Flushed {
		t.Error("a gateway's answer does not stream")
	}
}
