package secret_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/onbehalf/onbehalf/internal/secret"
)

type holderOfOne struct{ Token secret.Text }

const canary = "hunter2-and-more"

// Whatever prints a Text, the secret is not in it: not by any verb, not inside
// structs, pointers, maps and errors, not in JSON, XML or a log.
func TestNothingPrintsIt(t *testing.T) {
	t.Parallel()
	text := secret.New(canary)
	holder := struct {
		Token    secret.Text
		Pointer  *secret.Text
		List     []secret.Text
		Map      map[string]secret.Text
		Anything any
		hidden   secret.Text // fmt may not call methods on it
	}{text, &text, []secret.Text{text}, map[string]secret.Text{"k": text}, text, text}

	outputs := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T %v", "%10.3s", "%w"} {
		outputs[verb] = fmt.Sprintf(verb, text)
		outputs[verb+" in a struct"] = fmt.Sprintf(verb, holder)
		outputs[verb+" as a pointer"] = fmt.Sprintf(verb, &text)
	}
	outputs["error"] = fmt.Errorf("refused %v: %w", text, fmt.Errorf("inner %s", text)).Error()
	encoded, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	outputs["json"] = string(encoded)
	keys, err := json.Marshal(map[secret.Text]int{text: 1})
	if err != nil {
		t.Fatal(err)
	}
	outputs["json keys"] = string(keys)
	marked, err := xml.Marshal(holderOfOne{text})
	if err != nil {
		t.Fatal(err)
	}
	outputs["xml"] = string(marked)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("message", "token", text, "holder", holder, slog.Group("g", "token", &text))
	slog.New(slog.NewTextHandler(&log, nil)).Info("message", "token", text, "holder", holder)
	outputs["log"] = log.String()

	for how, output := range outputs {
		if strings.Contains(output, canary) || strings.Contains(output, fmt.Sprintf("%x", canary)) {
			t.Errorf("%s shows it: %s", how, output)
		}
	}
	if !strings.Contains(outputs["%v"], "redacted") {
		t.Errorf("%%v gives %q, which does not say that something was left out", outputs["%v"])
	}
}

func TestRevealGivesItBack(t *testing.T) {
	t.Parallel()
	var decoded struct {
		Token   secret.Text  `json:"token"`
		Missing *secret.Text `json:"missing"`
	}
	if err := json.Unmarshal([]byte(`{"token":"`+canary+`"}`), &decoded); err != nil {
		t.Fatal(err)
	}
	if decoded.Token.Reveal() != canary || decoded.Missing != nil || decoded.Token.Len() != len(canary) {
		t.Errorf("decoded %q, missing %v", decoded.Token.Reveal(), decoded.Missing)
	}
	var fromText secret.Text
	if err := fromText.UnmarshalText([]byte(canary)); err != nil || !fromText.Equal(decoded.Token) {
		t.Errorf("from text %q, %v", fromText.Reveal(), err)
	}
	if fromText.Equal(secret.New(canary+"x")) || fromText.Equal(secret.Text{}) {
		t.Error("different secrets are equal")
	}
	if zero := (secret.Text{}); !zero.Empty() || zero.String() != "" {
		t.Errorf("the zero Text prints %q", zero.String())
	}
	if err := json.Unmarshal([]byte(`{"token":5}`), &decoded); err == nil {
		t.Error("a number became a secret")
	}
}
