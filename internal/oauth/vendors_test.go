package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

// The vendors of the API, CredentialProviderVendorType.
var vendorNames = []string{
	"AtlassianOauth2", "Auth0Oauth2", "CognitoOauth2", "CustomOauth2", "CyberArkOauth2", "DropboxOauth2", "FacebookOauth2", "FusionAuthOauth2", "GithubOauth2",
	"GoogleOauth2", "HubspotOauth2", "LinkedinOauth2", "MicrosoftOauth2", "NotionOauth2", "OktaOauth2", "OneLoginOauth2", "PingOneOauth2", "RedditOauth2",
	"SalesforceOauth2", "SlackOauth2", "SpotifyOauth2", "TwitchOauth2", "XOauth2", "YandexOauth2", "ZoomOauth2",
}

func TestVendorTable(t *testing.T) {
	t.Parallel()
	var names []string
	for _, v := range Vendors() {
		names = append(names, v.Name)
		if v.Title == "" || v.ScopeSeparator == "" || !strings.HasPrefix(v.Source, "https://") {
			t.Errorf("row %s: %+v", v.Name, v)
		}
		if v.DiscoveryURL != "" {
			if issuer, err := impliedIssuer(v.DiscoveryURL); err != nil || issuer != v.Metadata.Issuer {
				t.Errorf("row %s: discovery URL implies issuer %q, %v", v.Name, issuer, err)
			}
		}
		m, err := v.ForTenant("")
		if err != nil {
			t.Errorf("row %s: %v", v.Name, err)
		}
		prefilled := m.Issuer != "" && m.AuthorizationEndpoint != "" && m.TokenEndpoint != ""
		if want := !v.Tenanted && v.Name != customVendor; prefilled != want {
			t.Errorf("row %s: prefilled %v, want %v", v.Name, prefilled, want)
		}
		for _, endpoint := range []string{m.AuthorizationEndpoint, m.TokenEndpoint, m.RevocationEndpoint} {
			if u, err := url.Parse(endpoint); endpoint != "" && (err != nil || u.Scheme != "https" || u.RawQuery != "" || strings.ContainsAny(endpoint, "{}")) {
				t.Errorf("row %s: endpoint %s", v.Name, endpoint)
			}
		}
		if v.Revokes != "" && m.RevocationEndpoint == "" {
			t.Errorf("row %s revokes %s nowhere", v.Name, v.Revokes)
		}
		for name := range v.AuthorizationParameters {
			if ReservedParameter(name) {
				t.Errorf("row %s: parameter %s would be left out", v.Name, name)
			}
		}
		for _, code := range v.Quirks.PassingCodes {
			if slices.Contains(v.Quirks.GoneCodes, code) {
				t.Errorf("row %s: %s is both gone and passing", v.Name, code)
			}
		}
	}
	if diff := cmp.Diff(vendorNames, names); diff != "" {
		t.Error(diff)
	}
	if _, ok := VendorOf("googleoauth2"); ok {
		t.Error("names are matched loosely")
	}
}

// played is one vendor's token endpoint as its documentation describes it.
type played struct {
	// What the vendor expects of the requests. The default is a form with a verifier.
	method    AuthMethod
	noPKCE    bool
	json      bool
	header    [2]string
	authorize map[string]string // of the authorization URL, for the scopes one and two
	// Its answers to a code, to a refresh token, and to one that is gone.
	code, refresh, gone string
	goneStatus          int
	contentType         string
	// What is to come of it.
	scopes     []string
	noRefresh  bool
	endless    bool // the answer has no lifetime
	revokes    string
	parameter  string // of the revocation, if not token
	revokeBody string // answer to a token that is gone already, status 400
}

var standardAnswer = `{"access_token":"canary-access-token","token_type":"Bearer","expires_in":3600,"refresh_token":"canary-refresh-token","scope":"one two"}`

var vendorPlays = map[string]played{
	"GoogleOauth2": {
		method: AuthSecretPost, authorize: map[string]string{"access_type": "offline", "prompt": "consent", "scope": "one two"},
		code:    `{"access_token":"canary-access-token","expires_in":3599,"refresh_token":"canary-refresh-token","scope":"one two","token_type":"Bearer"}`,
		refresh: `{"access_token":"canary-access-token","expires_in":3599,"scope":"one two","token_type":"Bearer"}`,
		gone:    `{"error":"invalid_grant","error_description":"Token has been expired or revoked."}`,
		scopes:  []string{"one", "two"}, revokes: "any", revokeBody: `{"error":"invalid_token","error_description":"Token expired or revoked"}`,
	},
	"GithubOauth2": { // a form, in spite of Accept
		method: AuthSecretPost, authorize: map[string]string{"scope": "one two"}, contentType: "application/x-www-form-urlencoded; charset=utf-8",
		code:    "access_token=canary-access-token&expires_in=28800&refresh_token=canary-refresh-token&refresh_token_expires_in=15811200&scope=one%2Ctwo&token_type=bearer",
		refresh: "access_token=canary-access-token&expires_in=28800&refresh_token=canary-refresh-token&scope=&token_type=bearer",
		gone:    "error=bad_refresh_token&error_description=The+refresh+token+passed+is+incorrect+or+expired.", goneStatus: 200,
		scopes: []string{"one", "two"},
	},
	"SlackOauth2": {
		method: AuthSecretBasic, authorize: map[string]string{"scope": "one,two"}, noPKCE: true,
		code:    `{"ok":true,"app_id":"A1","authed_user":{"id":"U1","scope":"one,two","access_token":"canary-access-token","token_type":"user","expires_in":43200,"refresh_token":"canary-refresh-token"},"team":{"id":"T1"}}`,
		refresh: `{"ok":true,"access_token":"canary-access-token","expires_in":43200,"refresh_token":"canary-refresh-token","token_type":"user","scope":"one,two"}`,
		gone:    `{"ok":false,"error":"invalid_refresh_token"}`, goneStatus: 200, scopes: []string{"one", "two"},
	},
	"SalesforceOauth2": {
		method: AuthSecretPost, authorize: map[string]string{"scope": "one two"}, endless: true,
		code:    `{"access_token":"canary-access-token","refresh_token":"canary-refresh-token","signature":"s","scope":"one two","id_token":"i","instance_url":"https://x.my.salesforce.com","id":"https://login.salesforce.com/id/0","token_type":"Bearer","issued_at":"1"}`,
		refresh: `{"access_token":"canary-access-token","instance_url":"https://x.my.salesforce.com","token_type":"Bearer"}`,
		gone:    `{"error":"invalid_grant","error_description":"expired access/refresh token"}`, scopes: []string{"one", "two"},
		revokes: "any", revokeBody: `{"error":"invalid_token","error_description":"invalid token"}`,
	},
	"MicrosoftOauth2": {
		method: AuthSecretPost, authorize: map[string]string{"scope": "one two"}, code: standardAnswer, refresh: standardAnswer,
		gone: `{"error":"invalid_grant","error_description":"AADSTS70008: expired","error_codes":[70008]}`, scopes: []string{"one", "two"},
	},
	"AtlassianOauth2": {
		method: AuthSecretPost, authorize: map[string]string{"scope": "one two", "audience": "api.atlassian.com", "prompt": "consent"},
		code: standardAnswer, refresh: standardAnswer,
		gone: `{"error":"unauthorized_client","error_description":"refresh_token is invalid"}`, goneStatus: 403, scopes: []string{"one", "two"},
	},
	"LinkedinOauth2": {
		method: AuthSecretPost, authorize: map[string]string{"scope": "one two"}, noPKCE: true,
		code:    `{"access_token":"canary-access-token","expires_in":5184000,"refresh_token":"canary-refresh-token","refresh_token_expires_in":31536000,"scope":"one,two"}`,
		refresh: `{"access_token":"canary-access-token","expires_in":5184000,"refresh_token":"canary-refresh-token","refresh_token_expires_in":439200}`,
		gone:    `{"error":"invalid_grant","error_description":"The provided authorization grant or refresh token is invalid, expired or revoked."}`, scopes: []string{"one", "two"},
	},
	"XOauth2": {
		method: AuthSecretBasic, authorize: map[string]string{"scope": "one two"}, code: standardAnswer, refresh: standardAnswer,
		gone: `{"error":"invalid_request","error_description":"Value passed for the token was invalid."}`, scopes: []string{"one", "two"},
		revokes: "any", revokeBody: `{"error":"invalid_request","error_description":"Value passed for the token was invalid."}`,
	},
	"FacebookOauth2": {
		method: AuthSecretPost, authorize: map[string]string{"scope": "one,two"}, noPKCE: true, noRefresh: true,
		code: `{"access_token":"canary-access-token","token_type":"bearer","expires_in":5183944}`,
		gone: `{"error":{"message":"This authorization code has been used.","type":"OAuthException","code":100,"error_subcode":36009,"fbtrace_id":"x"}}`,
	},
	"YandexOauth2": {
		method: AuthSecretBasic, authorize: map[string]string{"scope": "one two"},
		code:    `{"token_type":"bearer","access_token":"canary-access-token","expires_in":124234123534,"refresh_token":"canary-refresh-token","scope":"one two"}`,
		refresh: standardAnswer, gone: `{"error":"invalid_grant","error_description":"expired_token"}`, scopes: []string{"one", "two"},
		revokes: HintAccessToken, parameter: "access_token", revokeBody: `{"error":"invalid_grant"}`,
	},
	"RedditOauth2": {
		method: AuthSecretBasic, authorize: map[string]string{"scope": "one two", "duration": "permanent"}, header: [2]string{"User-Agent", "server:onbehalf:v1"},
		code: standardAnswer, refresh: standardAnswer, gone: `{"message":"Bad Request","error":400}`, scopes: []string{"one", "two"}, revokes: "any",
	},
	"ZoomOauth2": {
		method: AuthSecretBasic, authorize: map[string]string{"scope": "one two"}, code: standardAnswer, refresh: standardAnswer,
		gone: `{"reason":"Invalid Token!","error":"invalid_request"}`, scopes: []string{"one", "two"}, revokes: HintAccessToken,
	},
	"TwitchOauth2": { // a list of scopes
		method: AuthSecretPost, authorize: map[string]string{"scope": "one two"},
		code:    `{"access_token":"canary-access-token","expires_in":14124,"refresh_token":"canary-refresh-token","scope":["one","two"],"token_type":"bearer"}`,
		refresh: `{"access_token":"canary-access-token","refresh_token":"canary-refresh-token","scope":["one","two"],"token_type":"bearer"}`,
		gone:    `{"error":"Bad Request","status":400,"message":"Invalid refresh token"}`, scopes: []string{"one", "two"},
		revokes: HintAccessToken, revokeBody: `{"status":400,"message":"Invalid token"}`,
	},
	"SpotifyOauth2": {
		method: AuthSecretBasic, authorize: map[string]string{"scope": "one two"}, code: standardAnswer,
		refresh: `{"access_token":"canary-access-token","token_type":"Bearer","scope":"one two","expires_in":3600}`,
		gone:    `{"error":"invalid_grant","error_description":"Refresh token revoked"}`, scopes: []string{"one", "two"},
	},
	"DropboxOauth2": {
		method: AuthSecretPost, authorize: map[string]string{"scope": "one two", "token_access_type": "offline"},
		code:    `{"uid":"1","access_token":"canary-access-token","expires_in":14400,"token_type":"bearer","scope":"one two","refresh_token":"canary-refresh-token","account_id":"dbid:A"}`,
		refresh: `{"access_token":"canary-access-token","expires_in":14400,"token_type":"bearer"}`,
		gone:    `{"error_description":"refresh token is invalid or revoked","error":"invalid_grant"}`, scopes: []string{"one", "two"},
	},
	"NotionOauth2": {
		method: AuthSecretBasic, authorize: map[string]string{"owner": "user"}, json: true, header: [2]string{"Notion-Version", "2022-06-28"}, endless: true,
		code:    `{"access_token":"canary-access-token","token_type":"bearer","refresh_token":"canary-refresh-token","bot_id":"b","workspace_id":"w","owner":{"type":"user"},"duplicated_template_id":null}`,
		refresh: `{"access_token":"canary-access-token","refresh_token":"canary-refresh-token","bot_id":"b","workspace_id":"w"}`,
		gone:    `{"error":"invalid_grant","request_id":"r"}`, revokes: HintAccessToken,
	},
	"HubspotOauth2": {
		method: AuthSecretPost, authorize: map[string]string{"scope": "one two"},
		code:    `{"token_type":"bearer","refresh_token":"canary-refresh-token","access_token":"canary-access-token","hub_id":1,"scopes":["one","two"],"expires_in":1800}`,
		refresh: `{"token_type":"bearer","refresh_token":"canary-refresh-token","access_token":"canary-access-token","expires_in":1800}`,
		gone:    `{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid refresh token","correlationId":"c"}`, revokes: HintRefreshToken,
	},
	"Auth0Oauth2": {
		method: AuthSecretPost, authorize: map[string]string{"scope": "one two"}, code: standardAnswer, refresh: standardAnswer,
		gone: `{"error":"invalid_grant","error_description":"Unknown or invalid refresh token."}`, goneStatus: 403, scopes: []string{"one", "two"},
	},
	"CognitoOauth2": {
		method: AuthSecretBasic, authorize: map[string]string{"scope": "one two"},
		code:    `{"access_token":"canary-access-token","id_token":"i","refresh_token":"canary-refresh-token","token_type":"Bearer","expires_in":3600}`,
		refresh: `{"access_token":"canary-access-token","id_token":"i","token_type":"Bearer","expires_in":3600}`, gone: `{"error":"invalid_grant"}`,
	},
}

// Each vendor's token endpoint is played with its ways: what it expects is
// checked, what it answers must come out the same for all.
func TestEachVendorsTokenEndpoint(t *testing.T) {
	t.Parallel()
	for _, name := range vendorNames {
		play, ok := vendorPlays[name]
		if !ok { // no ways of their own
			play = played{
				method: AuthSecretBasic, authorize: map[string]string{"scope": "one two"}, code: standardAnswer, refresh: standardAnswer,
				gone: `{"error":"invalid_grant","error_description":"The refresh token is invalid or expired."}`, scopes: []string{"one", "two"},
			}
		}
		t.Run(name, func(t *testing.T) { t.Parallel(); play.run(t, name) })
	}
}

func (play played) run(t *testing.T, name string) {
	p := newProvider(t)
	c := p.client()
	row, _ := VendorOf(name)
	s := p.server("")
	s.Vendor, s.ClientID = name, "client-1"
	if row.Metadata.RevocationEndpoint != "" {
		s.Metadata.RevocationEndpoint = p.URL + "/revoke"
	}

	link, err := AuthorizationURL(s, Authorization{State: "st", Verifier: NewVerifier(), Scopes: strings.Split(play.authorize["scope"], row.ScopeSeparator)})
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(link)
	for name, value := range play.authorize {
		if got := u.Query()[name]; !slices.Equal(got, []string{value}) {
			t.Errorf("%s=%q in the authorization URL, want %q", name, got, value)
		}
	}
	if u.Query().Has("code_challenge") == play.noPKCE {
		t.Errorf("challenge in %s", link)
	}

	answer, status := play.code, 200
	var sent url.Values
	p.answer = func(w http.ResponseWriter, r *http.Request) bool {
		sent = play.expect(t, r)
		w.Header().Set("Content-Type", first(play.contentType, "application/json"))
		w.WriteHeader(status)
		io.WriteString(w, answer)
		return true
	}
	check := func(token Token, err error, refresh bool) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if token.Access.Reveal() != canaryAccess || token.Refresh.Empty() != (play.noRefresh || !strings.Contains(answer, canaryRefresh)) {
			t.Errorf("tokens of %s", answer)
		}
		if token.Expiry.IsZero() != (play.endless || !strings.Contains(answer, "expires_in")) {
			t.Errorf("expires at %v", token.Expiry)
		}
		if !refresh && !cmp.Equal(token.Scopes, play.scopes) {
			t.Errorf("scopes %q, want %q", token.Scopes, play.scopes)
		}
	}

	verifier := NewVerifier()
	token, err := c.Exchange(t.Context(), s, secret.New(canaryCode), verifier, Authorization{})
	check(token, err, false)
	if sent.Get("grant_type") != "authorization_code" || sent.Get("code") != canaryCode || sent.Get("redirect_uri") != s.RedirectURL {
		t.Errorf("sent %v", sent)
	}
	if want := map[bool]string{false: verifier.Reveal(), true: ""}[play.noPKCE]; sent.Get("code_verifier") != want || sent.Has("code_verifier") == play.noPKCE {
		t.Errorf("code_verifier %q", sent["code_verifier"])
	}

	if play.noRefresh {
		_, err = c.Refresh(t.Context(), s, secret.New(canaryRefresh), nil, nil)
		wantFault(t, err, fault.Invalid, "no refresh tokens")
		answer, status = play.gone, 400
		_, err = c.Exchange(t.Context(), s, secret.New(canaryCode), verifier, Authorization{})
		wantFault(t, err, fault.Upstream, "status 400")
	} else {
		answer = play.refresh
		token, err = c.Refresh(t.Context(), s, secret.New(canaryRefresh), nil, nil)
		check(token, err, true)
		if sent.Get("grant_type") != "refresh_token" || sent.Get("refresh_token") != canaryRefresh {
			t.Errorf("sent %v", sent)
		}
		answer, status = play.gone, 400
		if play.goneStatus != 0 {
			status = play.goneStatus
		}
		_, err = c.Refresh(t.Context(), s, secret.New(canaryRefresh), nil, nil)
		wantFault(t, err, fault.Upstream, "invalid_grant")
		var problem *Error
		if !errors.As(err, &problem) || problem.Code != "invalid_grant" || problem.Transient {
			t.Errorf("a refresh token that is gone: %+v", problem)
		}
	}
	if posts := p.tokenPosts.Load(); posts != 3 && !play.noRefresh || posts != 2 && play.noRefresh {
		t.Errorf("%d posts", posts)
	}
	play.revocation(t, p, c, s, &answer, &status, &sent)
}

// expect checks a request against what the vendor documents and gives its parameters.
func (play played) expect(t *testing.T, r *http.Request) url.Values {
	form := url.Values{}
	if play.json {
		var object map[string]string
		if err := json.NewDecoder(r.Body).Decode(&object); err != nil || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("not a JSON object of strings: %v, %s", err, r.Header.Get("Content-Type"))
		}
		for name, value := range object {
			form.Set(name, value)
		}
	} else {
		r.ParseForm()
		form = r.PostForm
		if r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			t.Errorf("content type %s", r.Header.Get("Content-Type"))
		}
	}
	id, password, basic := r.BasicAuth()
	if basic {
		password, _ = url.QueryUnescape(password)
	} else {
		id, password = form.Get("client_id"), form.Get("client_secret")
	}
	if id != "client-1" || password != canarySecret || basic != (play.method == AuthSecretBasic) || basic && form.Has("client_secret") {
		t.Errorf("client authentication: basic %v, form %v", basic, form)
	}
	if r.Header.Get("Accept") != "application/json" || r.Header.Get("User-Agent") == "" {
		t.Errorf("headers %v", r.Header)
	}
	if play.header[0] != "" && r.Header.Get(play.header[0]) != play.header[1] {
		t.Errorf("%s is %q", play.header[0], r.Header.Get(play.header[0]))
	}
	return form
}

func (play played) revocation(t *testing.T, p *provider, c *Client, s Server, answer *string, status *int, sent *url.Values) {
	hint, other := HintRefreshToken, ""
	switch play.revokes {
	case HintAccessToken:
		hint, other = HintAccessToken, HintRefreshToken
	case HintRefreshToken:
		other = HintAccessToken
	}
	p.tokenPosts.Store(0)
	*answer, *status = "", 200
	err := c.Revoke(t.Context(), s, secret.New(canaryRefresh), hint)
	if play.revokes == "" {
		if !errors.Is(err, ErrNoRevocation) || p.tokenPosts.Load() != 0 {
			t.Errorf("revoked: %v", err)
		}
		return
	}
	if err != nil || p.tokenPosts.Load() != 1 || sent.Get(first(play.parameter, "token")) != canaryRefresh || sent.Has("grant_type") {
		t.Errorf("revoke: %v, sent %v", err, *sent)
	}
	if play.json == sent.Has("token_type_hint") {
		t.Errorf("hint: %v", *sent)
	}
	if other != "" {
		if err := c.Revoke(t.Context(), s, secret.New(canaryRefresh), other); !errors.Is(err, ErrNoRevocation) || p.tokenPosts.Load() != 1 {
			t.Errorf("revoked a token of the other kind: %v", err)
		}
	}
	if play.revokeBody != "" {
		*answer, *status = play.revokeBody, 400
		if err := c.Revoke(t.Context(), s, secret.New(canaryRefresh), hint); err != nil {
			t.Errorf("revoked already: %v", err)
		}
	}
}

func TestQuirksOfAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		vendor, body string
		status       int
		header       string
		access       string
		scopes       []string
		want         Error
	}{
		"Slack, bot":             {vendor: "SlackOauth2", body: `{"ok":true,"access_token":"bot","scope":"a,b","authed_user":{"id":"U","access_token":"user","scope":"c"}}`, access: "bot", scopes: []string{"a", "b"}},
		"Slack, user":            {vendor: "SlackOauth2", body: `{"ok":true,"authed_user":{"id":"U","access_token":"user","scope":"c"}}`, access: "user", scopes: []string{"c"}},
		"Slack, nobody":          {vendor: "SlackOauth2", body: `{"ok":true,"authed_user":{"id":"U"}}`, want: Error{Status: 200}},
		"Slack, odd user":        {vendor: "SlackOauth2", body: `{"ok":true,"authed_user":["x"]}`, want: Error{Status: 200}},
		"Slack, null user":       {vendor: "SlackOauth2", body: `{"ok":true,"authed_user":null}`, want: Error{Status: 200}},
		"Slack, refused":         {vendor: "SlackOauth2", body: `{"ok":false,"error":"bad_client_secret","access_token":"t"}`, want: Error{Status: 200, Code: "bad_client_secret"}},
		"Slack, later":           {vendor: "SlackOauth2", body: `{"ok":false,"error":"ratelimited"}`, header: "9", want: Error{Status: 200, Code: "ratelimited", Transient: true, RetryAfter: 9e9}},
		"nested, other vendor":   {vendor: "CustomOauth2", body: `{"authed_user":{"access_token":"user"}}`, want: Error{Status: 200}},
		"GitHub, JSON":           {vendor: "GithubOauth2", body: `{"access_token":"t","scope":"a,b","token_type":"bearer"}`, access: "t", scopes: []string{"a", "b"}},
		"comma, other vendor":    {vendor: "GoogleOauth2", body: `{"access_token":"t","scope":"a,b c"}`, access: "t", scopes: []string{"a,b", "c"}},
		"Facebook, later":        {vendor: "FacebookOauth2", status: 400, body: `{"error":{"message":"An unknown error has occurred.","type":"OAuthException","code":1,"is_transient":true}}`, want: Error{Status: 400, Transient: true, Description: "An unknown error has occurred."}},
		"gone, with status 500":  {vendor: "TwitchOauth2", status: 500, body: `{"message":"Invalid refresh token"}`, want: Error{Status: 500, Transient: true, Description: "Invalid refresh token"}},
		"gone, of another":       {vendor: "GoogleOauth2", status: 400, body: `{"message":"Invalid refresh token"}`, want: Error{Status: 400, Description: "Invalid refresh token"}},
		"a form that is not one": {vendor: "GithubOauth2", body: `%%%`, header: "form", want: Error{Status: 200, Transient: true}},
		"an empty form":          {vendor: "GithubOauth2", body: ``, header: "form", want: Error{Status: 200, Transient: true}},
	} {
		row, _ := VendorOf(test.vendor)
		a := answerOf(test.status, test.body, answer{}.started)
		if a.vendor = row; test.status == 0 {
			a.status = 200
		}
		a.header.Set("Retry-After", test.header)
		if test.header == "form" {
			a.header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		token, problem := a.token()
		if token.Access.Reveal() != test.access || !cmp.Equal(token.Scopes, test.scopes) || (problem == nil) != (test.access != "") {
			t.Errorf("%s: %q, %v, %v", name, token.Access.Reveal(), token.Scopes, problem)
		}
		if problem != nil {
			got := fmt.Sprint(problem.Status, problem.Code, problem.Transient, problem.RetryAfter, problem.Description)
			if want := fmt.Sprint(test.want.Status, test.want.Code, test.want.Transient, test.want.RetryAfter, test.want.Description); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
	}
}

func TestTenants(t *testing.T) {
	t.Parallel()
	const id = "72F988bf-86f1-41af-91ab-2d7cd011db47"
	microsoft, _ := VendorOf("MicrosoftOauth2")
	for tenant, want := range map[string][2]string{
		"":                        {"common", "{tenantid}"},
		"organizations":           {"organizations", "{tenantid}"},
		"contoso.onmicrosoft.com": {"contoso.onmicrosoft.com", "{tenantid}"},
		id:                        {id, strings.ToLower(id)},
	} {
		m, err := microsoft.ForTenant(tenant)
		if err != nil || m.TokenEndpoint != "https://login.microsoftonline.com/"+want[0]+"/oauth2/v2.0/token" ||
			m.AuthorizationEndpoint != "https://login.microsoftonline.com/"+want[0]+"/oauth2/v2.0/authorize" ||
			m.Issuer != "https://login.microsoftonline.com/"+want[1]+"/v2.0" {
			t.Errorf("tenant %q: %+v, %v", tenant, m, err)
		}
	}
	for _, tenant := range []string{"../evil", "a/b", "a?b", "a#b", "a b", "a%2fb", "@evil.example", "{tenant}", ".", "-a", "a.", strings.Repeat("a", 300), "a\n"} {
		if _, err := microsoft.ForTenant(tenant); !fault.Is(err, fault.Invalid) {
			t.Errorf("tenant %q: %v", tenant, err)
		}
	}
	google, _ := VendorOf("GoogleOauth2")
	if _, err := google.ForTenant("x"); !fault.Is(err, fault.Invalid) {
		t.Errorf("a tenant of Google: %v", err)
	}
	if again, _ := VendorOf("MicrosoftOauth2"); !strings.Contains(again.Metadata.TokenEndpoint, tenantOfEndpoint) {
		t.Error("the table was changed")
	}

	common, _ := microsoft.ForTenant("")
	for iss, ok := range map[string]bool{
		"https://login.microsoftonline.com/" + id + "/v2.0":                     true,
		"https://login.microsoftonline.com/{tenantid}/v2.0":                     false,
		"https://login.microsoftonline.com/" + id + "/v1.0":                     false,
		"https://login.microsoftonline.com/x/v2.0":                              false,
		"https://login.microsoftonline.com//v2.0":                               false,
		"https://login.microsoftonline.com/v2.0":                                false,
		"https://evil.example/" + id + "/v2.0":                                  false,
		"https://login.microsoftonline.com/" + id + "/../" + id + "/v2.0":       false,
		"https://login.microsoftonline.com/" + id + "/v2.0/https://e/" + "v2.0": false,
	} {
		if err := CheckResponseIssuer(common, iss); (err == nil) != ok {
			t.Errorf("issuer %s: %v", iss, err)
		}
	}
}

func TestPresetsGiveWayToTheRequest(t *testing.T) {
	t.Parallel()
	s := googleServer()
	s.Vendor = "AtlassianOauth2"
	link, err := AuthorizationURL(s, Authorization{State: "st", Verifier: NewVerifier(), Audiences: []string{"other"}, Parameters: map[string]string{"prompt": "login"}})
	u, _ := url.Parse(link)
	if err != nil || !slices.Equal(u.Query()["audience"], []string{"other"}) || !slices.Equal(u.Query()["prompt"], []string{"login"}) {
		t.Errorf("%s, %v", link, err)
	}
}

// A vendor that refuses PKCE beside a secret gets it from a client that has none.
func TestPublicClientsAlwaysHavePKCE(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	sent := recording(p, 200, `{"access_token":"t"}`)
	verifier := NewVerifier()
	for _, name := range vendorNames {
		s := p.server(AuthNone)
		s.Vendor = name
		link, err := AuthorizationURL(s, Authorization{State: "st", Verifier: verifier})
		if err != nil || !strings.Contains(link, "code_challenge="+Challenge(verifier)) {
			t.Errorf("%s: %s, %v", name, link, err)
		}
	}
	s := p.server(AuthNone)
	s.Vendor = "SlackOauth2"
	if _, err := p.client().Exchange(t.Context(), s, secret.New(canaryCode), verifier, Authorization{}); err != nil || sent.Get("code_verifier") != verifier.Reveal() {
		t.Errorf("%v, %v", *sent, err)
	}
}
