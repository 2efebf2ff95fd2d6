package server_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/onbehalf/onbehalf/internal/secret"
	"github.com/onbehalf/onbehalf/internal/server"
	"github.com/onbehalf/onbehalf/internal/servertest"
	"github.com/onbehalf/onbehalf/internal/sigv4"
)

// asker sends forms signed with a key.
type asker struct {
	url     string
	key     sigv4.Key
	service string
	change  func(*http.Request) // after signing
}

func rootAsker(t *testing.T, p *servertest.Platform) asker {
	t.Helper()
	c, err := p.AWS.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return asker{url: p.URL() + "/", key: keyOf(c), service: "iam"}
}

func keyOf(c aws.Credentials) sigv4.Key {
	return sigv4.Key{AccessKeyID: c.AccessKeyID, Secret: secret.New(c.SecretAccessKey)}
}

// send posts a form that is written out, and answers the status and the XML.
func (a asker) send(t *testing.T, form string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, a.url, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	if err := sigv4.Sign(r, a.key, "us-east-1", a.service, sha256.Sum256([]byte(form)), time.Now()); err != nil {
		t.Fatal(err)
	}
	if a.change != nil {
		a.change(r)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if decoder := xml.NewDecoder(bytes.NewReader(body)); decoder.Decode(new(struct{})) != nil {
		t.Errorf("the answer is no XML: %s", body)
	}
	return response.StatusCode, string(body)
}

func (a asker) do(t *testing.T, action string, pairs ...string) (int, string) {
	t.Helper()
	version := map[string]string{"iam": "2010-05-08", "sts": "2011-06-15"}[a.service]
	form := url.Values{"Action": {action}, "Version": {version}}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return a.send(t, form.Encode())
}

const (
	iamTrust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"bedrock-agentcore.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

	// The tutorial's two statements.
	iamTutorial = `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": ["bedrock-agentcore:GetResourceApiKey"], "Resource": "*"},
		{"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": ["arn:aws:secretsmanager:*:*:secret:bedrock-agentcore*"]}]}`
)

// What the tutorial does with a role, from its making to its end, in AWS's shapes.
func TestRoleOverIAM(t *testing.T) {
	p := servertest.Start(t)
	iam := rootAsker(t, p)
	for _, step := range []struct {
		status int
		want   string // separated by |
		action string
		pairs  []string
	}{
		{404, "<Type>Sender</Type>|<Code>NoSuchEntity</Code>|<Message>The role with name agent cannot be found.</Message>|<RequestId>", "GetRole", []string{"RoleName", "agent"}},
		{400, "<Code>MalformedPolicyDocument</Code>|Has prohibited field Resource", "CreateRole", []string{"RoleName", "agent", "AssumeRolePolicyDocument", strings.Replace(iamTrust, `"Action"`, `"Resource":"*","Action"`, 1)}},
		{200, `<CreateRoleResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">|<CreateRoleResult>|<Arn>arn:aws:iam::000000000000:role/agent</Arn>|<RoleId>AROA|<Path>/</Path>|<ResponseMetadata>|<AssumeRolePolicyDocument>%7B%22Version%22%3A%222012-10-17%22|<Key>team</Key>`,
			"CreateRole", []string{"RoleName", "agent", "AssumeRolePolicyDocument", iamTrust, "Description", "a <b> & c", "Tags.member.1.Key", "team", "Tags.member.1.Value", "red"}},
		{200, "<MaxSessionDuration>", "CreateRole", []string{"RoleName", "bare", "AssumeRolePolicyDocument", iamTrust, "Tags", ""}},
		{200, "<DeleteRoleResponse", "DeleteRole", []string{"RoleName", "bare"}},
		{409, "<Code>EntityAlreadyExists</Code>|Role with name agent already exists.", "CreateRole", []string{"RoleName", "agent", "AssumeRolePolicyDocument", iamTrust}},
		{200, "<Description>a &lt;b&gt; &amp; c</Description>|<MaxSessionDuration>3600</MaxSessionDuration>", "GetRole", []string{"RoleName", "agent"}},
		{200, "<PutRolePolicyResponse", "PutRolePolicy", []string{"RoleName", "agent", "PolicyName", "access", "PolicyDocument", iamTutorial}},
		{200, "<PutRolePolicyResponse", "PutRolePolicy", []string{"RoleName", "agent", "PolicyName", "second", "PolicyDocument", iamTutorial}},
		{200, "<PolicyNames>|<member>access</member>|<IsTruncated>true</IsTruncated>|<Marker>", "ListRolePolicies", []string{"RoleName", "agent", "MaxItems", "1"}},
		{200, "<member>second</member>|<IsTruncated>false</IsTruncated>", "ListRolePolicies", []string{"RoleName", "agent", "Marker", "YWNjZXNz"}},
		{200, "<RoleName>agent</RoleName>|<PolicyName>access</PolicyName>|<PolicyDocument>%7B%22Version%22%3A%20%222012-10-17%22", "GetRolePolicy", []string{"RoleName", "agent", "PolicyName", "access"}},
		{404, "<Code>NoSuchEntity</Code>|The role policy with name other cannot be found.", "GetRolePolicy", []string{"RoleName", "agent", "PolicyName", "other"}},
		{200, "<RoleName>agent</RoleName>|<RoleName>onbehalf-default</RoleName>|<IsTruncated>false</IsTruncated>", "ListRoles", nil},
		{409, "<Code>DeleteConflict</Code>|must delete policies first", "DeleteRole", []string{"RoleName", "agent"}},
		{200, "<DeleteRolePolicyResponse", "DeleteRolePolicy", []string{"RoleName", "agent", "PolicyName", "access"}},
		{200, "<DeleteRolePolicyResponse", "DeleteRolePolicy", []string{"RoleName", "agent", "PolicyName", "second"}},
		{404, "<Code>NoSuchEntity</Code>", "DeleteRolePolicy", []string{"RoleName", "agent", "PolicyName", "second"}},
		{200, "<DeleteRoleResponse", "DeleteRole", []string{"RoleName", "agent"}},
		{404, "<Code>NoSuchEntity</Code>", "DeleteRole", []string{"RoleName", "agent"}},
	} {
		status, body := iam.do(t, step.action, step.pairs...)
		for want := range strings.SplitSeq(step.want, "|") {
			if status != step.status || !strings.Contains(body, want) {
				t.Errorf("%s: %d, want %d with %q: %s", step.action, status, step.status, want, body)
			}
		}
	}
	if records := recorded(t, p, "iam:PutRolePolicy"); len(records) != 2 || !strings.Contains(records[0], "role/agent") {
		t.Errorf("records %v", records)
	}
}

// What is wrong with a request is said, and nothing of it is passed over.
func TestQueryIsRefused(t *testing.T) {
	p := servertest.Start(t)
	iam := rootAsker(t, p)
	const put = "Action=PutRolePolicy&Version=2010-05-08&RoleName=onbehalf-default&PolicyName=access&PolicyDocument="
	for name, c := range map[string]struct {
		form   string
		change func(*asker)
		status int
		want   string
	}{
		"a name twice":             {"Action=GetRole&Version=2010-05-08&RoleName=onbehalf-default&RoleName=other", nil, 400, "The parameter RoleName comes 2 times."},
		"an action twice":          {"Action=GetRole&Action=DeleteRole&Version=2010-05-08&RoleName=onbehalf-default", nil, 400, "The parameter Action comes 2 times."},
		"an unknown name":          {"Action=CreateRole&Version=2010-05-08&RoleName=x&AssumeRolePolicyDocument=x&PermissionsBoundary=arn", nil, 400, "PermissionsBoundary is not known"},
		"no action":                {"Version=2010-05-08", nil, 400, "<Code>MissingAction</Code>"},
		"another action":           {"Action=CreateUser&Version=2010-05-08&UserName=x", nil, 400, "<Code>InvalidAction</Code>"},
		"another version":          {"Action=GetRole&Version=2011-06-15&RoleName=onbehalf-default", nil, 400, "Could not find operation GetRole for version 2011-06-15"},
		"another service's":        {"Action=GetCallerIdentity&Version=2010-05-08", nil, 400, "<Code>InvalidAction</Code>"},
		"markup in a name":         {"Action=%3C%2FMessage%3E%3CCode%3EX&Version=2010-05-08", nil, 400, "&lt;/Message&gt;&lt;Code&gt;X"},
		"a control character":      {"Action=a%00b%1b&Version=2010-05-08", nil, 400, "<Code>InvalidAction</Code>"},
		"NUL in a description":     {"Action=CreateRole&Version=2010-05-08&RoleName=x&AssumeRolePolicyDocument=x&Description=a%00b", nil, 400, "Value at &#39;description&#39;"},
		"a description in no text": {"Action=CreateRole&Version=2010-05-08&RoleName=x&AssumeRolePolicyDocument=x&Description=%ff", nil, 400, "Value at &#39;description&#39;"},
		"a role without a name":    {"Action=GetRole&Version=2010-05-08", nil, 400, "Value at &#39;roleName&#39; failed to satisfy constraint: Member must not be null"},
		"a path as a name":         {"Action=GetRole&Version=2010-05-08&RoleName=a%2Fb", nil, 400, "regular expression"},
		"a document that is none":  {put + "%7B", nil, 400, "<Code>MalformedPolicyDocument</Code>"},
		"an unknown condition":     {put + url.QueryEscape(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringMatch":{"aws:username":"a"}}}}`), nil, 400, "StringMatch"},
		"a document that is long":  {put + url.QueryEscape(`{"Version":"2012-10-17","Id":"`+strings.Repeat("a", 10300)+`","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`), nil, 409, "<Code>LimitExceeded</Code>"},
		"one long by its spaces":   {put + url.QueryEscape(`{"Version":"2012-10-17",`+strings.Repeat(" ", 10300)+`"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringMatch":{"aws:username":"a"}}}}`), nil, 400, "<Code>MalformedPolicyDocument</Code>"},
		"a trust long by spaces":   {"Action=CreateRole&Version=2010-05-08&RoleName=x&AssumeRolePolicyDocument=" + url.QueryEscape(`{`+strings.Repeat(" ", 2100)+`}`), nil, 400, "<Code>MalformedPolicyDocument</Code>"},
		"broken escapes":           {"Action=%zz", nil, 400, "<Code>MalformedQueryString</Code>"},
		"semicolons":               {"Action=GetRole;Version=2010-05-08", nil, 400, "<Code>MalformedQueryString</Code>"},
		"a query string":           {"", func(a *asker) { a.url += "?Action=GetRole&Version=2010-05-08&RoleName=onbehalf-default" }, 400, "<Code>MalformedQueryString</Code>"},
		"another body than signed": {"Action=GetRole&Version=2010-05-08&RoleName=onbehalf-default", func(a *asker) { a.change = otherBody }, 403, "<Code>SignatureDoesNotMatch</Code>"},
		"no signature":             {"Action=GetRole&Version=2010-05-08&RoleName=onbehalf-default", func(a *asker) { a.change = func(r *http.Request) { r.Header.Del("Authorization") } }, 403, "<Code>MissingAuthenticationToken</Code>"},
		"an unknown key":           {"Action=GetRole&Version=2010-05-08&RoleName=onbehalf-default", func(a *asker) { a.key.AccessKeyID = "AKIAAAAAAAAAAAAAAAAA" }, 403, "<Code>InvalidClientTokenId</Code>"},
		"AgentCore's signature":    {"Action=GetRole&Version=2010-05-08&RoleName=onbehalf-default", func(a *asker) { a.service = "bedrock-agentcore" }, 403, "correct service: &#39;iam&#39;"},
	} {
		a := iam
		if c.change != nil {
			c.change(&a)
		}
		if status, body := a.send(t, c.form); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d, want %d with %q: %s", name, status, c.status, c.want, body)
		}
	}
	// And the other way round: IAM's signature opens nothing of AgentCore's.
	a := iam
	a.url = p.URL() + "/identities/ListWorkloadIdentities"
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, a.url, strings.NewReader("{}"))
	if err := sigv4.Sign(r, a.key, "us-east-1", "iam", sha256.Sum256([]byte("{}")), time.Now()); err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("IAM's signature on another door: %d", response.StatusCode)
	}
}

func otherBody(r *http.Request) {
	const other = "Action=GetRole&Version=2010-05-08&RoleName=onbehalf-defaulT"
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(other)), int64(len(other))
}

// Each call needs an action of its own, on the role.
func TestIAMNeedsActions(t *testing.T) {
	p := servertest.Start(t)
	o := operator(t, p)
	key := user(t, o, server.DefaultAccount, "clerk", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iam:*RolePolic*","Resource":"arn:aws:iam::*:role/agent-*"},
		{"Effect":"Allow","Action":"iam:CreateRole","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/owner":"${aws:username}"}}}]}`)
	clerk := asker{url: p.URL() + "/", key: sigv4.Key{AccessKeyID: key.ID, Secret: key.Secret}, service: "iam"}
	create := []string{"RoleName", "agent-1", "AssumeRolePolicyDocument", iamTrust, "Tags.member.1.Key", "owner", "Tags.member.1.Value"}
	type step struct {
		asker  asker
		action string
		pairs  []string
		want   string
	}
	sts := clerk
	sts.service = "sts"
	for _, s := range []step{
		{clerk, "CreateRole", append(create[:len(create):len(create)], "ada"), "is not authorized to perform: iam:CreateRole on resource: arn:aws:iam::000000000000:role/agent-1"},
		{clerk, "CreateRole", append(create[:len(create):len(create)], "clerk"), "<CreateRoleResult>"},
		{clerk, "PutRolePolicy", []string{"RoleName", "agent-1", "PolicyName", "p", "PolicyDocument", iamTutorial}, "<PutRolePolicyResponse"},
		{clerk, "PutRolePolicy", []string{"RoleName", "onbehalf-default", "PolicyName", "p", "PolicyDocument", iamTutorial}, "<Code>AccessDenied</Code>"},
		{clerk, "GetRole", []string{"RoleName", "agent-1"}, "User: arn:aws:iam::000000000000:user/clerk is not authorized to perform: iam:GetRole on resource: arn:aws:iam::000000000000:role/agent-1 because no identity-based policy allows the iam:GetRole action"},
		{clerk, "ListRoles", nil, "<Code>AccessDenied</Code>"},
		{sts, "GetCallerIdentity", nil, "sts:GetCallerIdentity"},
	} {
		if _, body := s.asker.do(t, s.action, s.pairs...); !strings.Contains(body, s.want) {
			t.Errorf("%s %v: want %q: %s", s.action, s.pairs, s.want, body)
		}
	}
}

// Who the caller is, in AWS's forms.
func TestCallerIdentity(t *testing.T) {
	p := servertest.Start(t)
	o := operator(t, p)
	root := rootAsker(t, p)
	root.service = "sts"
	type identity struct {
		Arn     string `xml:"GetCallerIdentityResult>Arn"`
		UserId  string `xml:"GetCallerIdentityResult>UserId"`
		Account string `xml:"GetCallerIdentityResult>Account"`
	}
	ask := func(a asker) (got identity) {
		t.Helper()
		if status, body := a.do(t, "GetCallerIdentity"); status != 200 || xml.Unmarshal([]byte(body), &got) != nil {
			t.Errorf("%d: %s", status, body)
		}
		return got
	}
	if diff := cmp.Diff(identity{"arn:aws:iam::000000000000:root", "000000000000", "000000000000"}, ask(root)); diff != "" {
		t.Error(diff)
	}
	if err := o.CreateRole(t.Context(), server.DefaultAccount, "agent"); err != nil {
		t.Fatal(err)
	}
	if err := o.PutPolicy(t.Context(), server.DefaultAccount, "arn:aws:iam::000000000000:role/agent", "who", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:GetCallerIdentity","Resource":"*"}}`); err != nil {
		t.Fatal(err)
	}
	issued, err := o.Credentials(t.Context(), server.DefaultAccount, "agent", "test", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	session := root
	session.key = sigv4.Key{AccessKeyID: issued.KeyID, Secret: issued.Secret, SessionToken: issued.SessionToken}
	got := ask(session)
	if got.Arn != "arn:aws:sts::000000000000:assumed-role/agent/test" || !strings.HasPrefix(got.UserId, "AROA") || !strings.HasSuffix(got.UserId, ":test") {
		t.Errorf("%+v", got)
	}
}
