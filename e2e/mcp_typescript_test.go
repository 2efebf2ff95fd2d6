package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// report is what clients/mcp_clients.mjs prints.
type report struct {
	Runs []struct {
		Client, Version, Agreed, Server string
		Tools                           []string
		Before, After                   called
	}
	Links                         int
	Impatient, Declining, Patient automatic
	Unauthorized                  []whereToSignIn
	SignIn                        map[string]struct {
		Refused         called
		SignedIn        bool
		Scope, Resource string
		Tools           []string
	}
}

type called struct {
	Kind, Name, Message, Text, Link, Mode, Method, State, Cause string
	Code                                                        any
	IsError                                                     bool
	Required                                                    any
}

type automatic struct {
	Result                 called
	Shown, Links, Requests int
}

type whereToSignIn struct {
	Client, Scope, Metadata, Resource, ByPath, Authorize string
	Status                                               int
	Refusal                                              called
	Servers                                              []string
}

// The official TypeScript clients, of both generations.
func TestTypeScriptClients(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	need(t, "the MCP clients for TypeScript", err == nil && exists(filepath.Join("clients", "node_modules", "@modelcontextprotocol", "client")))
	s := startScene(t)
	gateways := map[string]string{}
	gateways["all"], _ = s.gateway("people-gateway", forSignIns)
	for _, version := range revisions[:3] {
		gateways[version], _ = s.gateway("only-"+version, forSignIns, version)
	}
	var scopesID string
	gateways["scopes"], scopesID = s.gateway("with-scopes", control.CustomJWTAuthorizerConfiguration{AllowedScopes: []string{"profile"}})
	tokens := map[string]string{"ada": s.signIn(demoidp.Ada), "grace": s.signIn(demoidp.Grace)}
	people := map[string]string{"ada": demoidp.Ada, "grace": demoidp.Grace}
	helper := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ Link, Person string }
		err := json.NewDecoder(r.Body).Decode(&asked)
		person := people[asked.Person]
		if person == "" {
			person = demoidp.Ada
		}
		var arrival string
		if err == nil {
			arrival, err = servertest.NewPerson(s.idp.url, person).Visit(r.Context(), asked.Link, "allow")
		}
		if err == nil && r.URL.Path == "/consent" {
			var landed *url.URL
			if landed, err = url.Parse(arrival); err == nil {
				err = s.complete(landed.Query().Get("session_id"), tokens[asked.Person])
			}
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"arrival": arrival})
	}))
	defer helper.Close()
	values, err := json.Marshal(map[string]any{"gateways": gateways, "ada": tokens["ada"], "grace": tokens["grace"], "return_url": returnURL,
		"consent": helper.URL + "/consent", "visit": helper.URL + "/visit"})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "values.json")
	if err := os.WriteFile(file, values, 0o600); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := command(t, os.Environ(), node, filepath.Join("clients", "mcp_clients.mjs"), file)
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		t.Fatalf("mcp_clients.mjs ended with %d: %v\n%s\n%s", code, err, out, errOut)
	}
	for _, run := range r.Runs {
		where := run.Client + " at " + run.Version
		if run.Agreed != run.Version || run.Server == "" || !slices.Equal(run.Tools, []string{profileTool}) {
			t.Errorf("%s: agreed on %s with %q, whose tools are %q", where, run.Agreed, run.Server, run.Tools)
		}
		b := run.Before
		var told bool
		switch {
		case run.Version < "2025-11-25":
			told = b.Kind == "result" && b.IsError && linkInText.MatchString(b.Text)
		case run.Version < modern:
			told = b.Kind == "error" && b.Name == "UrlElicitationRequiredError" && b.Code == float64(-32042) && linkInText.MatchString(b.Link)
		case strings.Contains(run.Client, "without"):
			told = b.Kind == "error" && b.Code == float64(-32021) && b.Required != nil && linkInText.MatchString(b.Message)
		default:
			told = b.Kind == "input_required" && b.Method == "elicitation/create" && b.Mode == "url" && b.State == "string" && linkInText.MatchString(b.Link)
		}
		if !told {
			t.Errorf("%s: missing consent is told as %+v", where, b)
		}
		if run.After.Kind != "result" || run.After.IsError || !strings.Contains(run.After.Text, "Ada Lovelace") {
			t.Errorf("%s: after consent: %+v", where, run.After)
		}
	}
	if len(r.Runs) != 10 || r.Links != 4 {
		t.Errorf("%d runs at 4 gateways were shown %d links", len(r.Runs), r.Links)
	}
	if r.Impatient.Result.Kind != "error" || r.Impatient.Links != 1 || r.Impatient.Requests > 15 {
		t.Errorf("a client that says yes at once: %+v", r.Impatient)
	}
	if r.Declining.Result.Kind != "result" || !r.Declining.Result.IsError || r.Declining.Requests != 2 {
		t.Errorf("a client whose person says no: %+v", r.Declining)
	}
	if r.Patient.Result.IsError || !strings.Contains(r.Patient.Result.Text, "Grace Hopper") || r.Patient.Shown != 1 || r.Patient.Requests != 2 {
		t.Errorf("a client whose person goes through: %+v", r.Patient)
	}
	if len(r.Unauthorized) != 2 {
		t.Errorf("%d clients came without a token", len(r.Unauthorized))
	}
	for _, u := range r.Unauthorized {
		if u.Status != http.StatusUnauthorized || u.Refusal.Kind != "error" {
			t.Errorf("%s without a token: status %d, and it says %+v", u.Client, u.Status, u.Refusal)
		}
		if u.Resource != gateways["all"] || u.ByPath != gateways["all"] || !strings.HasPrefix(u.Metadata, s.url+"/.well-known/oauth-protected-resource/gateway/") ||
			!slices.Equal(u.Servers, []string{s.idp.url}) || u.Authorize != s.idp.url+"/authorize" {
			t.Errorf("%s discovers %+v", u.Client, u)
		}
	}
	for client, signedIn := range r.SignIn {
		if !signedIn.SignedIn || !slices.Contains(strings.Fields(signedIn.Scope), "profile") || signedIn.Resource != gateways["scopes"] || !slices.Equal(signedIn.Tools, []string{profileTool}) {
			t.Errorf("%s signs its person in at the gateway %s: %+v", client, scopesID, signedIn)
		}
	}
	if len(r.SignIn) != 2 {
		t.Errorf("%d clients signed in", len(r.SignIn))
	}
}
