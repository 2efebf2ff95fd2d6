package principal_test

import (
	"context"
	"testing"

	"pgregory.net/rapid"

	"github.com/onbehalf/onbehalf/internal/principal"
)

// A JWT's person and an application's user id are never the same user, however
// they are spelled: names begin with where they come from.
func TestUsersOfDifferentKindsNeverMeet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := principal.User{ID: rapid.StringMatching(`.{1,40}`).Draw(t, "id")}
		person := principal.User{Issuer: rapid.StringMatching(`https://[a-z./]{1,20}`).Draw(t, "issuer"), Subject: rapid.String().Draw(t, "subject")}
		if id.String() == person.String() || id.IsZero() || person.IsZero() {
			t.Fatalf("%v and %v are both called %q", id, person, id.String())
		}
	})
}

// Two people of different issuers or subjects have different names: an issuer has no fragment.
func TestPeopleHaveNamesOfTheirOwn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) principal.User {
			return principal.User{Issuer: rapid.StringMatching(`https://[a-z./]{1,3}`).Draw(t, label+" issuer"), Subject: rapid.StringMatching(`[a-z#:]{1,3}`).Draw(t, label+" subject")}
		}
		a, b := draw("a"), draw("b")
		if (a == b) != (a.String() == b.String()) {
			t.Fatalf("%+v and %+v are called %q and %q", a, b, a.String(), b.String())
		}
	})
}

func TestNobody(t *testing.T) {
	t.Parallel()
	if (principal.User{}).String() != "" || !(principal.User{}).IsZero() || !(principal.Workload{Name: "n"}).IsZero() {
		t.Error("nobody is somebody")
	}
	if got := principal.RequestOf(context.Background()); got != (principal.Request{}) {
		t.Errorf("background work has request %+v", got)
	}
	ctx := principal.WithRequest(context.Background(), principal.Request{ID: "r"})
	if principal.RequestOf(ctx).ID != "r" {
		t.Error("the request is lost")
	}
}
