package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"

	"github.com/onbehalf/onbehalf/internal/demoidp"
)

// The pages of a consent that ends at the platform.
const (
	pageGreeterAsks  = `^Greeter wants to use your People account$`
	pageConnected    = `^Greeter may now use your People account$`
	pageSomebodyElse = `^The agent asked for somebody else$`
	pageOtherBrowser = `^This began in another browser$`
)

// hostedScene is a scene whose agent has no page of its own: the platform signs people in at the provider.
func hostedScene(t *testing.T) (s *scene, done string) {
	t.Helper()
	s = startScene(t)
	s.stop()
	s.flags = append(s.flags, "--sign-in", s.idp.url+"="+demoidp.SignInClientID)
	s.start()
	done = s.url + "/connect/done"
	_, err := s.control.UpdateWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.UpdateWorkloadIdentityInput{
		Name: &s.agent, AllowedResourceOauth2ReturnUrls: []string{done, done + backToTheChat},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, done
}

const backToTheChat = "?back=https%3A%2F%2Fchat.example.com%2F"

func endingAt(returnURL string) func(*bedrockagentcore.GetResourceOauth2TokenInput) {
	return func(r *bedrockagentcore.GetResourceOauth2TokenInput) { r.ResourceOauth2ReturnUrl = &returnURL }
}

// through is the person's way from the link to the provider's answer.
func (b *browser) through(link, person string) {
	b.t.Helper()
	b.open(link)
	b.reads(pageGreeterAsks)
	b.click(controlContinue)
	b.reads(pageSignIn)
	b.click(person)
	b.reads(pageAllow)
	b.click(controlAllow)
}

// A person goes through with a link in a real browser and ends on the platform's
// own page, signed in without being asked again; the agent has the token.
func TestBrowserHostedCompletion(t *testing.T) {
	t.Parallel()
	b, elsewhere := openBrowser(t), openBrowser(t)
	s, done := hostedScene(t)
	token := s.speakFor(s.agent, s.signIn(demoidp.Ada))
	link, _ := s.link(token, endingAt(done+backToTheChat))
	b.open(link)
	b.reads(pageGreeterAsks)
	b.look("9-hosted-asks")
	b.flawless()
	b.through(link, controlAda)
	b.reads(pageConnected)
	b.look("9-hosted-done")
	b.flawless()
	if text := b.text(); !strings.Contains(text, "Back to chat.example.com") || !strings.Contains(text, "profile") {
		t.Errorf("the last page says:\n%s", text)
	}
	if s.whose(s.access(token)) != "Ada Lovelace" {
		t.Error("the token is not Ada's")
	}
	at := act(b, chromedp.Location())
	if !strings.HasPrefix(at, done+"?") || strings.Contains(at, "code=") {
		t.Errorf("the browser ended elsewhere than at the hosted page")
	}
	b.open(at) // as a reload
	b.reads(pageConnected)
	b.flawless()

	// The address alone says nothing to another browser.
	elsewhere.open(at)
	elsewhere.reads(pageOtherBrowser)
	if strings.Contains(elsewhere.text(), "Greeter") {
		t.Error("another browser is told whose agent it is")
	}
	elsewhere.flawless(403)
	b.open(link)
	b.reads(`^This link was already used$`)
	b.flawless(409)
}

// Whoever else goes through with the link connects nothing, and the person still can.
func TestBrowserHostedStranger(t *testing.T) {
	t.Parallel()
	grace, ada := openBrowser(t), openBrowser(t)
	s, done := hostedScene(t)
	token := s.speakFor(s.agent, s.signIn(demoidp.Ada))
	link, _ := s.link(token, endingAt(done))
	grace.through(link, controlGrace)
	grace.reads(pageSomebodyElse)
	grace.look("9-hosted-somebody-else")
	grace.flawless(403)
	if got := s.idp.redeemed(); got != 0 {
		t.Errorf("%d codes were redeemed", got)
	}
	ada.through(link, controlAda)
	ada.reads(pageSignIn) // asked again, since somebody else had been signed in
	ada.click(controlAda)
	ada.reads(pageConnected)
	ada.flawless()
	if s.whose(s.access(token)) != "Ada Lovelace" {
		t.Error("the token is not Ada's")
	}
}

// A no is heard, and told on the platform's page.
func TestBrowserHostedDenial(t *testing.T) {
	t.Parallel()
	b := openBrowser(t)
	s, done := hostedScene(t)
	link, session := s.link(s.speakFor(s.agent, s.signIn(demoidp.Ada)), endingAt(done))
	b.open(link)
	b.reads(pageGreeterAsks)
	b.click(controlContinue)
	b.reads(pageSignIn)
	b.click(controlCancel)
	b.reads(pageSaidNo)
	b.look("9-hosted-said-no")
	b.flawless()
	_, err := s.try(t.Context(), s.speakFor(s.agent, s.signIn(demoidp.Ada)), poll(session))
	if known := refused(t, err, "AccessDeniedException"); !strings.Contains(known.ErrorMessage(), "did not allow") {
		t.Errorf("the agent is told %q", known.ErrorMessage())
	}
}

// The published Python package, unmodified, with no callback page at all.
func TestPublishedPythonPackageWithoutAPage(t *testing.T) {
	t.Parallel()
	python := filepath.Join("clients", ".venv", "bin", "python")
	installed, err := filepath.Glob(filepath.Join("clients", ".venv", "lib", "python3*", "site-packages", "bedrock_agentcore"))
	need(t, "bedrock-agentcore for Python", err == nil && len(installed) > 0)
	s, done := hostedScene(t)
	file := filepath.Join(t.TempDir(), "values.json")
	values, err := json.Marshal(map[string]string{
		"person": s.personOverHTTP(), "provider": s.provider, "workload": s.agent, "user_token": s.signIn(demoidp.Ada), "callback_url": done,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, values, 0o600); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := command(t, append(s.environment(), "PYTHONDONTWRITEBYTECODE=1"), python, filepath.Join("clients", "python_hosted.py"), file)
	var got struct{ Token, Again, Arrival, Refusal string }
	if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil {
		t.Fatalf("the agent ended with %d: %v\n%s\n%s", code, err, out, errOut)
	}
	s.opens("without a page", got.Token)
	if got.Token != got.Again || !strings.HasPrefix(got.Arrival, done+"?session_id=") {
		t.Errorf("the same token twice: %t; the browser ended at %s", got.Token == got.Again, got.Arrival)
	}
	if !strings.Contains(got.Refusal, "ValidationException") || !strings.Contains(got.Refusal, "GetWorkloadAccessTokenForJWT") {
		t.Errorf("for a user id: %q", got.Refusal)
	}
}
