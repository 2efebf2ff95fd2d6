package query

import (
	"bytes"
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
)

var door = &handler{actions: map[string]Action{"iam:Tag": {Service: IAM, Name: "Tag", Parameters: map[string]Parameter{
	"Name": {Required: true}, "Tags.member.N.Key": {}, "Tags.member.N.Value": {Longest: 256},
}}}}

func read(form string) (*Form, error) {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	_, f, err := door.read(r, IAM, []byte(form))
	return f, err
}

func TestListsOfAForm(t *testing.T) {
	t.Parallel()
	f, err := read("Action=Tag&Version=2010-05-08&Name=x&Tags.member.2.Key=b&Tags.member.1.Key=a&Tags.member.1.Value=1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]string{{"a", "1"}, {"b", ""}}, f.List("Tags", "Key", "Value")); diff != "" {
		t.Error(diff)
	}
	if f, err := read("Action=Tag&Version=2010-05-08&Name=x&Tags="); err != nil || len(f.List("Tags", "Key", "Value")) != 0 {
		t.Errorf("a list without members, as botocore writes it: %v", err)
	}
	for _, wrong := range []string{"Tags=a", "Tags=&Tags.member.1.Key=a", "Name.member.1.Key=", "Others=", "Tags.member.0.Key=a", "Tags.member.2.Key=a", "Tags.member.1.Key=a&Tags.member.3.Key=b", "Tags.member.1.Other=a", "Tags.member.1000.Key=a", "Tags.1.Key=a", "Name.member.1=a", "name=y", "Tags.member.1.Key=" + strings.Repeat("x", 129)} {
		if _, err := read("Action=Tag&Version=2010-05-08&Name=x&" + wrong); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

// FuzzForm: whatever a body says, it is refused in words that are XML, or every
// name in it is one that the action knows, once.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{"", "Action=Tag&Version=2010-05-08&Name=x", "Action=Tag&Action=Tag", "Action=%00&Version=%ff", "Tags.member.1.Key=a;b", "Action=Tag&Version=2010-05-08&Name=%3Cx%3E&Tags.member.1.Key=%1b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		form, err := read(body)
		if err == nil {
			values, _ := url.ParseQuery(body)
			for name := range form.values {
				if len(values[name]) != 1 {
					t.Errorf("%q comes %d times", name, len(values[name]))
				}
			}
			return
		}
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%v", err)
		}
		w := httptest.NewRecorder()
		writeError(w, httptest.NewRequest(http.MethodPost, "/", nil), IAM, err)
		var answer struct {
			Error struct{ Type, Code, Message string }
		}
		if err := xml.NewDecoder(bytes.NewReader(w.Body.Bytes())).Decode(&answer); err != nil || answer.Error.Type != "Sender" || answer.Error.Code == "" {
			t.Errorf("%v: %s", err, w.Body)
		}
	})
}
