package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func FuzzMembers(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1}`, ` { "a" : [1,{"b":"}"}] , "c":"\"" } `, `{"a":1,"a":2}`, `{"\u0061":1,"a":2}`, `[1]`, `{"a":{"a":{"a":"\\"}}}`, `{"":-1e+5,"b":null}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if checkJSON(data) != nil {
			return
		}
		list, err := members(data, nil)
		var want map[string]json.RawMessage
		if trimmed := bytes.TrimLeft(data, " \n\r\t"); trimmed[0] != '{' {
			if !errors.Is(err, errNotObject) {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		if e := json.Unmarshal(data, &want); e != nil {
			t.Fatal(e)
		}
		if errors.Is(err, errRepeated) {
			return
		}
		if err != nil || len(list) != len(want) {
			t.Fatalf("%q: %v, %d members of %d", data, err, len(list), len(want))
		}
		for _, m := range list {
			if !json.Valid(m.value) || m.value[0] == ' ' || !bytes.Equal(m.value, bytes.TrimSpace(want[m.name])) {
				t.Fatalf("%q: member %q is %q, want %q", data, m.name, m.value, want[m.name])
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a___b","arguments":{"x":[1,2]},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`, `{"jsonrpc":"2.0","id":"x","result":{}}`, `{"jsonrpc":"2.0","id":null,"method":"ping"}`,
		`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, `{"jsonrpc":"2.0","id":-0,"method":"ping","params":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if checkJSON(body) != nil {
			return
		}
		m, p := parse(body)
		if p != nil {
			if out := failed(m.id, "", p); !json.Valid(out.body) {
				t.Fatalf("%q answered with %s", body, out.body)
			}
			return
		}
		if m.reply || m.id == nil {
			return
		}
		r := &request{message: m}
		if p = r.read(); p == nil {
			p = r.settle(revisions, map[string][]string{headerVersion: {"2026-07-28"}, headerMethod: {m.method}, headerName: {r.name}})
		}
		if p == nil {
			_, p = readArguments(r.arguments)
		}
		if p == nil {
			_, p = readOverride(r.meta)
		}
		if p == nil {
			_ = declined(r.responses)
			_ = r.urlElicitation()
			p = &problem{code: codeNoMethod, message: m.method}
		}
		out := failed(m.id, r.revision, p)
		var echoed struct{ ID json.RawMessage }
		if err := json.Unmarshal(out.body, &echoed); err != nil || !bytes.Equal(echoed.ID, m.id) {
			t.Fatalf("%q answered with %s: %v", body, out.body, err)
		}
	})
}

func FuzzAppendText(f *testing.F) {
	f.Add("plain")
	f.Add("\"\\\n\r\t\x00\x1f\u2028é\xff\xc3")
	f.Fuzz(func(t *testing.T, s string) {
		out := appendText(nil, s)
		var back string
		if err := json.Unmarshal(out, &back); err != nil {
			t.Fatalf("%q became %s: %v", s, out, err)
		}
		if want := strings.ToValidUTF8(s, "\uFFFD"); utf8.ValidString(s) && back != want {
			t.Fatalf("%q came back as %q", s, back)
		}
		if !bytes.Equal(out, appendText(nil, []byte(s))) || !utf8.Valid(out) {
			t.Fatalf("%q as bytes differs, or %s is no UTF-8", s, out)
		}
	})
}

// A body with very many members must not cost quadratic time.
func TestManyMembers(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`{"x":0`)
	for i := range maxMembers - 1 {
		fmt.Fprintf(&b, `,"%d":0`, i)
	}
	list, err := members([]byte(b.String()+"}"), nil)
	if err != nil || len(list) != maxMembers {
		t.Fatalf("%d members, %v", len(list), err)
	}
	if _, err := members([]byte(strings.Replace(b.String(), `"9000"`, `"17"`, 1)+`}`), nil); !errors.Is(err, errRepeated) {
		t.Errorf("error: %v", err)
	}
	if _, err := members([]byte(b.String()+`,"more":1}`), nil); !errors.Is(err, errMany) {
		t.Errorf("error: %v", err)
	}
}

// Whoever announces a body gets no memory for the announcement.
func TestAnnouncedBodies(t *testing.T) { // not parallel: it counts all memory
	request := func() *http.Request {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}"))
		r.Header.Set("Content-Type", "application/json")
		r.ContentLength = maxBody
		return r
	}
	recorder, r := httptest.NewRecorder(), request()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	body, p := readBody(recorder, r)
	runtime.ReadMemStats(&after)
	if p != nil || string(body) != "{}" {
		t.Fatalf("%q, %v", body, p)
	}
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 1<<20 {
		t.Errorf("%d bytes were taken for a body of two", taken)
	}
}

func TestDecodeHeader(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{"plain": "plain", "": "", "=?base64?ZQ==?=": "e", "=?base64?ZQ==": "=?base64?ZQ==", "=?BASE64?ZQ==?=": "=?BASE64?ZQ==?="} {
		if got, ok := decodeHeader(given); got != want || !ok {
			t.Errorf("%q is %q, %v", given, got, ok)
		}
	}
	if _, ok := decodeHeader("=?base64?*?="); ok {
		t.Error("accepted what is no base64")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, prefix := range map[string]string{"Hello": "hello-", "My-Gateway": "my-gateway-", "trailing-": "trailing-"} {
		id := newGatewayID(name)
		if !strings.HasPrefix(id, prefix) || len(id) != len(prefix)+10 {
			t.Errorf("%s: %s", name, id)
		}
	}
	if id := newTargetID(); len(id) != 10 || strings.ToUpper(id) != id {
		t.Errorf("target id %s", id)
	}
}

// Pages are cut by name, so a tool that comes or goes between two pages neither
// hides nor repeats another.
func TestPages(t *testing.T) {
	t.Parallel()
	e := &endpoint{pageSize: 2, tools: []*tool{{name: "a"}, {name: "c"}, {name: "e"}, {name: "g"}, {name: "i"}}}
	page, next, err := e.page("")
	if err != nil || len(page) != 2 || page[1].name != "c" || next == "" {
		t.Fatalf("%v %q %v", page, next, err)
	}
	e.tools = append([]*tool{{name: "0"}}, append([]*tool{{name: "a"}}, e.tools[2:]...)...) // c is gone, 0 is new
	page, next, err = e.page(next)
	if err != nil || len(page) != 2 || page[0].name != "e" || page[1].name != "g" {
		t.Fatalf("%v %q %v", page, next, err)
	}
	page, next, err = e.page(next)
	if err != nil || len(page) != 1 || page[0].name != "i" || next != "" {
		t.Fatalf("%v %q %v", page, next, err)
	}
}

func TestStateLapses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Service{now: time.Now}
		state := consentState{Expires: s.now().Add(consentLifetime).Unix()}
		time.Sleep(consentLifetime - time.Second)
		if lapsed(s.now(), state) {
			t.Error("lapsed too early")
		}
		time.Sleep(time.Second)
		if !lapsed(s.now(), state) {
			t.Error("did not lapse")
		}
	})
}

// A version that no revision has is refused as such, whatever it sorts before or after.
func TestUnknownVersionsAreUnsupported(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"garbage", "2027-01-01", "1", "2025-11-26"} {
		r := request{message: message{id: []byte("1"), method: "tools/list"}}
		p := r.settle(revisions, map[string][]string{headerVersion: {version}})
		if p == nil || p.code != codeVersion {
			t.Errorf("%s: %+v", version, p)
		}
	}
}
