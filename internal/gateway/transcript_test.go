package gateway_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/secret"
)

var update = flag.Bool("update", false, "rewrite the responses in testdata/mcp")

// The transcripts in testdata/mcp are the MCP wire as text. Each file's head
// says which behaviour it guards. A file has
//
//	-- gateway --    key=value words: authorizer (none, jwt, scoped), versions, target (tools, people), exceptionLevel, pagination
//	-- NAME request --   method and path (default: POST to the gateway), headers, an empty line, the body
//	-- NAME response --  status, the headers worth looking at, an empty line, the body
//	-- NAME consent --   a person, who goes through the link of the last response and completes
//
// What differs from run to run is written as {gateway}, {url}, {target}, {id},
// {link}, {state}, {elicitation}, and may be used in requests; {token:PERSON} is
// a JWT.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/mcp/*.txtar")
	ok(t, err)
	if len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			play(t, file)
		})
	}
}

// stage is a transcript under way.
type stage struct {
	*rig
	id     string
	target string
	link   string
	state  string
	token  map[string]string
}

func play(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	ok(t, err)
	if len(bytes.TrimSpace(archive.Comment)) == 0 {
		t.Fatal("the transcript does not say what it guards")
	}
	var s *stage
	var got string
	for i := range archive.Files {
		part := &archive.Files[i]
		_, kind, _ := strings.Cut(part.Name, " ")
		switch {
		case part.Name == "gateway":
			s = newStage(t, words(string(part.Data)))
		case kind == "request":
			got = s.exchange(t, string(part.Data))
		case kind == "consent":
			person := strings.TrimSpace(string(part.Data))
			s.consent(t, s.link, person, s.tokenOf(t, person))
		case kind == "response":
			if *update {
				part.Data = []byte(got)
			} else if diff := cmp.Diff(string(part.Data), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", part.Name, diff)
			}
		default:
			t.Fatalf("what is %q?", part.Name)
		}
	}
	if *update {
		ok(t, os.WriteFile(file, txtar.Format(archive), 0o644))
	}
}

func words(line string) map[string]string {
	out := map[string]string{}
	for _, word := range strings.Fields(line) {
		key, value, _ := strings.Cut(word, "=")
		out[key] = value
	}
	return out
}

func newStage(t *testing.T, options map[string]string) *stage {
	r := newRig(t)
	s := &stage{rig: r, token: map[string]string{}}
	request := r.gatewayRequest("demo")
	switch options["authorizer"] {
	case "none":
		request.AuthorizerType, request.AuthorizerConfiguration = api.AuthorizerTypeNone, nil
	case "scoped":
		request.AuthorizerConfiguration.CustomJWTAuthorizer.AllowedScopes = []string{"invoke", "admin"}
	}
	protocol := &api.MCPGatewayConfiguration{}
	if v := options["versions"]; v != "" {
		protocol.SupportedVersions = strings.Split(v, ",")
	}
	if v := options["instructions"]; v != "" {
		protocol.Instructions = secret.Pointer(v)
	}
	if options["pagination"] == "off" {
		protocol.DisableMcpListToolsPagination = pointer(true)
	}
	request.ProtocolConfiguration = &api.GatewayProtocolConfiguration{Mcp: protocol}
	request.ExceptionLevel = api.ExceptionLevel(options["exceptionLevel"])
	s.id = r.createGateway(t, request).GatewayId
	switch options["target"] {
	case "people":
		r.target(t, s.id, "google", r.peopleAPI(), userCredential(r.provider(t)))
	case "many":
		var paths strings.Builder
		for i := range 101 {
			fmt.Fprintf(&paths, `,"/%d":{"get":{"operationId":"op_%03d","responses":{"200":{"description":"ok"}}}}`, i, i)
		}
		r.target(t, s.id, "many", document("https://api.example.com", "{"+paths.String()[1:]+"}"), nil)
	default:
		server := scripted(t)
		s.target = server.URL
		r.target(t, s.id, "t", document(server.URL, scriptedPaths), nil)
	}
	return s
}

const scriptedPaths = `{
	"/say":{"post":{"operationId":"say","summary":"Says it back.","requestBody":{"required":true,"content":{"application/json":{"schema":{"type":"object","properties":{"what":{"type":"string"}},"required":["what"]}}}},"responses":{"200":{"description":"ok"}}}},
	"/numbers":{"get":{"operationId":"numbers","responses":{"200":{"description":"ok"}}}},
	"/list":{"get":{"operationId":"list","responses":{"200":{"description":"ok"}}}},
	"/plain":{"get":{"operationId":"plain","responses":{"200":{"description":"ok"}}}},
	"/nothing":{"delete":{"operationId":"nothing","responses":{"204":{"description":"ok"}}}},
	"/picture":{"get":{"operationId":"picture","responses":{"200":{"description":"ok"}}}},
	"/status/{code}":{"get":{"operationId":"status","parameters":[{"name":"code","in":"path","required":true,"schema":{"type":"integer"}}],"responses":{"200":{"description":"ok"}}}}
}`

// scripted is a target with an answer of each sort.
func scripted(t *testing.T) *httptest.Server {
	mux := http.NewServeMux()
	answer := func(pattern, media, body string) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", media)
			_, _ = w.Write([]byte(body))
		})
	}
	answer("POST /say", "application/json; charset=utf-8", `{"said":"\u00e9 \"x\"","again":1}`)
	answer("GET /numbers", "application/vnd.api+json", "{ \"z\": 12345678901234567890123, \"a\": 1.10,\n  \"unknown\": {\"nested\": [1e400, -0]}, \"a2\": null }\n")
	answer("GET /list", "application/json", `[1,2,3]`)
	answer("GET /plain", "text/plain; charset=utf-8", "line one\nline \"two\"\ttab \xff end")
	answer("GET /picture", "image/png", "\x89PNG\x00\x01")
	mux.HandleFunc("DELETE /nothing", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.Header().Set("Content-Type", "application/json")
		if code == 429 {
			w.Header().Set("Retry-After", "17")
		}
		if code == 302 {
			w.Header().Set("Location", "https://elsewhere.example.com/")
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(`{"error":"as asked"}`))
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func (s *stage) tokenOf(t *testing.T, person string) string {
	if s.token[person] == "" {
		s.token[person] = s.rig.token(t, person)
	}
	return s.token[person]
}

var tokenWord = regexp.MustCompile(`\{token:([a-z-]+)\}`)

func (s *stage) filled(t *testing.T, text string) string {
	text = tokenWord.ReplaceAllStringFunc(text, func(word string) string {
		return s.tokenOf(t, tokenWord.FindStringSubmatch(word)[1])
	})
	return strings.NewReplacer("{gateway}", s.id, "{url}", s.mcp.URL, "{host}", strings.TrimPrefix(s.mcp.URL, "http://"), "{link}", s.link, "{state}", s.state).Replace(text)
}

// exchange plays a request and writes the response down.
func (s *stage) exchange(t *testing.T, text string) string {
	head, body, headed := strings.Cut("\n"+text, "\n\n")
	if !headed {
		t.Fatalf("no empty line in %q", text)
	}
	lines := strings.Split(strings.TrimSpace(head), "\n")
	method, path := http.MethodPost, "/gateway/{gateway}/mcp"
	if fields := strings.Fields(lines[0]); len(fields) > 0 && !strings.Contains(fields[0], ":") {
		method, lines = fields[0], lines[1:]
		if len(fields) > 1 {
			path = fields[1]
		}
	}
	var headers []string
	for _, line := range lines {
		if name, value, found := strings.Cut(line, ": "); found {
			headers = append(headers, name, s.filled(t, value))
		}
	}
	response, content := send(t, method, s.filled(t, s.mcp.URL+path), s.filled(t, strings.TrimSuffix(body, "\n")), headers...)
	var out strings.Builder
	fmt.Fprintln(&out, response.StatusCode)
	for _, name := range []string{"Content-Type", "Allow", "Www-Authenticate", "Retry-After"} {
		if value := response.Header.Get(name); value != "" {
			fmt.Fprintf(&out, "%s: %s\n", name, s.masked(value))
		}
	}
	if content != "" {
		fmt.Fprintf(&out, "\n%s\n", strings.TrimSuffix(s.masked(content), "\n"))
	}
	return out.String()
}

var (
	linkText        = regexp.MustCompile(`http://[0-9.:]+/identities/oauth2/authorize\?request_uri=[A-Za-z0-9%._~-]+`)
	stateText       = regexp.MustCompile(`"requestState":"([^"]+)"`)
	elicitationText = regexp.MustCompile(`"elicitationId":"[0-9a-f]{32}"`)
	etagText        = regexp.MustCompile(`etag(\\?"):(\\?")%[A-Za-z0-9+/=_-]+`)
)

// masked replaces what differs from run to run, and keeps links and states for later.
func (s *stage) masked(text string) string {
	if link := linkText.FindString(text); link != "" {
		s.link = link
	}
	if state := stateText.FindStringSubmatch(text); state != nil {
		s.state = state[1]
	}
	text = linkText.ReplaceAllString(text, "{link}")
	text = stateText.ReplaceAllString(text, `"requestState":"{state}"`)
	text = elicitationText.ReplaceAllString(text, `"elicitationId":"{elicitation}"`)
	text = etagText.ReplaceAllString(text, `etag$1:${2}%{etag}`)
	pairs := []string{s.mcp.URL, "{url}", s.id, "{gateway}", s.people, "{people}"}
	if s.target != "" {
		pairs = append(pairs, s.target, "{target}")
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
