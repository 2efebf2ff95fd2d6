package server_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/servertest"
	"github.com/onbehalf/onbehalf/internal/sigv4"
)

var update = flag.Bool("update", false, "rewrite the responses in testdata/agents")

// The transcripts in testdata/agents are what callers of hosted agents are told
// when a call does not reach an agent: as text, as it is on the wire. Each file's
// head says which behaviour it guards. A file has
//
//	-- runtime --        key=value words: protocol, authorizer (jwt)
//	-- NAME request --   method and path below the runtime (or from the root, with a slash), headers, an empty line, the body.
//	                     "Authorization: sign" signs it with the root key.
//	-- NAME response --  status, the headers worth looking at, an empty line, the body
//
// {url}, {runtime} (the ARN, escaped), {id}, {session}, {issuer} and {token} stand for what differs from run to run.
func TestAgentTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/agents/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts: ", err)
	}
	p := servertest.Start(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { playAgents(t, p, file) })
	}
}

func playAgents(t *testing.T, p *servertest.Platform, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(bytes.TrimSpace(archive.Comment)) == 0 {
		t.Fatal("the transcript does not say what it guards")
	}
	stands := map[string]string{"{url}": p.URL(), "{issuer}": p.DemoURL(), "{token}": p.UserToken(t, demoidp.Ada)}
	var got string
	for i := range archive.Files {
		part := &archive.Files[i]
		_, kind, _ := strings.Cut(part.Name, " ")
		switch {
		case part.Name == "runtime":
			made := transcribed(t, p, strings.TrimSuffix(filepath.Base(file), ".txtar"), string(part.Data))
			stands["{id}"], stands["{runtime}"] = *made.AgentRuntimeId, url.QueryEscape(*made.AgentRuntimeArn)
		case kind == "request":
			got = exchange(t, p, stands, string(part.Data))
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
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// transcribed makes a runtime that can be called and not be run.
func transcribed(t *testing.T, p *servertest.Platform, name, words string) *bedrockagentcorecontrol.CreateAgentRuntimeOutput {
	return makeRuntime(t, p.Control, name, func(in *bedrockagentcorecontrol.CreateAgentRuntimeInput) {
		for _, word := range strings.Fields(words) {
			switch key, value, _ := strings.Cut(word, "="); key {
			case "protocol":
				in.ProtocolConfiguration = &types.ProtocolConfiguration{ServerProtocol: types.ServerProtocol(value)}
			case "authorizer":
				discovery := p.DemoURL() + "/.well-known/openid-configuration"
				in.AuthorizerConfiguration = &types.AuthorizerConfigurationMemberCustomJWTAuthorizer{Value: types.CustomJWTAuthorizerConfiguration{DiscoveryUrl: &discovery, AllowedAudience: []string{demoidp.SignInClientID}}}
			}
		}
	})
}

var sessionOrRequest = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

// exchange sends a request and writes the answer down.
func exchange(t *testing.T, p *servertest.Platform, stands map[string]string, text string) string {
	for name, value := range stands {
		text = strings.ReplaceAll(text, name, value)
	}
	head, body, _ := strings.Cut(text, "\n\n")
	body = strings.TrimSuffix(body, "\n")
	lines := strings.Split(strings.TrimSpace(head), "\n")
	method, path, _ := strings.Cut(lines[0], " ")
	if !strings.HasPrefix(path, "/") {
		path = "/runtimes/" + stands["{runtime}"] + "/" + path
	}
	r, err := http.NewRequestWithContext(t.Context(), method, p.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	if r.Header.Get("Authorization") == "sign" {
		r.Header.Del("Authorization")
		credentials, err := p.AWS.Credentials.Retrieve(t.Context())
		if err == nil {
			err = sigv4.Sign(r, sigv4.Key{AccessKeyID: credentials.AccessKeyID, Secret: secret.New(credentials.SecretAccessKey)}, "us-east-1", "bedrock-agentcore", sha256.Sum256([]byte(body)), time.Now())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	fmt.Fprintln(&out, response.StatusCode)
	for _, name := range []string{"Allow", "Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Expose-Headers", "Access-Control-Max-Age", "Content-Type",
		"Www-Authenticate", "X-Amzn-Bedrock-Agentcore-Runtime-Session-Id", "X-Amzn-Errortype"} {
		if value := response.Header.Get(name); value != "" {
			fmt.Fprintf(&out, "%s: %s\n", name, value)
		}
	}
	said := strings.TrimRight(out.String()+"\n"+string(answer), "\n") + "\n"
	for _, name := range []string{"{url}", "{runtime}", "{id}", "{issuer}", "{token}"} {
		said = strings.ReplaceAll(said, stands[name], name)
	}
	return sessionOrRequest.ReplaceAllString(said, "{session}")
}
