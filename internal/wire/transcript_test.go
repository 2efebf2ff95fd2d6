package wire

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/sigv4"
)

var update = flag.Bool("update", false, "rewrite the responses in testdata/*.txtar")

// TestTranscripts plays testdata/*.txtar. Each has a head that says which
// behaviour it guards, and then requests and responses in turns. A request is
// method and path, headers, a blank line, a body. Lines that start with "!"
// say how it is signed:
//
//	! unsigned             not at all
//	! key unknown|wrong    an access key that there is not; the right one with another secret
//	! clock -20m           by a wrong clock
//	! body {"other":1}     for another body than the one that is sent
//	! token abc            with a session token
//	! pad 2000000          the body is padded to this many bytes
//
// NEXT in a request is the last nextToken of a response. What differs from run
// to run is masked: the date and page tokens.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(bytes.TrimSpace(archive.Comment)) == 0 {
				t.Error("the transcript does not say which behaviour it guards")
			}
			play(t, newHouse(t, rooms()...), archive)
			if *update {
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func play(t *testing.T, h *house, archive *txtar.Archive) {
	t.Helper()
	next := "none"
	for i := range archive.Files {
		file := &archive.Files[i]
		if file.Name != "request" {
			continue
		}
		if i+1 == len(archive.Files) || archive.Files[i+1].Name != "response" {
			t.Fatal("a request without a response")
		}
		got := h.send(t, strings.ReplaceAll(string(file.Data), "NEXT", next))
		if found := nextToken.FindStringSubmatch(got); found != nil {
			next = found[1]
			got = nextToken.ReplaceAllString(got, `"nextToken":"NEXT"`)
		}
		if strings.Contains(got, canary) {
			t.Errorf("the response shows what it must not:\n%s", got)
		}
		want := &archive.Files[i+1].Data
		if *update {
			*want = []byte(got)
		} else if got != string(*want) {
			t.Errorf("the request\n%s\nis answered\n%s\nwant\n%s", file.Data, got, *want)
		}
	}
}

var nextToken = regexp.MustCompile(`"nextToken":"([^"]*)"`)

// send plays one request and gives the response as the transcripts have it.
func (h *house) send(t *testing.T, text string) string {
	t.Helper()
	head, body, _ := strings.Cut(strings.TrimSuffix(text, "\n"), "\n\n")
	first, rest, _ := strings.Cut(head, "\n")
	method, target, _ := strings.Cut(first, " ")
	how := directives{key: sigv4.Key{AccessKeyID: h.key.ID, Secret: h.key.Secret}, signed: true, body: body}
	header := http.Header{}
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if directive, is := strings.CutPrefix(line, "! "); is {
			how.apply(t, directive, &body)
		} else if name, value, found := strings.Cut(line, ": "); found {
			header.Set(name, value)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), method, h.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	if how.signed {
		if err := sigv4.Sign(request, how.key, region, "bedrock-agentcore", sha256.Sum256([]byte(how.body)), time.Now().Add(how.clock)); err != nil {
			t.Fatal(err)
		}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return show(t, response)
}

// directives are how a request is signed.
type directives struct {
	key    sigv4.Key
	signed bool
	clock  time.Duration
	body   string // that is hashed for the signature
}

func (d *directives) apply(t *testing.T, directive string, body *string) {
	t.Helper()
	word, argument, _ := strings.Cut(directive, " ")
	switch word {
	case "unsigned":
		d.signed = false
	case "key":
		if argument == "unknown" {
			d.key.AccessKeyID = "AKIAUNKNOWNUNKNOWN00"
		} else {
			d.key.Secret = secret.New("not the secret")
		}
	case "clock":
		clock, err := time.ParseDuration(argument)
		if err != nil {
			t.Fatal(err)
		}
		d.clock = clock
	case "body":
		d.body = argument
	case "token":
		d.key.SessionToken = secret.New(argument)
	case "pad":
		var size int
		if _, err := fmt.Sscan(argument, &size); err != nil {
			t.Fatal(err)
		}
		*body += strings.Repeat(" ", size-len(*body))
		d.body = *body
	default:
		t.Fatalf("no directive %q", word)
	}
}

var (
	// SDKs mend their clock by the date; here only its presence matters.
	date = regexp.MustCompile(`(?m)^Date: .*GMT$`)
	// The texts about a wrong clock have the times of the request and of the server.
	clocks = regexp.MustCompile(`\d{8}T\d{6}Z`)
)

func show(t *testing.T, response *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	fmt.Fprintln(&out, response.Status)
	var lines []string
	for name, values := range response.Header {
		if name == "Content-Length" && nextToken.Match(body) {
			values = []string{"LENGTH"} // page tokens vary
		}
		for _, value := range values {
			lines = append(lines, name+": "+value)
		}
	}
	slices.Sort(lines)
	fmt.Fprintln(&out, date.ReplaceAllString(strings.Join(lines, "\n"), "Date: DATE"))
	fmt.Fprintln(&out)
	if len(body) > 0 {
		fmt.Fprintln(&out, clocks.ReplaceAllString(string(body), "TIME"))
	}
	return out.String()
}
