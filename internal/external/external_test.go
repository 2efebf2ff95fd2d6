package external

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
)

const (
	account = "000000000000"
	other   = "111111111111"
)

func declared(t testing.TB, texts ...string) []Source {
	t.Helper()
	var sources []Source
	for _, text := range texts {
		s, err := ParseSource(text, account)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		sources = append(sources, s)
	}
	return sources
}

func secretsOf(t testing.TB, o Options, texts ...string) *Secrets {
	t.Helper()
	o.Region = "us-east-1"
	s, err := New(declared(t, texts...), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func resolve(t testing.TB, s *Secrets, id, key string) (string, error) {
	t.Helper()
	value, err := s.Resolve(t.Context(), account, Reference{id, key}, 2048)
	if err != nil && !value.Empty() {
		t.Errorf("%s has a value and an error", id)
	}
	return value.Reveal(), err
}

// refused expects an error that says why, and nothing of what lies there.
func refused(t testing.TB, s *Secrets, id, key, why string) {
	t.Helper()
	value, err := resolve(t, s, id, key)
	if value != "" || err == nil || !strings.Contains(fault.Of(err).Message, why) || strings.Contains(err.Error(), "canary") {
		t.Errorf("%s %s: got %v, want an error that says %q", id, key, err, why)
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"AGENT_PLAIN": "canary-plain\n", "AGENT_JSON": `{"clientSecret":"canary-json","number":7,"empty":"","nothing":null}`, "AGENT_TWICE": `{"a":"canary-1","a":"canary-2"}`, "AGENT_MORE": `{"a":"canary-1"}}`,
		"ONBEHALF_DATABASE_URL": "canary-own", "AWS_SECRET_ACCESS_KEY": "canary-own", "KMS_TOKEN": "canary-own", "PGPASSWORD": "canary-own", "Pgpassword2": "canary-own", "OTHER": "canary-other",
	} {
		t.Setenv(name, value)
	}
	s := secretsOf(t, Options{Variables: []string{"Kms_Token"}}, "name=kms,kind=env,prefix=KMS_", "name=env,kind=env,prefix=AGENT_", "name=wide,kind=env,prefix=O", "name=pee,kind=env,prefix=P", "name=small,kind=env,prefix=P", "name=foreign,kind=env,prefix=AGENT_,account="+other)
	for _, each := range []struct{ id, key, want string }{
		{"env/PLAIN", "$", "canary-plain"}, {"env/JSON", "clientSecret", "canary-json"}, {"wide/THER", "$", "canary-other"},
		{"arn:aws:secretsmanager:us-east-1:000000000000:secret:env/PLAIN", "$", "canary-plain"}, // what Show answers
	} {
		if got, err := resolve(t, s, each.id, each.key); got != each.want || err != nil {
			t.Errorf("%s %s: got %q, %v", each.id, each.key, got, err)
		}
	}
	refused(t, s, "env/NOBODY", "$", "none of that name")
	refused(t, s, "env/PLAIN", "clientSecret", "not a JSON object")
	refused(t, s, "env/JSON", "other", "no member of the name")
	refused(t, s, "env/JSON", "number", "not a string")
	refused(t, s, "env/JSON", "nothing", "not a string")
	refused(t, s, "env/JSON", "empty", "is empty")
	refused(t, s, "env/JSON", "", "no jsonKey")
	refused(t, s, "env/TWICE", "a", "twice")
	refused(t, s, "env/MORE", "a", "not a JSON object")
	refused(t, s, "wide/NBEHALF_DATABASE_URL", "$", "belongs to the platform")
	refused(t, s, "pee/GPASSWORD", "$", "belongs to the platform")
	refused(t, s, "small/gpassword2", "$", "belongs to the platform")
	refused(t, s, "kms/TOKEN", "$", "belongs to the platform")
	for _, id := range []string{"", "env", "env/", "/PLAIN", "env//PLAIN", "env/../PLAIN", "env/./PLAIN", "env/PL AIN", "env/PLAIN\x00", "env\\PLAIN", "env:PLAIN", "ENV/PLAIN",
		"foreign/PLAIN", "nobody/PLAIN", "arn:aws:secretsmanager:us-east-1:111111111111:secret:foreign/PLAIN", "arn:aws:secretsmanager:eu-west-1:000000000000:secret:env/PLAIN",
		"arn:aws:s3:::env/PLAIN", "arn:aws:secretsmanager:us-east-1:000000000000:secret:env/../env/PLAIN", strings.Repeat("a", 3000)} {
		refused(t, s, id, "$", "")
		if _, err := resolve(t, s, id, "$"); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := s.Resolve(t.Context(), other, Reference{"env/PLAIN", "$"}, 2048); err == nil {
		t.Error("another account's source opened")
	}
	if _, err := s.Resolve(t.Context(), account, Reference{"env/PLAIN", "$"}, 5); err == nil || !strings.Contains(err.Error(), "longer than 5") {
		t.Errorf("a value that is too long: %v", err)
	}
	var none *Secrets
	if _, err := none.Resolve(t.Context(), account, Reference{"env/PLAIN", "$"}, 2048); !fault.Is(err, fault.Invalid) {
		t.Errorf("without sources: %v", err)
	}
}

func TestFolder(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	folder, data := filepath.Join(base, "secrets"), filepath.Join(base, "secrets", "onbehalf")
	write(t, filepath.Join(folder, "github"), "canary-github\n")
	write(t, filepath.Join(folder, "deep", "er", "slack.json"), `{"secret":"canary-slack"}`)
	write(t, filepath.Join(folder, "tls-key.pem"), "canary-key")
	write(t, filepath.Join(folder, "large"), strings.Repeat("x", contentLimit+1))
	write(t, filepath.Join(folder, "binary"), "canary\xff")
	write(t, filepath.Join(data, "credentials"), "canary-root")
	write(t, filepath.Join(data, "sub", "file"), "canary-sub")
	write(t, filepath.Join(base, "outside"), "canary-outside")
	for link, to := range map[string]string{
		"..data": "deep", "renewed": "..data/er/slack.json", "escape": "../outside", "absolute": filepath.Join(base, "outside"), "up": "..",
		"root-key": "onbehalf/credentials", "inner": "onbehalf/sub",
	} {
		if err := os.Symlink(to, filepath.Join(folder, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Link(filepath.Join(data, "credentials"), filepath.Join(folder, "hard")), syscall.Mkfifo(filepath.Join(folder, "pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	// As an operator may write it; and a volume has a folder that is nobody's to read.
	linked, lost := filepath.Join(base, "data"), filepath.Join(data, "lost+found")
	if err := errors.Join(os.Symlink(data, linked), os.Mkdir(lost, 0)); err != nil {
		t.Fatal(err)
	}
	s := secretsOf(t, Options{Protected: []string{linked, filepath.Join(folder, "tls-key.pem"), filepath.Join(base, "not-there")}}, "name=file,kind=file,folder="+folder)
	for id, want := range map[string]string{"file/github": "canary-github", "file/deep/er/slack.json": "", "file/renewed": "", "file/..data/er/slack.json": ""} {
		key := "$"
		if want == "" {
			key, want = "secret", "canary-slack"
		}
		if got, err := resolve(t, s, id, key); got != want || err != nil {
			t.Errorf("%s: got %q, %v", id, got, err)
		}
	}
	refused(t, s, "file/nobody", "$", "none of that name")
	refused(t, s, "file/large", "$", "larger than")
	refused(t, s, "file/binary", "$", "not text")
	refused(t, s, "file/deep", "$", "not a file")
	refused(t, s, "file/pipe", "$", "not a file")
	for _, id := range []string{"file/escape", "file/absolute", "file/up/outside"} {
		refused(t, s, id, "$", "does not lie in the folder")
	}
	for _, id := range []string{"file/tls-key.pem", "file/onbehalf/credentials", "file/onbehalf/sub/file", "file/root-key", "file/hard", "file/inner/file"} {
		refused(t, s, id, "$", "belongs to the platform")
	}
	if _, err := New(declared(t, "name=file,kind=file,folder="+filepath.Join(data, "sub")), Options{Protected: []string{data}}); err == nil || !strings.Contains(err.Error(), "platform's own") {
		t.Errorf("a folder inside the data folder: %v", err)
	}
	if err := os.Symlink("/proc/self", filepath.Join(base, "kernel")); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{filepath.Join(base, "kernel"), filepath.Join(base, "nobody"), filepath.Join(base, "outside")} {
		if _, err := New(declared(t, "name=file,kind=file,folder="+at), Options{}); err == nil {
			t.Errorf("%s is a source", at)
		}
	}
}

func TestDeclarations(t *testing.T) {
	t.Parallel()
	for text, why := range map[string]string{
		"":                                     "not NAME=VALUE",
		"name=a":                               "kind must be",
		"name=a,kind=s3":                       "kind must be",
		"name=a,kind=env":                      "needs prefix",
		"name=A,kind=env,prefix=X_":            "lower-case",
		"name=a,kind=env,prefix=X_,prefix=":    "not NAME=VALUE",
		"name=a,kind=env,prefix=X_,name=b":     "twice",
		"name=a,kind=env,prefix=X_,color=b":    "no setting",
		"name=a,kind=env,prefix=X_,mount=b":    "not a setting of the kind",
		"name=a,kind=env,prefix=ONBEHALF_":     "platform's own",
		"name=a,kind=env,prefix=aws_x":         "platform's own",
		"name=a,kind=env,prefix=X-":            "beginning of variables",
		"name=a,kind=env,prefix=X_,account=12": "12-digit",
		"name=a,kind=file,folder=relative":     "absolute",
		"name=a,kind=file,folder=/":            "whole file system",
		"name=a,kind=file,folder=/proc/1":      "/proc",
		"name=a,kind=vault,address=http://bao.example,prefix=a,token-file=/t":                                  "https",
		"name=a,kind=vault,address=https://u:p@bao.example,prefix=a,token-file=/t":                             "https",
		"name=a,kind=vault,address=https://bao.example,prefix=../a,token-file=/t":                              "paths",
		"name=a,kind=vault,address=https://bao.example,prefix=a,mount=a?b,token-file=/t":                       "paths",
		"name=a,kind=secretsmanager,region=us-east-1,aws-account=12,prefix=a,credentials-file=/c":              "12-digit",
		"name=a,kind=secretsmanager,region=us east,aws-account=000000000000,prefix=a,credentials-file=/c":      "region",
		"name=a,kind=secretsmanager,region=us-east-1,aws-account=000000000000,prefix=arn:a,credentials-file=/": "prefix",
	} {
		if _, err := ParseSource(text, account); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: got %v, want %q", text, err, why)
		}
	}
	if _, err := New(declared(t, "name=a,kind=env,prefix=X_", "name=a,kind=env,prefix=Y_"), Options{}); err == nil {
		t.Error("two sources of one name")
	}
}

// scripted is a source that says what the test says. It counts.
type scripted struct {
	asked atomic.Int64
	say   func(path string) ([]byte, error)
}

func (s *scripted) read(_ context.Context, path string) ([]byte, error) {
	s.asked.Add(1)
	return s.say(path)
}

func TestMemory(t *testing.T) {
	t.Parallel()
	s := secretsOf(t, Options{}, "name=env,kind=env,prefix=X_")
	now := time.Now()
	s.now = func() time.Time { return now }
	value, failure := "canary-one", error(nil)
	at := &scripted{say: func(string) ([]byte, error) { return []byte(value), failure }}
	s.sources[account]["env"] = source{Source{Account: account, Name: "env"}, at}
	expect := func(when, want string, asked int64) {
		t.Helper()
		got, err := resolve(t, s, "env/A", "$")
		if got != want || (err == nil) != (want != "") || at.asked.Load() != asked {
			t.Errorf("%s: got %q, %v after %d requests", when, got, err, at.asked.Load())
		}
	}
	expect("first", "canary-one", 1)
	value = "canary-two"
	now = now.Add(freshFor - 1)
	expect("still fresh", "canary-one", 1)
	now = now.Add(1)
	expect("rotated", "canary-two", 2)
	now, failure = now.Add(freshFor), problemf(fault.Unavailable, "out of reach")
	expect("out of reach", "canary-two", 3)
	now = now.Add(lastGoodFor - freshFor - 1)
	expect("still out of reach", "canary-two", 4)
	expect("out of reach a moment ago", "canary-two", 4)
	now = now.Add(1)
	expect("out of reach for too long", "", 5)
	failure = nil
	expect("back", "canary-two", 6)
	now, failure = now.Add(freshFor), errNotThere
	expect("taken back", "", 7)
	failure = problemf(fault.Unavailable, "out of reach")
	expect("taken back, then out of reach", "", 8)
}

func TestOneRequestAtATime(t *testing.T) {
	t.Parallel()
	s := secretsOf(t, Options{}, "name=env,kind=env,prefix=X_")
	hold := make(chan struct{})
	at := &scripted{say: func(string) ([]byte, error) { <-hold; return []byte("canary"), nil }}
	s.sources[account]["env"] = source{Source{Account: account, Name: "env"}, at}
	var callers sync.WaitGroup
	for range 100 {
		callers.Go(func() {
			if got, err := resolve(t, s, "env/A", "$"); got != "canary" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	// Who gives up does not take the others along.
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Resolve(impatient, account, Reference{"env/A", "$"}, 2048); !fault.Is(err, fault.Unavailable) {
		t.Errorf("cancelled: %v", err)
	}
	close(hold)
	callers.Wait()
	if n := at.asked.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
	panicking := &scripted{say: func(string) ([]byte, error) { panic("canary") }}
	s.sources[account]["env"] = source{Source{Account: account, Name: "env"}, panicking}
	if _, err := resolve(t, s, "env/B", "$"); !fault.Is(err, fault.Unavailable) || strings.Contains(fault.Of(err).Message, "canary") {
		t.Errorf("a panic: %v", err)
	}
}

// FuzzReference: whatever a tenant writes opens nothing outside of the folder.
func FuzzReference(f *testing.F) {
	base, err := os.MkdirTemp("", "references")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.RemoveAll(base) })
	write(f, filepath.Join(base, "in", "a", "b"), "inside")
	write(f, filepath.Join(base, "out"), "canary")
	s := secretsOf(f, Options{}, "name=file,kind=file,folder="+filepath.Join(base, "in"))
	for _, id := range []string{"file/a/b", "file/../out", "file/a/../../out", "file//out", "file/a/b/../../../out", "arn:aws:secretsmanager:us-east-1:000000000000:secret:file/a/b", "file/%2e%2e/out"} {
		f.Add(id, "$")
	}
	f.Fuzz(func(t *testing.T, id, key string) {
		if value, err := s.Resolve(t.Context(), account, Reference{id, key}, 2048); err == nil && value.Reveal() != "inside" {
			t.Errorf("%q opened %q", id, value.Reveal())
		}
	})
}

// FuzzMember: a value comes out only of an object that says it once.
func FuzzMember(f *testing.F) {
	for _, text := range []string{`{"a":"b"}`, `{"a":"b","a":"c"}`, `{"a":{"a":"b"}}`, `["a"]`, `{"a":"b"}x`, `{"a":1e999}`, `plain`, `{"\u0061":"b"}`} {
		f.Add([]byte(text), "a")
	}
	f.Fuzz(func(t *testing.T, data []byte, key string) {
		value, err := member(data, key)
		if err == nil && value == "" {
			t.Errorf("%q: an empty value", data)
		}
	})
}
