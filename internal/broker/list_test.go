package broker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/api"
	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/policy"
	"github.com/onbehalf/onbehalf/internal/principal"
	"github.com/onbehalf/onbehalf/internal/store"
)

func TestGrantIsShownWithoutItsSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.idp.with(func(p *idp) { p.scopes = "openid profile" })
	full := ask("profile", "email")
	full.Resources, full.Audiences, full.Parameters = []string{"https://api.example"}, []string{"api"}, map[string]string{parameterAccount: "work"}
	ada := w.consented(t, "agent", "jwt:ada", full)
	got := w.onlyGrant(t)
	want := api.Grant{
		GrantId: got.GrantId, WorkloadName: "agent", ProviderName: "google", User: &api.EndUser{Issuer: &ada.User.Issuer, Subject: pointer("ada")}, AccountLabel: pointer("work"),
		RequestedScopes: []string{"email", "profile"}, GrantedScopes: []string{"openid", "profile"}, Resources: []string{"https://api.example"}, Audiences: []string{"api"},
		State: api.GrantStateActive, Refreshable: true, CreatedAt: got.CreatedAt, RefreshedAt: got.RefreshedAt, ExpiresAt: got.ExpiresAt,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if left := time.Until(got.ExpiresAt.Time); left < 59*time.Minute || left > time.Hour || got.CreatedAt.IsZero() {
		t.Errorf("expires in %v, created %v", left, got.CreatedAt)
	}
	one, err := w.GetGrant(t.Context(), root, &api.GetGrantRequest{GrantId: got.GrantId})
	if err != nil || cmp.Diff(&got, one.Grant) != "" {
		t.Errorf("read alone: %+v, %v", one, err)
	}
	if text := string((&api.ListGrantsResponse{Grants: []api.Grant{got}}).AppendJSON(nil)); strings.Contains(text, "canary") {
		t.Errorf("a secret is listed: %s", text)
	}
}

func TestGrantStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.idp.with(func(p *idp) { p.lifetime = 600 })
	w.consented(t, "agent", "ada", ask("profile"))
	w.idp.with(func(p *idp) { p.noRefresh = true })
	w.consented(t, "agent", "bob", ask("profile"))
	states := func() map[string]api.GrantState {
		got := map[string]api.GrantState{}
		for _, state := range []api.GrantState{api.GrantStateActive, api.GrantStateExpired, api.GrantStateNeedsConsent} {
			for _, g := range w.listed(t, &api.ListGrantsRequest{State: state}) {
				if g.State != state {
					t.Errorf("listed as %s: %+v", state, g)
				}
				got[*g.User.UserId] = state
			}
		}
		return got
	}
	if diff := cmp.Diff(map[string]api.GrantState{"ada": "ACTIVE", "bob": "ACTIVE"}, states()); diff != "" {
		t.Error(diff)
	}
	w.later(601 * time.Second)
	if diff := cmp.Diff(map[string]api.GrantState{"ada": "EXPIRED", "bob": "NEEDS_CONSENT"}, states()); diff != "" {
		t.Error(diff)
	}
	w.exec(t, `UPDATE grants SET state = 'needs-consent'`)
	if diff := cmp.Diff(map[string]api.GrantState{"ada": "NEEDS_CONSENT", "bob": "NEEDS_CONSENT"}, states()); diff != "" {
		t.Error(diff)
	}
}

// walk follows nextToken to the end.
func (w *world) walk(t testing.TB, caller principal.Caller, r api.ListGrantsRequest) (ids []string, pages int) {
	t.Helper()
	for {
		page, err := w.ListGrants(t.Context(), caller, &r)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, g := range page.Grants {
			if slices.Contains(ids, g.GrantId) {
				t.Fatalf("%s is listed twice", g.GrantId)
			}
			ids = append(ids, g.GrantId)
		}
		if page.NextToken == nil {
			return ids, pages
		}
		r.NextToken = page.NextToken
	}
}

func TestListOfAnAccountGoesThroughItsWorkloads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := 0
	for i := range 5 {
		name := fmt.Sprintf("agent-%d", i)
		w.workload(t, name, returnURL)
		for j := range i {
			w.consented(t, name, fmt.Sprintf("user-%d", j), ask("profile"))
			all++
		}
	}
	for _, size := range []int32{1, 2, 3, 4, 100} {
		if ids, _ := w.walk(t, root, api.ListGrantsRequest{MaxResults: &size}); len(ids) != all {
			t.Errorf("pages of %d: %d grants, want %d", size, len(ids), all)
		}
	}
	one := int32(1)
	first, err := w.ListGrants(t.Context(), root, &api.ListGrantsRequest{MaxResults: &one, WorkloadName: pointer("agent-3")})
	if err != nil || first.NextToken == nil {
		t.Fatalf("%+v, %v", first, err)
	}
	for name, other := range map[string]*api.ListGrantsRequest{
		"another workload": {WorkloadName: pointer("agent-4")}, "everything": {}, "another state": {WorkloadName: pointer("agent-3"), State: api.GrantStateActive},
		"a user": {User: &api.EndUser{UserId: pointer("user-0")}},
	} {
		other.NextToken = first.NextToken
		_, err := w.ListGrants(t.Context(), root, other)
		wantFault(t, err, fault.Invalid, "another list")
		_ = name
	}
	for _, bad := range []string{"", "{}", "null", `{"f":1}`, `["f"]`} {
		_, err := w.ListGrants(t.Context(), root, &api.ListGrantsRequest{NextToken: &bad})
		wantFault(t, err, fault.Invalid, "another list")
	}
}

// Rows of a state that is rare are looked for page by page, not all at once.
func TestListReadsABoundedNumberOfRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.consented(t, "agent", "ada", ask("profile"))
	w.exec(t, `INSERT INTO grants SELECT 'g' || n, account, 'lookup' || n, workload_id, user_issuer, user_subject, 'user' || n, provider_id, label, resources, audiences, asked, granted,
		CASE WHEN n = 2500 THEN 'needs-consent' ELSE state END, origin, access_token, refresh_token, expires, version, lease_holder, lease_until, fence, refresh_failures, refresh_failed, next_refresh, created + n, refreshed, last_used
		FROM grants, (WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 3000) SELECT n FROM numbers) AS many`)
	for name, r := range map[string]api.ListGrantsRequest{
		"workload": {WorkloadName: pointer("agent"), State: api.GrantStateNeedsConsent}, "provider": {ProviderName: pointer("google"), State: api.GrantStateNeedsConsent}, "all": {State: api.GrantStateNeedsConsent},
	} {
		if ids, pages := w.walk(t, root, r); !slices.Equal(ids, []string{"g2500"}) || pages < 3 {
			t.Errorf("%s: %v in %d pages", name, ids, pages)
		}
	}
	if ids, pages := w.walk(t, root, api.ListGrantsRequest{}); len(ids) != 3001 || pages != 61 {
		t.Errorf("%d grants in %d pages", len(ids), pages)
	}
}

// limited is a caller who may do all of our own operations, but not to the workload payroll.
func (w *world) limited(t *testing.T) principal.Caller {
	t.Helper()
	caller := principal.Caller{Kind: principal.Key, Account: account, ARN: "arn:aws:iam::000000000000:user/support"}
	document := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"onbehalf:*","Resource":"*"},
		{"Effect":"Deny","Action":"onbehalf:*","Resource":"arn:aws:bedrock-agentcore:*:*:workload-identity-directory/default/workload-identity/payroll"}]}`
	if err := w.db.Update(t.Context(), func(tx *store.Tx) error {
		return policy.New(w.db).Put(tx, account, caller.ARN, "limited", document)
	}); err != nil {
		t.Fatal(err)
	}
	return caller
}

// A key that may list everything but one workload's does not see that one's, however it asks.
func TestListLeavesOutWhatIsDenied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.workload(t, "payroll", returnURL)
	w.consented(t, "agent", "ada", ask("profile"))
	w.consented(t, "payroll", "ada", ask("profile"))
	limited := w.limited(t)
	user := &api.EndUser{UserId: pointer("ada")}
	for name, r := range map[string]api.ListGrantsRequest{"all": {}, "user": {User: user}, "provider": {ProviderName: pointer("google")}} {
		page, err := w.ListGrants(t.Context(), limited, &r)
		if err != nil || len(page.Grants) != 1 || page.Grants[0].WorkloadName != "agent" {
			t.Errorf("%s: %+v, %v", name, page, err)
		}
	}
	_, err := w.RevokeUserGrants(t.Context(), limited, &api.RevokeUserGrantsRequest{User: user})
	wantFault(t, err, fault.Denied, "workload-identity/payroll")
	if n := w.count(t, `SELECT COUNT(*) FROM grants`); n != 2 {
		t.Error("something was revoked")
	}
	w.link(t, w.as(t, "payroll", "bob"), ask("profile")) // nothing but a link that waits
	_, err = w.RevokeUserGrants(t.Context(), limited, &api.RevokeUserGrantsRequest{User: &api.EndUser{UserId: pointer("bob")}})
	wantFault(t, err, fault.Denied, "workload-identity/payroll")
}

func TestSeveralAccountsOfOneUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	labelled := func(label string, more ...string) TokenRequest {
		r := ask("profile")
		r.Parameters = map[string]string{parameterAccount: label, "prompt": "select_account"}
		return r
	}
	ada := w.consented(t, "agent", "ada", labelled("work"))
	w.link(t, ada, ask("profile")) // the unnamed one is another
	w.link(t, ada, labelled("home"))
	w.consented(t, "agent", "ada", labelled("home"))
	work, home := w.token(t, ada, labelled("work")), w.token(t, ada, labelled("home"))
	if work == home {
		t.Error("two accounts have one token")
	}
	link := w.link(t, ada, labelled("third"))
	attempt := w.open(t, newBrowser("ada"), link)
	if strings.Contains(attempt.Location, ownParameters) || !strings.Contains(attempt.Location, "select_account") {
		t.Errorf("the browser goes to %s", attempt.Location)
	}
	if w.idp.everSent(ownParameters) {
		t.Error("the provider was told our parameter")
	}
	if again := w.link(t, ada, labelled("third")); again.SessionURI != link.SessionURI {
		t.Error("an equal question opened another session")
	}
	for _, label := range []string{"", " ", "a b", "ä", "a\n", "<script>", strings.Repeat("x", 65), "a/b", "a\"b"} {
		_, err := w.UserToken(t.Context(), ada, labelled(label))
		wantFault(t, err, fault.Invalid, parameterAccount)
	}
	for _, label := range []string{"a", "ada@example.com", "Work-2_x.y", strings.Repeat("x", 64)} {
		w.link(t, ada, labelled(label))
	}
	misspelt := ask("profile")
	misspelt.Parameters = map[string]string{"onbehalf_acount": "work"}
	_, err := w.UserToken(t.Context(), ada, misspelt)
	wantFault(t, err, fault.Invalid, "onbehalf_account is the only one")
	_, err = w.ClientToken(t.Context(), ada, misspelt)
	wantFault(t, err, fault.Invalid, "onbehalf_account is the only one")
}

func TestTokenStateStartsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.idp.with(func(p *idp) { p.lifetime = 600 })
	ada := w.as(t, "agent", "ada")
	state := func(label string, scopes ...string) *api.GetResourceTokenStateResponse {
		t.Helper()
		r := &api.GetResourceTokenStateRequest{ProviderName: "google", Oauth2Flow: api.Oauth2FlowTypeUserFederation, Scopes: scopes}
		if label != "" {
			r.AccountLabel = &label
		}
		got, err := w.GetResourceTokenState(t.Context(), ada, r)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := state("", "profile"); got.State != api.ResourceTokenStateNone || !slices.Equal(got.MissingScopes, []string{"profile"}) {
		t.Errorf("before consent: %+v", got)
	}
	w.consented(t, "agent", "ada", ask("profile", "openid"))
	if got := state("", "profile"); got.State != api.ResourceTokenStateActive || !slices.Equal(got.GrantedScopes, []string{"openid", "profile"}) || got.MissingScopes != nil || !*got.Refreshable || time.Until(got.ExpiresAt.Time) < 9*time.Minute {
		t.Errorf("after consent: %+v", got)
	}
	if got := state("", "profile", "email"); got.State != api.ResourceTokenStateNeedsConsent || !slices.Equal(got.MissingScopes, []string{"email"}) {
		t.Errorf("of a wider question: %+v", got)
	}
	if got := state("work", "profile"); got.State != api.ResourceTokenStateNone {
		t.Errorf("of another account: %+v", got)
	}
	w.later(601 * time.Second)
	if got := state("", "profile"); got.State != api.ResourceTokenStateExpired {
		t.Errorf("after expiry: %+v", got)
	}
	w.exec(t, `UPDATE grants SET state = 'needs-consent'`)
	if got := state("", "profile"); got.State != api.ResourceTokenStateNeedsConsent {
		t.Errorf("when marked: %+v", got)
	}
	if n := w.count(t, `SELECT COUNT(*) FROM authorization_sessions WHERE state <> 'done'`); n != 0 {
		t.Error("the person was asked")
	}
	if refreshes, _ := w.idp.counts(); refreshes != 0 {
		t.Error("something was refreshed")
	}
	if err := w.vault.Run(canceled(t)); err != nil {
		t.Fatal(err)
	}
	if n := w.count(t, `SELECT COUNT(*) FROM grants WHERE last_used <> 0`); n != 0 {
		t.Error("looking counts as use")
	}
	_, err := w.GetResourceTokenState(t.Context(), ada, &api.GetResourceTokenStateRequest{ProviderName: "nowhere", Oauth2Flow: api.Oauth2FlowTypeUserFederation})
	wantFault(t, err, fault.NotFound, "nowhere")

	w.idp.with(func(p *idp) { p.lifetime = 36000 })
	m2m := &api.GetResourceTokenStateRequest{ProviderName: "google", Oauth2Flow: api.Oauth2FlowTypeM2m, Scopes: []string{"read"}}
	if got, err := w.GetResourceTokenState(t.Context(), ada, m2m); err != nil || got.State != api.ResourceTokenStateNone || w.idp.grants() != 0 {
		t.Errorf("M2M before: %+v, %v", got, err)
	}
	w.m2m(t, ada, TokenRequest{ProviderName: "google", Scopes: []string{"read"}})
	if got, err := w.GetResourceTokenState(t.Context(), ada, m2m); err != nil || got.State != api.ResourceTokenStateActive || got.ExpiresAt.IsZero() {
		t.Errorf("M2M after: %+v, %v", got, err)
	}
}
