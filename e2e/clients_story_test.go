package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/onbehalf/onbehalf/client"
	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

// step is one call of clients/operations.json, which says what its members mean.
type step struct {
	Service   string
	Operation string
	Input     json.RawMessage
	Pages     *struct{ Items, Key string }
	As        string
	Person    map[string]string
	Expect    any
	Error     string
	Status    int
	Says      string
	Fields    []string
	Save      map[string]string
}

// result is what a client says of a step.
type result struct {
	Broken    string
	Skipped   bool
	Status    int
	RequestID string
	Output    map[string]any
	Pages     int
	Items     []any
	Error     string
	Message   string
	Operation string
	Modelled  *bool // the exception has a class of its own; nil where the client has no classes
	Reason    *string
	Fields    []string
}

// played is a client's whole run.
type played struct {
	Results []result
	Values  map[string]any
}

// Each official client calls each operation that is built. An operation that is
// built and not in the list fails here.
func TestOfficialClientsCallEveryOperation(t *testing.T) {
	t.Parallel()
	steps := readSteps(t)
	for name, run := range map[string]func(*testing.T, *stage) played{
		"Go": func(t *testing.T, s *stage) played { return s.playGo(t) },
		"boto3": func(t *testing.T, s *stage) played {
			python := filepath.Join("clients", ".venv", "bin", "python")
			need(t, "boto3", exists(python))
			return s.program(t, python, "boto3_client.py")
		},
		"AWS CLI": func(t *testing.T, s *stage) played {
			python := filepath.Join("clients", ".venv", "bin", "python")
			need(t, "the AWS CLI", exists(filepath.Join("clients", ".venv", "bin", "aws")))
			return s.program(t, python, "aws_cli.py")
		},
		"JavaScript": func(t *testing.T, s *stage) played {
			node, err := exec.LookPath("node")
			need(t, "the AWS SDK for JavaScript", err == nil && exists(filepath.Join("clients", "node_modules", "@aws-sdk")))
			return s.program(t, node, "javascript_client.mjs")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setStage(t)
			judge(t, steps, run(t, s), name, s.built(t))
		})
	}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func readSteps(t *testing.T) []step {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("clients", "operations.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Steps []step }
	if err := json.Unmarshal(content, &list); err != nil {
		t.Fatal(err)
	}
	return list.Steps
}

// stage is a platform of one client's own, with all that the steps refer to.
type stage struct {
	*platform
	values map[string]any
	file   string // with the values
	env    []string
}

func setStage(t *testing.T) *stage {
	t.Helper()
	idp := startProvider(t)
	lastingKey, doomedKey, declared := declareVaultKeys(t)
	client := demoidp.Client{ID: "platform", Secret: "secret-of-the-platform"}
	declared = append(declared, declareSecrets(t, client.Secret)...)
	flags := append(idp.flags(), declared...)
	if isolation() != nil { // runtimes are managed here, and never called
		flags = append(flags, "--unsafe-agents-without-isolation")
	}
	s := &stage{platform: startPlatform(t, flags...)}
	if err := idp.Register(client); err != nil {
		t.Fatal(err)
	}
	signedIn, err := idp.Issue(demoidp.Ada, demoidp.SignInClientID, "openid")
	if err != nil {
		t.Fatal(err)
	}
	// Whoever plays the steps asks here for a person who goes through with a link.
	person := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ Link, Callback string }
		err := json.NewDecoder(r.Body).Decode(&asked)
		if err == nil {
			err = idp.AddRedirectURI(client.ID, asked.Callback)
		}
		arrival := ""
		if err == nil {
			arrival, err = servertest.NewPerson(idp.url, demoidp.Ada).Visit(r.Context(), asked.Link, "allow")
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, sessionOf(t, arrival)) // what the application's page is told
	}))
	t.Cleanup(person.Close)
	s.values = map[string]any{
		"return_url": returnURL, "discovery_url": idp.DiscoveryURL(), "issuer": idp.url, "exchange_url": idp.url + "/exchange", "audience": demoidp.SignInClientID,
		"client_id": client.ID, "client_secret": client.Secret, "user_token": signedIn.ID, "person": person.URL, "openapi": peopleAPI(idp.url),
		"signing_key": signingKeyARN, "vault_key": lastingKey, "doomed_key": doomedKey,
	}
	s.putAgent(t)
	s.file = filepath.Join(t.TempDir(), "values.json")
	settings := filepath.Join(t.TempDir(), "config")
	encoded, err := json.Marshal(s.values)
	// The CLI prints times as they came unless it is told to parse them.
	err = errors.Join(err, os.WriteFile(s.file, encoded, 0o600), os.WriteFile(settings, []byte("[profile onbehalf]\ncli_timestamp_format = iso8601\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	s.env = append(s.environment(), "AWS_CONFIG_FILE="+settings, "AWS_PAGER=", "PYTHONDONTWRITEBYTECODE=1")
	return s
}

// putAgent puts an agent's code, which nobody runs.
func (s *stage) putAgent(t *testing.T) {
	t.Helper()
	put, err := client.New(s.aws).PutAgentCode(t.Context(), &client.PutAgentCodeInput{Code: bytes.NewReader(archiveOf(t, "agent", "#!/bin/sh\n"))})
	if err != nil {
		t.Fatal(err)
	}
	s.values["code_bucket"], s.values["code_prefix"] = aws.ToString(put.Bucket), aws.ToString(put.Prefix)
}

// peopleAPI is the document of a People API at the given address.
func peopleAPI(server string) string {
	return `{"openapi":"3.0.3","info":{"title":"People API","version":"v1"},"servers":[{"url":"` + server + `"}],"paths":{"/v1/people/me":{"get":{"operationId":"get_profile",` +
		`"summary":"The signed-in person's own profile","parameters":[{"name":"personFields","in":"query","required":true,"schema":{"type":"string"}}],` +
		`"responses":{"200":{"description":"The profile"}}}}}}`
}

// program runs a client program on the stage's values.
func (s *stage) program(t *testing.T, interpreter, name string) played {
	t.Helper()
	out, errOut, code := command(t, s.env, interpreter, filepath.Join("clients", name), s.file)
	var p played
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatalf("%s ended with %d and printed no result: %v\n%s\n%s", name, code, err, out, errOut)
	}
	return p
}

// judge holds what a client got against what the steps expect.
func judge(t *testing.T, steps []step, p played, client string, built []string) {
	t.Helper()
	played := map[string]bool{}
	for i, result := range p.Results {
		step := steps[i]
		where := fmt.Sprintf("step %d, %s", i, step.Operation)
		if step.As != "" {
			where += " with " + step.As
		}
		switch {
		case result.Broken != "":
			t.Fatalf("%s: %s", where, result.Broken)
		case step.Person != nil:
			continue
		case result.Skipped:
			if !slices.Contains(maySkip[client], step.As) && !slices.Contains(newest, step.Operation) {
				t.Errorf("%s: skipped, and this client can do it", where)
			}
			continue
		}
		if len(result.RequestID) != 36 {
			t.Errorf("%s: no request id but %q", where, result.RequestID)
		}
		if step.Error != "" {
			judgeError(t, where, step, result)
			continue
		}
		if result.Error != "" {
			t.Errorf("%s: %s: %s", where, result.Error, result.Message)
			continue
		}
		played[step.Operation] = true
		if want := operation(t, step.Operation).Status; result.Status != want {
			t.Errorf("%s: status %d instead of %d", where, result.Status, want)
		}
		var got, want any = result.Output, step.Expect
		if step.Pages != nil {
			got = result.Items
			if result.Pages < len(result.Items) {
				t.Errorf("%s: %d items came in %d pages, with one item a page", where, len(result.Items), result.Pages)
			}
		}
		for _, problem := range compare("", got, fill(want, p.Values)) {
			t.Errorf("%s: %s", where, problem)
		}
		for _, problem := range misshapen("", result.Output) {
			t.Errorf("%s: %s", where, problem)
		}
	}
	if len(p.Results) != len(steps) {
		t.Errorf("%d of %d steps were played", len(p.Results), len(steps))
	}
	for _, name := range built {
		if !played[name] && !(client != "Go" && slices.Contains(newest, name)) && !slices.Contains(ofSessions, name) {
			t.Errorf("%s is built, and this client has not called it with success: add it to clients/operations.json", name)
		}
	}
}

// newest are operations that not every client's release has yet.
var newest = []string{"ResetTokenVaultKeyMaterial"}

// ofSessions are the calls of hosted agents: bodies and streams that no list of
// JSON holds. The stories of runtimes make them with each client; here they fail.
var ofSessions = []string{"InvokeAgentRuntime", "InvokeAgentRuntimeCommand", "StopRuntimeSession", "GetAgentCard"}

// maySkip is what a client has no way to do.
var maySkip = map[string][]string{
	"Go":      {"slow clock, corrected"},
	"boto3":   {"slow clock, corrected"},
	"AWS CLI": {"altered body", "slow clock", "fast clock", "slow clock, corrected"},
}

// frontEnd are the exceptions of AWS's front end, which no service models.
var frontEnd = []string{"InvalidSignatureException", "UnrecognizedClientException", "MissingAuthenticationTokenException"}

func judgeError(t *testing.T, where string, step step, result result) {
	t.Helper()
	pattern, isPattern := strings.CutPrefix(step.Error, "~")
	if isPattern && !regexp.MustCompile(pattern).MatchString(result.Error) || !isPattern && result.Error != step.Error {
		t.Errorf("%s: want %s, got status %d %s: %s", where, step.Error, result.Status, result.Error, result.Message)
		return
	}
	if step.Status != 0 && result.Status != step.Status {
		t.Errorf("%s: status %d instead of %d", where, result.Status, step.Status)
	}
	if !strings.Contains(result.Message, step.Says) || result.Message == "" {
		t.Errorf("%s: the message %q does not say %q", where, result.Message, step.Says)
	}
	if result.Modelled != nil && *result.Modelled == slices.Contains(frontEnd, result.Error) {
		t.Errorf("%s: %s is modelled: %t", where, result.Error, *result.Modelled)
	}
	if result.Operation != "" && result.Operation != step.Operation {
		t.Errorf("%s: the client thinks that it called %s", where, result.Operation)
	}
	if result.Error != "ValidationException" || result.Modelled == nil {
		return
	}
	if result.Reason == nil || *result.Reason == "" {
		t.Errorf("%s: the exception has no reason", where)
	}
	if step.Fields != nil && !slices.Equal(result.Fields, step.Fields) {
		t.Errorf("%s: the exception names the fields %q instead of %q", where, result.Fields, step.Fields)
	}
}

func operation(t *testing.T, name string) *api.Info {
	t.Helper()
	i := slices.IndexFunc(api.Operations, func(op *api.Info) bool { return op.Name == name })
	if i < 0 {
		t.Fatalf("no model has the operation %s", name)
	}
	return api.Operations[i]
}

// times are the members that have to be times, wherever they stand.
var times = []string{"createdTime", "lastUpdatedTime", "createdAt", "updatedAt", "lastUpdatedAt", "lastSynchronizedAt"}

// recent reports whether a value is a time of just now, as a client parsed it.
func recent(v any) bool {
	if object, ok := v.(map[string]any); ok {
		v = object["$time"]
	}
	text, _ := v.(string)
	at, err := time.Parse(time.RFC3339Nano, text)
	return err == nil && time.Since(at).Abs() < 10*time.Minute
}

// misshapen finds what no answer has: nulls, empty texts, times that are none.
func misshapen(path string, v any) (problems []string) {
	switch v := v.(type) {
	case nil:
		return []string{path + " is null"}
	case string:
		if v == "" {
			return []string{path + " is empty"}
		}
	case []any:
		for i, element := range v {
			problems = append(problems, misshapen(path+"["+strconv.Itoa(i)+"]", element)...)
		}
	case map[string]any:
		for name, member := range v {
			switch {
			case slices.Contains(times, name):
				if !recent(member) {
					problems = append(problems, fmt.Sprintf("%s.%s is no time of just now: %v", path, name, member))
				}
			default:
				problems = append(problems, misshapen(path+"."+name, member)...)
			}
		}
	}
	return problems
}

// compare finds where got is not what want describes.
func compare(path string, got, want any) (problems []string) {
	wrong := func() []string { return []string{fmt.Sprintf("%s is %v instead of %v", path, got, want)} }
	switch want := want.(type) {
	case nil:
		return nil
	case string:
		text, _ := got.(string)
		pattern, isPattern := strings.CutPrefix(want, "~")
		switch {
		case want == "!" && got != nil,
			want == "*" && (got == nil || got == ""),
			want == "@" && !recent(got),
			isPattern && !regexp.MustCompile(pattern).MatchString(text),
			want != "!" && want != "*" && want != "@" && !isPattern && text != want:
			return wrong()
		}
	case float64:
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return wrong()
		}
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return wrong()
		}
		for i := range want {
			problems = append(problems, compare(path+"["+strconv.Itoa(i)+"]", list[i], want[i])...)
		}
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok && len(want) > 0 {
			return wrong()
		}
		for name, each := range want {
			problems = append(problems, compare(path+"."+name, object[name], each)...)
		}
	default:
		return []string{fmt.Sprintf("%s: operations.json expects a %T, which nothing is compared with", path, want)}
	}
	return problems
}

var reference = regexp.MustCompile(`\$\{(\w+)\}`)

// fill puts values in for their ${names}, all through a JSON value.
func fill(v any, values map[string]any) any {
	switch v := v.(type) {
	case string:
		return reference.ReplaceAllStringFunc(v, func(name string) string {
			value, _ := values[name[2:len(name)-1]].(string)
			return value
		})
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = fill(v[i], values)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for name, each := range v {
			out[name] = fill(each, values)
		}
		return out
	}
	return v
}
