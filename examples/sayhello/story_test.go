package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	"github.com/onbehalf/onbehalf/internal/demoidp"
	"github.com/onbehalf/onbehalf/internal/servertest"
)

func TestGreets(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := situation{}.play(t, "--mcp-version", version)
			r.greets("Ada Lovelace")
			for _, line := range []string{"] agent                connected, protocol " + version, "(again, without asking)\n", "cannot use this consent", "\n[7/7] cleaned up\n"} {
				if !strings.Contains(r.out.String(), line) {
					t.Errorf("%q is not printed", line)
				}
			}
			if r.errOut.String() != "" {
				t.Error("something is on standard error")
			}
		})
	}
}

// The platform may run elsewhere. An earlier run that was killed in the middle
// of anything is picked up.
func TestGreetsThroughARunningPlatform(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	s, args := at(p)
	s.play(t, args...).greets("Ada Lovelace")
	nothingLeft(t, p)

	kept := s.play(t, append(args, "--keep")...)
	kept.greets("Ada Lovelace")
	if want := []string{"gateway sayhello", "provider Demo-ID", "workload identity sayhello"}; !slices.Equal(inventory(t, p.Control), want) {
		t.Errorf("kept %v", inventory(t, p.Control))
	}
	again := s.play(t, args...)
	again.greets("Ada Lovelace")
	if strings.Contains(again.out.String(), "needs your consent") {
		t.Error("what was kept is not used")
	}
	nothingLeft(t, p)

	// As a run leaves it that dies between making the provider and registering its client.
	unfinished := &ProfileSource{DiscoveryURL: p.DemoURL() + discoveryPath}
	vendor, configuration := unfinished.provider(unregistered, unregistered)
	if _, err := p.Control.CreateOauth2CredentialProvider(t.Context(), &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: aws.String("Demo-ID"), CredentialProviderVendor: vendor, Oauth2ProviderConfigInput: configuration,
	}); err != nil {
		t.Fatal(err)
	}
	s.play(t, args...).greets("Ada Lovelace")
	nothingLeft(t, p)
}

// What has the example's name and is somebody else's is neither changed nor removed.
func TestLeavesAloneWhatIsNotIts(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	s, args := at(p)
	if _, err := p.Control.CreateWorkloadIdentity(t.Context(), &bedrockagentcorecontrol.CreateWorkloadIdentityInput{
		Name: aws.String("sayhello"), AllowedResourceOauth2ReturnUrls: []string{"https://app.example.com/done"},
	}); err != nil {
		t.Fatal(err)
	}
	s.play(t, args...).fails(exitMisuse, "workload identity named sayhello", "--name")
	if _, err := p.Control.CreateGateway(t.Context(), &bedrockagentcorecontrol.CreateGatewayInput{
		Name: aws.String("ours"), RoleArn: aws.String("arn:aws:iam::000000000000:role/onbehalf-default"), AuthorizerType: types.AuthorizerTypeNone, ProtocolType: types.GatewayProtocolTypeMcp,
	}); err != nil {
		t.Fatal(err)
	}
	s.play(t, append(args, "--name", "ours")...).fails(exitMisuse, "gateway named ours", "--name")
	vendor, configuration := (&ProfileSource{}).provider("theirs", "theirs")
	if _, err := p.Control.CreateOauth2CredentialProvider(t.Context(), &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: aws.String("Demo-ID-hers"), CredentialProviderVendor: vendor, Oauth2ProviderConfigInput: configuration,
	}); err != nil {
		t.Fatal(err)
	}
	s.play(t, append(args, "--name", "hers")...).fails(exitMisuse, "credential provider named Demo-ID-hers", "--name")
	if left := inventory(t, p.Control); !slices.Equal(left, []string{"gateway ours", "provider Demo-ID-hers", "workload identity sayhello"}) {
		t.Errorf("there is %v", left)
	}
}

// Ctrl-C stops the story; the clean-up goes on. A second one stops the waiting
// for it, and what stays is named, and found by the next run.
func TestStops(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	s, args := at(p)
	args = append(args, "--auto-consent=false")

	r := s.play(t, args...)
	r.await("waiting for you")
	r.interrupt()
	r.fails(exitCancelled, "stopped: cancelled", hintStopped)
	nothingLeft(t, p)

	impatient := s.play(t, args...)
	impatient.await("waiting for you")
	impatient.again()
	impatient.interrupt()
	impatient.fails(exitCancelled, "stopped: cancelled", hintLeft)
	if left := inventory(t, p.Control); len(left) != 3 {
		t.Errorf("it was not to wait, and left only %v", left)
	}
	for _, what := range []string{"gateway sayhello", "credential provider Demo-ID", "workload identity sayhello"} {
		if !strings.Contains(impatient.out.String(), "left behind: "+what+" (") {
			t.Errorf("it does not say that it leaves the %s behind", what)
		}
	}
	s.play(t, args[:4]...).greets("Ada Lovelace")
	nothingLeft(t, p)

	temporary := situation{}.play(t, "--auto-consent=false") // all of it goes with its folder
	temporary.await("waiting for you")
	temporary.again()
	temporary.interrupt()
	temporary.fails(exitCancelled, "stopped: cancelled", hintStopped)
}

func TestEndsBadly(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t)
	s, args := at(p)
	named := func(name string, more ...string) []string {
		return append(append(slices.Clone(args), "--name", name), more...)
	}
	cleaned := func(t *testing.T, name string) {
		t.Helper()
		for _, item := range inventory(t, p.Control) {
			if strings.Contains(item, " "+name) {
				t.Errorf("%s is left behind", item)
			}
		}
	}
	t.Run("denial", func(t *testing.T) {
		t.Parallel()
		r := s.play(t, named("denied", "--auto-consent=false")...)
		arrival, err := servertest.NewPerson(p.DemoURL(), demoidp.Ada).Visit(t.Context(), r.link(), "deny")
		if err != nil {
			t.Fatal(err)
		}
		if page, _ := look(t, http.DefaultClient, arrival); !strings.Contains(page, pageDenied.Title) {
			t.Errorf("the page says %s", page)
		}
		r.fails(exitFailed, "you did not allow it", "Nothing was shared")
		cleaned(t, "denied")
	})
	t.Run("nobody came", func(t *testing.T) {
		t.Parallel()
		r := s.play(t, named("alone", "--auto-consent=false", "--timeout", "300ms")...)
		r.fails(exitFailed, "no consent within 300ms, the callback server was never reached", "redirect_uri_mismatch")
		cleaned(t, "alone")
	})
	t.Run("somebody else came", func(t *testing.T) {
		t.Parallel()
		r := s.play(t, named("visited", "--auto-consent=false", "--timeout", "2s")...)
		link := r.link()
		grace := newBrowser(t, p, demoidp.Grace)
		if page, status := grace.open(link); status != http.StatusForbidden || !strings.Contains(page, "You are signed in as someone else") || !strings.Contains(page, "Grace Hopper") {
			t.Errorf("%d %s", status, page)
		}
		r.fails(exitFailed, "no consent within 2s", hintBinding)
		cleaned(t, "visited")
	})
	t.Run("the platform goes away", func(t *testing.T) {
		t.Parallel()
		gone := servertest.Start(t)
		s, args := at(gone)
		r := s.play(t, append(args, "--auto-consent=false", "--timeout", "1s")...)
		r.await("waiting for you")
		if err := gone.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.fails(exitFailed, "no consent within", "")
		if !strings.Contains(r.out.String(), "\n[7/7] clean-up failed") || !strings.Contains(r.out.String(), "left behind: gateway sayhello") {
			t.Error("it does not say what it leaves behind")
		}
	})
}

// The provider's own failures: what the agent does about each.
func TestProviderFails(t *testing.T) {
	t.Parallel()
	t.Run("403", func(t *testing.T) {
		t.Parallel()
		p := servertest.Start(t)
		p.Demo().FailPeople(http.StatusForbidden, 0)
		s, args := at(p)
		s.play(t, args...).fails(exitFailed, "profile is not found", "People API")
		nothingLeft(t, p)
	})
	t.Run("429 for a moment", func(t *testing.T) {
		t.Parallel()
		p := servertest.Start(t)
		p.Demo().FailPeople(http.StatusTooManyRequests, time.Second)
		s, args := at(p)
		r := s.play(t, args...)
		r.await("the provider limits requests: waiting for 1s\n")
		p.Demo().FailPeople(0, 0)
		r.greets("Ada Lovelace")
	})
	t.Run("429 for ever", func(t *testing.T) {
		t.Parallel()
		p := servertest.Start(t)
		p.Demo().FailPeople(http.StatusTooManyRequests, time.Second)
		s, args := at(p)
		s.play(t, args...).fails(exitFailed, "also after 3 more tries", hintThrottled)
		if asked := p.Demo().PeopleRequests(); asked != 1+mostRetries {
			t.Errorf("it was asked %d times", asked)
		}
		nothingLeft(t, p)
	})
	t.Run("429 for too long", func(t *testing.T) {
		t.Parallel()
		p := servertest.Start(t)
		p.Demo().FailPeople(http.StatusTooManyRequests, time.Hour)
		s, args := at(p)
		s.play(t, args...).fails(exitFailed, "wants to be asked again in 1h0m0s", hintThrottled)
		if asked := p.Demo().PeopleRequests(); asked != 1 {
			t.Errorf("it was asked %d times", asked)
		}
	})
	t.Run("a client that it does not know", func(t *testing.T) {
		t.Parallel()
		p := servertest.Start(t)
		s, args := at(p)
		r := s.play(t, append(args, "--auto-consent=false")...)
		link := r.link()
		// Somebody changes the secret, and the consent cannot be redeemed.
		found, err := p.Control.GetOauth2CredentialProvider(t.Context(), &bedrockagentcorecontrol.GetOauth2CredentialProviderInput{Name: aws.String("Demo-ID")})
		if err != nil {
			t.Fatal(err)
		}
		id := *found.Oauth2ProviderConfigOutput.(*types.Oauth2ProviderConfigOutputMemberCustomOauth2ProviderConfig).Value.ClientId
		vendor, configuration := (&ProfileSource{DiscoveryURL: p.DemoURL() + discoveryPath}).provider(id, "not the secret")
		if _, err := p.Control.UpdateOauth2CredentialProvider(t.Context(), &bedrockagentcorecontrol.UpdateOauth2CredentialProviderInput{
			Name: aws.String("Demo-ID"), CredentialProviderVendor: vendor, Oauth2ProviderConfigInput: configuration,
		}); err != nil {
			t.Fatal(err)
		}
		if page, status := newBrowser(t, p, demoidp.Ada).open(link); status != http.StatusBadGateway || !strings.Contains(page, pageFailed.Title) {
			t.Errorf("%d %s", status, page)
		}
		r.fails(exitFailed, "the OAuth configuration is not valid", "client secret")
		nothingLeft(t, p)
	})
	t.Run("a redirect URI that it does not know", func(t *testing.T) {
		t.Parallel()
		p := servertest.Start(t)
		unknown := &ProfileSource{Title: "demo provider", PeopleURL: p.DemoURL(), DiscoveryURL: p.DemoURL() + discoveryPath,
			Register: func(ctx context.Context, _ string) (string, string, error) {
				return registerDemoClient(p.DemoURL(), "elsewhere")(ctx, "http://127.0.0.1:1/elsewhere")
			}}
		rig := newConsentRig(t, p, CallbackOptions{})
		agent := rig.agent(t, unknown, "elsewhere")
		person, err := newDemoPerson(p.DemoURL())
		if err != nil {
			t.Fatal(err)
		}
		agent.Show = person.visit
		_, err = GreetUser(t.Context(), agent, rig.token)
		wants[*OAuthError](t, err, "does not know the redirect URI", hintRedirectURI)
	})
}

// Nothing that was temporary stays, whether it went well or not.
func TestLeavesNoFolder(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary) // so not parallel
	situation{}.play(t).greets("Ada Lovelace")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := fmt.Sprint(listener.Addr().(*net.TCPAddr).Port)
	situation{}.play(t, "--callback-port", port).fails(exitMisuse, "port "+port+" is taken", "--callback-port")
	situation{}.play(t, "--addr", listener.Addr().String()).fails(exitMisuse, port, "--addr")
	entries, err := os.ReadDir(temporary)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "sayhello-") {
			t.Errorf("%s is left", e.Name())
		}
	}
}
