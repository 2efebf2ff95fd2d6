package servertest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcore"
	data "github.com/aws/aws-sdk-go-v2/service/bedrockagentcore/types"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	control "github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"
	"github.com/aws/smithy-go"
	"pgregory.net/rapid"

	"github.com/onbehalf/onbehalf/client"
	"github.com/onbehalf/onbehalf/internal/demoidp"
)

// place is where something is stored: the same names are in use everywhere.
type place struct {
	tenant   int
	workload string
	user     string
	provider string
}

// row is a credential provider of an account as the mint knows it.
type row struct{ client, secret string }

// asked is a session that is open, and who has been at its link.
type asked struct {
	at      place
	uri     string
	link    string
	arrived string // session_id of the return URL
	person  string // whom the mint's code is for
	done    bool
	spoiled bool // somebody else tried to complete it
}

// model is what there is to be, by what was answered so far.
type model struct {
	*house
	t         *rapid.T
	names     string
	workloads map[int]map[string]bool
	providers map[int]map[string]*row
	keys      map[int]map[string]string
	grants    map[place]string // person
	sessions  []*asked
	count     int
}

const isolationReturn = "http://localhost:9090/back"

func newModel(h *house, t *rapid.T, sequence int) *model {
	return &model{
		house: h, t: t, names: fmt.Sprintf("s%d", sequence), workloads: map[int]map[string]bool{0: {}, 1: {}}, providers: map[int]map[string]*row{0: {}, 1: {}},
		keys: map[int]map[string]string{0: {}, 1: {}}, grants: map[place]string{},
	}
}

func (m *model) name(short string) string { return m.names + "-" + short }

// users are two by id and two by a JWT, of whom one has the other kind's name.
var isolationUsers = []string{"id:" + demoidp.Ada, "id:somebody", "jwt:" + demoidp.Ada, "jwt:" + demoidp.Grace}

func (m *model) anyTenant() int { return rapid.IntRange(0, 1).Draw(m.t, "account") }
func (m *model) anyWorkload() string {
	return rapid.SampledFrom([]string{"w1", "w2"}).Draw(m.t, "workload")
}
func (m *model) anyProvider() string {
	return rapid.SampledFrom([]string{"p1", "p2"}).Draw(m.t, "provider")
}

func (m *model) anyPlace() place {
	return place{m.anyTenant(), m.anyWorkload(), rapid.SampledFrom(isolationUsers).Draw(m.t, "user"), m.anyProvider()}
}

func (m *model) fresh(what string) string {
	m.count++
	return fmt.Sprintf("%s-%s-%d", what, m.names, m.count)
}

func (m *model) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// refusal wants an error of the API that is the caller's.
func (m *model) refusal(what string, err error) {
	m.t.Helper()
	var known smithy.APIError
	if !errors.As(err, &known) || known.ErrorCode() == "InternalServerException" {
		m.t.Fatalf("%s: want a refusal, got %v", what, err)
	}
}

func (m *model) prepare() {
	for tenant := range 2 {
		for _, w := range []string{"w1", "w2"} {
			m.makeWorkload(tenant, w)
		}
		for _, p := range []string{"p1", "p2"} {
			m.makeProvider(tenant, p)
		}
		m.keys[tenant]["k1"] = m.fresh("key")
		_, err := m.accounts[tenant].control.CreateApiKeyCredentialProvider(context.Background(), &bedrockagentcorecontrol.CreateApiKeyCredentialProviderInput{Name: aws.String(m.name("k1")), ApiKey: aws.String(m.keys[tenant]["k1"])})
		m.must(err)
	}
}

func (m *model) makeWorkload(tenant int, name string) {
	_, err := m.accounts[tenant].control.CreateWorkloadIdentity(context.Background(), &bedrockagentcorecontrol.CreateWorkloadIdentityInput{Name: aws.String(m.name(name)), AllowedResourceOauth2ReturnUrls: []string{isolationReturn}})
	m.must(err)
	m.workloads[tenant][name] = true
}

func (m *model) config(r *row) control.Oauth2ProviderConfigInput {
	m.mint.client(r.client, r.secret)
	return &control.Oauth2ProviderConfigInputMemberCustomOauth2ProviderConfig{Value: control.CustomOauth2ProviderConfigInput{
		ClientId: aws.String(r.client), ClientSecret: aws.String(r.secret),
		OauthDiscovery: &control.Oauth2DiscoveryMemberAuthorizationServerMetadata{Value: control.Oauth2AuthorizationServerMetadata{
			Issuer: aws.String(m.mint.url), AuthorizationEndpoint: aws.String(m.mint.url + "/authorize"), TokenEndpoint: aws.String(m.mint.url + "/token"),
		}},
	}}
}

func (m *model) makeProvider(tenant int, name string) {
	r := &row{m.fresh("client"), m.fresh("secret")}
	_, err := m.accounts[tenant].control.CreateOauth2CredentialProvider(context.Background(), &bedrockagentcorecontrol.CreateOauth2CredentialProviderInput{
		Name: aws.String(m.name(name)), CredentialProviderVendor: "CustomOauth2", Oauth2ProviderConfigInput: m.config(r),
	})
	m.must(err)
	m.providers[tenant][name] = r
}

func (m *model) update(tenant int, name string, r *row) {
	_, err := m.accounts[tenant].control.UpdateOauth2CredentialProvider(context.Background(), &bedrockagentcorecontrol.UpdateOauth2CredentialProviderInput{
		Name: aws.String(m.name(name)), CredentialProviderVendor: "CustomOauth2", Oauth2ProviderConfigInput: m.config(r),
	})
	m.must(err)
	m.providers[tenant][name] = r
}

// speak is a workload access token.
func (m *model) speak(tenant int, workload, user string) string {
	m.t.Helper()
	c, name := m.accounts[tenant].data, aws.String(m.name(workload))
	kind, id, _ := strings.Cut(user, ":")
	if kind == "id" {
		out, err := c.GetWorkloadAccessTokenForUserId(context.Background(), &bedrockagentcore.GetWorkloadAccessTokenForUserIdInput{WorkloadName: name, UserId: &id})
		m.must(err)
		return *out.WorkloadAccessToken
	}
	out, err := c.GetWorkloadAccessTokenForJWT(context.Background(), &bedrockagentcore.GetWorkloadAccessTokenForJWTInput{WorkloadName: name, UserToken: aws.String(m.jwt[id])})
	m.must(err)
	return *out.WorkloadAccessToken
}

func (m *model) identifier(user string) data.UserIdentifier {
	kind, id, _ := strings.Cut(user, ":")
	if kind == "id" {
		return &data.UserIdentifierMemberUserId{Value: id}
	}
	return &data.UserIdentifierMemberUserToken{Value: m.jwt[id]}
}

func (m *model) token(at place, force bool) (*bedrockagentcore.GetResourceOauth2TokenOutput, error) {
	m.t.Helper()
	token := m.speak(at.tenant, at.workload, at.user)
	return m.accounts[at.tenant].data.GetResourceOauth2Token(context.Background(), &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken: &token, ResourceCredentialProviderName: aws.String(m.name(at.provider)), Scopes: []string{"read"},
		Oauth2Flow: data.Oauth2FlowTypeUserFederation, ResourceOauth2ReturnUrl: aws.String(isolationReturn), ForceAuthentication: &force,
	})
}

// look asks for the token of a place and compares the answer with the model.
func (m *model) look(at place) {
	m.t.Helper()
	out, err := m.token(at, false)
	m.must(err)
	person, granted := m.grants[at]
	switch {
	case granted && out.AccessToken == nil:
		m.t.Fatalf("%+v was granted, and the user is asked again", at)
	case granted:
		if kind, client, whose := tokenOf(*out.AccessToken); kind != "user" || client != m.providers[at.tenant][at.provider].client || whose != person {
			m.t.Fatalf("%+v was granted as %s and is given %s", at, person, *out.AccessToken)
		}
	case out.AccessToken != nil:
		m.t.Fatalf("%+v was never granted and is given %s", at, *out.AccessToken)
	default:
		m.remember(at, out)
	}
}

func (m *model) remember(at place, out *bedrockagentcore.GetResourceOauth2TokenOutput) *asked {
	m.t.Helper()
	if out.AuthorizationUrl == nil || out.SessionUri == nil {
		m.t.Fatalf("%+v: neither token nor link", at)
	}
	for _, s := range m.sessions {
		if s.uri == *out.SessionUri {
			if s.at != at {
				m.t.Fatalf("%+v and %+v are given one session", s.at, at)
			}
			return s
		}
	}
	s := &asked{at: at, uri: *out.SessionUri, link: *out.AuthorizationUrl}
	m.sessions = append(m.sessions, s)
	return s
}

func (m *model) ask(*rapid.T) { m.look(m.anyPlace()) }

// visit is somebody with a fresh browser at a link.
func (m *model) visit(s *asked) error {
	jar, _ := cookiejar.New(nil) // never fails without options
	person := m.fresh("person")
	browser := &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	next := s.link
	for range 6 {
		r, err := http.NewRequest(http.MethodGet, next, nil)
		if err != nil {
			return err
		}
		r.Header.Set(personHeader, person)
		response, err := browser.Do(r)
		if err != nil {
			return err
		}
		_ = response.Body.Close()
		to, err := response.Location()
		if err != nil {
			return fmt.Errorf("status %d at %s", response.StatusCode, r.URL.Path)
		}
		if strings.HasPrefix(to.String(), isolationReturn) {
			arrived, _ := url.Parse(to.String())
			if s.arrived = arrived.Query().Get("session_id"); s.arrived == "" {
				return errors.New("no session_id")
			}
			s.person = person
			return nil
		}
		next = to.String()
	}
	return errors.New("more than six redirects")
}

func (m *model) complete(tenant int, s *asked, user string) error {
	_, err := m.accounts[tenant].data.CompleteResourceTokenAuth(context.Background(), &bedrockagentcore.CompleteResourceTokenAuthInput{SessionUri: &s.arrived, UserIdentifier: m.identifier(user)})
	return err
}

// consent asks, goes through the link, and completes as who asked.
func (m *model) consent(*rapid.T) { m.grant(m.anyPlace(), false) }

func (m *model) force(*rapid.T) { m.grant(m.anyPlace(), true) }

func (m *model) grant(at place, force bool) {
	m.t.Helper()
	out, err := m.token(at, force)
	m.must(err)
	if out.AccessToken != nil {
		if _, granted := m.grants[at]; !granted || force {
			m.t.Fatalf("%+v: a token, granted %t, forced %t", at, granted, force)
		}
		return
	}
	s := m.remember(at, out)
	if s.done {
		m.t.Fatalf("%+v is given a session that is over", at)
	}
	if err := m.visit(s); err != nil {
		if s.spoiled || s.arrived != "" {
			return // somebody else was there before, or the link was used
		}
		m.t.Fatalf("%+v: %v", at, err)
	}
	if err := m.complete(at.tenant, s, at.user); err != nil {
		if s.spoiled {
			return
		}
		m.t.Fatalf("%+v: %v", at, err)
	}
	s.done = true
	m.grants[at] = s.person
	m.look(at)
}

// completeForAnother brings a session that somebody came back from to somebody
// else: another user, or the same name in another account.
func (m *model) completeForAnother(t *rapid.T) {
	at := m.anyPlace()
	if _, granted := m.grants[at]; granted {
		return
	}
	out, err := m.token(at, false)
	m.must(err)
	s := m.remember(at, out)
	if s.spoiled || s.arrived != "" || m.visit(s) != nil {
		return
	}
	tenant, user := m.anyTenant(), rapid.SampledFrom(isolationUsers).Draw(t, "other user")
	if tenant == at.tenant && user == at.user {
		return
	}
	s.spoiled = true
	m.refusal(fmt.Sprintf("%+v completed by %s of account %d", at, user, tenant), m.complete(tenant, s, user))
	m.look(at)
	m.look(place{tenant, at.workload, user, at.provider})
}

// completeAgain repeats what was completed: 200 for the same, nothing changes.
func (m *model) completeAgain(t *rapid.T) {
	var over []*asked
	for _, s := range m.sessions {
		if s.done && m.grants[s.at] == s.person {
			over = append(over, s)
		}
	}
	if len(over) == 0 {
		return
	}
	s := rapid.SampledFrom(over).Draw(t, "session")
	user := rapid.SampledFrom(isolationUsers).Draw(t, "by")
	if err := m.complete(s.at.tenant, s, user); user == s.at.user {
		m.must(err)
	} else {
		m.refusal("a session completed again by another", err)
	}
	m.look(s.at)
}

// machine asks for the workload's own token.
func (m *model) machine(t *rapid.T) {
	tenant, provider, scope := m.anyTenant(), m.anyProvider(), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "scope")
	token := m.speak(tenant, m.anyWorkload(), isolationUsers[0])
	out, err := m.accounts[tenant].data.GetResourceOauth2Token(context.Background(), &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken: &token, ResourceCredentialProviderName: aws.String(m.name(provider)), Scopes: []string{scope}, Oauth2Flow: data.Oauth2FlowTypeM2m,
	})
	m.must(err)
	if kind, client, scoped := tokenOf(*out.AccessToken); kind != "machine" || client != m.providers[tenant][provider].client || scoped != scope {
		m.t.Fatalf("account %d, %s, scope %s is given %s", tenant, provider, scope, *out.AccessToken)
	}
}

func (m *model) readKey(tenant int) {
	token := m.speak(tenant, m.anyWorkload(), isolationUsers[1])
	out, err := m.accounts[tenant].data.GetResourceApiKey(context.Background(), &bedrockagentcore.GetResourceApiKeyInput{WorkloadIdentityToken: &token, ResourceCredentialProviderName: aws.String(m.name("k1"))})
	m.must(err)
	if *out.ApiKey != m.keys[tenant]["k1"] {
		m.t.Fatalf("account %d is given the key %s, has %s", tenant, *out.ApiKey, m.keys[tenant]["k1"])
	}
}

func (m *model) apiKey(*rapid.T) { m.readKey(m.anyTenant()) }

func (m *model) changeKey(*rapid.T) {
	tenant, value := m.anyTenant(), m.fresh("key")
	_, err := m.accounts[tenant].control.UpdateApiKeyCredentialProvider(context.Background(), &bedrockagentcorecontrol.UpdateApiKeyCredentialProviderInput{Name: aws.String(m.name("k1")), ApiKey: &value})
	m.must(err)
	m.keys[tenant]["k1"] = value
	m.readKey(tenant)
}

// borrow uses an account's workload access token with the other account's key.
func (m *model) borrow(*rapid.T) {
	at := m.anyPlace()
	token := m.speak(at.tenant, at.workload, at.user)
	_, err := m.accounts[1-at.tenant].data.GetResourceOauth2Token(context.Background(), &bedrockagentcore.GetResourceOauth2TokenInput{
		WorkloadIdentityToken: &token, ResourceCredentialProviderName: aws.String(m.name(at.provider)), Scopes: []string{"read"},
		Oauth2Flow: data.Oauth2FlowTypeUserFederation, ResourceOauth2ReturnUrl: aws.String(isolationReturn),
	})
	m.refusal("a borrowed workload access token", err)
	_, err = m.accounts[1-at.tenant].data.GetResourceApiKey(context.Background(), &bedrockagentcore.GetResourceApiKeyInput{WorkloadIdentityToken: &token, ResourceCredentialProviderName: aws.String(m.name("k1"))})
	m.refusal("a borrowed workload access token for a key", err)
}

// forget takes grants out of the model.
func (m *model) forget(which func(place) bool) {
	maps.DeleteFunc(m.grants, func(at place, _ string) bool { return which(at) })
	m.sessions = slices.DeleteFunc(m.sessions, func(s *asked) bool { return which(s.at) })
}

// changeClient: grants of a client are no good for another.
func (m *model) changeClient(*rapid.T) {
	tenant, provider := m.anyTenant(), m.anyProvider()
	m.update(tenant, provider, &row{m.fresh("client"), m.fresh("secret")})
	m.forget(func(at place) bool { return at.tenant == tenant && at.provider == provider })
}

// changeSecret: a new secret alone changes nothing for the users.
func (m *model) changeSecret(*rapid.T) {
	tenant, provider := m.anyTenant(), m.anyProvider()
	m.update(tenant, provider, &row{m.providers[tenant][provider].client, m.fresh("secret")})
}

// dropWorkload: what comes back under the name is another one.
func (m *model) dropWorkload(*rapid.T) {
	tenant, workload := m.anyTenant(), m.anyWorkload()
	token := m.speak(tenant, workload, isolationUsers[0])
	_, err := m.accounts[tenant].control.DeleteWorkloadIdentity(context.Background(), &bedrockagentcorecontrol.DeleteWorkloadIdentityInput{Name: aws.String(m.name(workload))})
	m.must(err)
	m.makeWorkload(tenant, workload)
	m.forget(func(at place) bool { return at.tenant == tenant && at.workload == workload })
	_, err = m.accounts[tenant].data.GetResourceApiKey(context.Background(), &bedrockagentcore.GetResourceApiKeyInput{WorkloadIdentityToken: &token, ResourceCredentialProviderName: aws.String(m.name("k1"))})
	m.refusal("a workload access token of a workload that is gone", err)
}

func (m *model) dropProvider(*rapid.T) {
	tenant, provider := m.anyTenant(), m.anyProvider()
	_, err := m.accounts[tenant].control.DeleteOauth2CredentialProvider(context.Background(), &bedrockagentcorecontrol.DeleteOauth2CredentialProviderInput{Name: aws.String(m.name(provider))})
	m.must(err)
	m.makeProvider(tenant, provider)
	m.forget(func(at place) bool { return at.tenant == tenant && at.provider == provider })
}

// endUser is a user as our own operations name one.
func (m *model) endUser(user string) *client.EndUser {
	kind, id, _ := strings.Cut(user, ":")
	if kind == "id" {
		return &client.EndUser{UserId: &id}
	}
	issuer := m.DemoURL()
	return &client.EndUser{Issuer: &issuer, Subject: &id}
}

// takeBack revokes all grants of a user to a workload.
func (m *model) takeBack(t *rapid.T) {
	tenant, workload, user := m.anyTenant(), m.anyWorkload(), rapid.SampledFrom(isolationUsers).Draw(t, "user")
	_, err := m.accounts[tenant].own.RevokeUserGrants(context.Background(), &client.RevokeUserGrantsInput{User: m.endUser(user), WorkloadName: aws.String(m.name(workload))})
	m.must(err)
	m.forget(func(at place) bool { return at.tenant == tenant && at.workload == workload && at.user == user })
}

// list compares the grants that a workload's account is shown with the model.
func (m *model) list(*rapid.T) { m.compareGrants(m.anyTenant(), m.anyWorkload()) }

func (m *model) compareGrants(tenant int, workload string) {
	m.t.Helper()
	out, err := m.accounts[tenant].own.ListGrants(context.Background(), &client.ListGrantsInput{WorkloadName: aws.String(m.name(workload))})
	m.must(err)
	got := map[place]bool{}
	for _, g := range out.Grants {
		user := "id:" + aws.ToString(g.User.UserId)
		if g.User.Issuer != nil {
			user = "jwt:" + aws.ToString(g.User.Subject)
		}
		if g.State == "ACTIVE" || g.State == "EXPIRED" {
			got[place{tenant, workload, user, strings.TrimPrefix(aws.ToString(g.ProviderName), m.names+"-")}] = true
		}
	}
	want := map[place]bool{}
	for at := range m.grants {
		if at.tenant == tenant && at.workload == workload {
			want[at] = true
		}
	}
	if !maps.Equal(got, want) {
		m.t.Fatalf("account %d, %s: shown are the grants %v, there are %v", tenant, workload, got, want)
	}
}

// expire has the tokens of now on live for some milliseconds: asking refreshes them.
func (m *model) expire(t *rapid.T) { m.mint.live(rapid.Bool().Draw(t, "brief")) }

// compare looks at everything there is.
func (m *model) compare() {
	m.t.Helper()
	for tenant := range 2 {
		m.readKey(tenant)
		for _, workload := range []string{"w1", "w2"} {
			m.compareGrants(tenant, workload)
			for _, user := range isolationUsers {
				for _, provider := range []string{"p1", "p2"} {
					m.look(place{tenant, workload, user, provider})
				}
			}
		}
	}
	m.mint.live(false)
}
