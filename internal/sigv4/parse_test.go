package sigv4

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/onbehalf/onbehalf/internal/fault"
	"github.com/onbehalf/onbehalf/internal/secret"
)

const (
	goodCredential = "AKIAIOSFODNN7EXAMPLE/20261122/us-east-1/bedrock-agentcore/aws4_request"
	goodHeaders    = "host;x-amz-date"
)

var goodSignature = strings.Repeat("0123456789abcdef", 4)

func authorization(credential, headers, signature string) string {
	return "AWS4-HMAC-SHA256 Credential=" + credential + ", SignedHeaders=" + headers + ", Signature=" + signature
}

func TestParse(t *testing.T) {
	t.Parallel()
	good := authorization(goodCredential, goodHeaders, goodSignature)
	for name, c := range map[string]struct {
		target        string
		authorization []string
		header        http.Header
		kind          fault.Kind
		text          string
	}{
		"good":              {authorization: []string{good}},
		"no spaces":         {authorization: []string{strings.ReplaceAll(good, ", ", ",")}},
		"another order":     {authorization: []string{"AWS4-HMAC-SHA256 Signature=" + goodSignature + ", SignedHeaders=" + goodHeaders + ", Credential=" + goodCredential}},
		"none":              {kind: fault.MissingSignature, text: "Missing Authentication Token"},
		"empty":             {authorization: []string{""}, kind: fault.BadSignature, text: "Unsupported Authorization header"},
		"bearer":            {authorization: []string{"Bearer abc"}, kind: fault.BadSignature, text: "Unsupported Authorization header"},
		"sigv4a":            {authorization: []string{"AWS4-ECDSA-P256-SHA256" + good[len(algorithm):]}, kind: fault.BadSignature, text: "Unsupported Authorization header"},
		"two headers":       {authorization: []string{good, good}, kind: fault.BadSignature, text: "more than one Authorization header"},
		"too long":          {authorization: []string{good + strings.Repeat(" ", maxAuthorization)}, kind: fault.BadSignature, text: "too long"},
		"no equal sign":     {authorization: []string{algorithm + " nothing"}, kind: fault.BadSignature, text: "missing equal-sign"},
		"no credential":     {authorization: []string{authorization("", goodHeaders, goodSignature)}, kind: fault.BadSignature, text: "requires 'Credential'"},
		"no signed headers": {authorization: []string{authorization(goodCredential, "", goodSignature)}, kind: fault.BadSignature, text: "requires 'SignedHeaders'"},
		"no signature":      {authorization: []string{authorization(goodCredential, goodHeaders, "")}, kind: fault.BadSignature, text: "requires 'Signature'"},
		"short signature":   {authorization: []string{authorization(goodCredential, goodHeaders, "abc")}, kind: fault.BadSignature, text: "does not match"},
		"capital signature": {authorization: []string{authorization(goodCredential, goodHeaders, strings.ToUpper(goodSignature))}, kind: fault.BadSignature, text: "does not match"},
		"parameter twice":   {authorization: []string{good + ", Signature=" + goodSignature}, kind: fault.BadSignature, text: "twice"},
		"other parameter":   {authorization: []string{good + ", X=y"}, kind: fault.BadSignature, text: "other than"},
		"four elements":     {authorization: []string{authorization("AKID/20261122/us-east-1/aws4_request", goodHeaders, goodSignature)}, kind: fault.BadSignature, text: "exactly 5"},
		"six elements":      {authorization: []string{authorization("A/"+goodCredential, goodHeaders, goodSignature)}, kind: fault.BadSignature, text: "exactly 5"},
		"trailing slash":    {authorization: []string{authorization(goodCredential+"/", goodHeaders, goodSignature)}, kind: fault.BadSignature, text: "exactly 5"},
		"terminator":        {authorization: []string{authorization(strings.Replace(goodCredential, "aws4", "aws5", 1), goodHeaders, goodSignature)}, kind: fault.BadSignature, text: "valid terminator: 'aws4_request'"},
		"key id with quote": {authorization: []string{authorization("A'"+goodCredential, goodHeaders, goodSignature)}, kind: fault.BadSignature, text: "not made of letters"},
		"date in words":     {authorization: []string{authorization(strings.Replace(goodCredential, "20261122", "yyyymmdd", 1), goodHeaders, goodSignature)}, kind: fault.BadSignature, text: "not YYYYMMDD"},
		"another day":       {authorization: []string{authorization(strings.Replace(goodCredential, "20261122", "20261121", 1), goodHeaders, goodSignature)}, kind: fault.BadSignature, text: "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20261121' != '20261122', from '20261122T113000Z'."},
		"unsorted headers":  {authorization: []string{authorization(goodCredential, "x-amz-date;host", goodSignature)}, kind: fault.BadSignature, text: "sorted"},
		"repeated header":   {authorization: []string{authorization(goodCredential, "host;host;x-amz-date", goodSignature)}, kind: fault.BadSignature, text: "each header once"},
		"capital header":    {authorization: []string{authorization(goodCredential, "Host;x-amz-date", goodSignature)}, kind: fault.BadSignature, text: "lower-case"},
		"many headers":      {authorization: []string{authorization(goodCredential, strings.Repeat("a;", 64)+"b", goodSignature)}, kind: fault.BadSignature, text: "more than 64"},
		"no date":           {authorization: []string{good}, header: http.Header{"X-Amz-Date": nil}, kind: fault.BadSignature, text: "either a 'X-Amz-Date' or a 'Date' header"},
		"two dates":         {authorization: []string{good}, header: http.Header{"X-Amz-Date": {"20261122T113000Z", "20261122T113000Z"}}, kind: fault.BadSignature, text: "more than one X-Amz-Date"},
		"odd date":          {authorization: []string{good}, header: http.Header{"X-Amz-Date": {"2026-11-22T11:30:00Z"}}, kind: fault.BadSignature, text: "ISO-8601 'basic format'"},
		"two tokens":        {authorization: []string{good}, header: http.Header{"X-Amz-Security-Token": {"a", "b"}}, kind: fault.BadSignature, text: "more than one X-Amz-Security-Token"},
		"presigned":         {target: "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=abc", kind: fault.BadSignature, text: "Presigned"},
		"presigned too":     {target: "/?a=b&x-amz-signature=abc", authorization: []string{good}, kind: fault.BadSignature, text: "Presigned"},
		"presigned, hidden": {target: "/?X%2dAmz%2DCredential=abc", authorization: []string{good}, kind: fault.BadSignature, text: "Presigned"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest("POST", "http://127.0.0.1:7080"+c.target, nil)
			r.Header["X-Amz-Date"] = []string{"20261122T113000Z"}
			for name, values := range c.header {
				r.Header[name] = values
			}
			if c.authorization != nil {
				r.Header["Authorization"] = c.authorization
			}
			h, err := Parse(r)
			if c.text == "" {
				if err != nil {
					t.Fatal(err)
				}
				if h.AccessKeyID != exampleKeyID || h.Date != "20261122" || h.Region != "us-east-1" || h.Service != "bedrock-agentcore" || h.Signature != goodSignature || !h.Time.Equal(signedAt) {
					t.Errorf("%+v", h)
				}
				return
			}
			if !fault.Is(err, c.kind) || !strings.Contains(fault.Of(err).Message, c.text) {
				t.Errorf("%v, want %s: %s", err, c.kind, c.text)
			}
			if strings.Contains(err.Error(), goodSignature) {
				t.Errorf("the error repeats the signature: %v", err)
			}
		})
	}
}

func TestScope(t *testing.T) {
	t.Parallel()
	h := Header{Credential: Credential{Region: "eu-west-1", Service: "bedrock-agentcore"}}
	if err := h.CheckScope("eu-west-1", "bedrock-agentcore"); err != nil {
		t.Error(err)
	}
	if err := h.CheckScope("us-east-1", "bedrock-agentcore"); !fault.Is(err, fault.BadSignature) || !strings.HasPrefix(fault.Of(err).Message, "Credential should be scoped to a valid region") {
		t.Error(err)
	}
	if err := h.CheckScope("eu-west-1", "sts"); !fault.Is(err, fault.BadSignature) || fault.Of(err).Message != "Credential should be scoped to correct service: 'sts'." {
		t.Error(err)
	}
}

func TestTime(t *testing.T) {
	t.Parallel()
	h := Header{Time: signedAt}
	for _, c := range []struct {
		later time.Duration
		text  string
	}{
		{0, ""},
		{MaxSkew, ""},
		{MaxSkew + 999*time.Millisecond, ""},
		{MaxSkew + time.Second, "Signature expired: 20261122T113000Z is now earlier than 20261122T113001Z (20261122T113501Z - 5 min.)"},
		{-MaxSkew, ""},
		{-MaxSkew - time.Second, "Signature not yet current: 20261122T113000Z is still later than 20261122T112959Z (20261122T112459Z + 5 min.)"},
		{24 * time.Hour, "Signature expired: 20261122T113000Z is now earlier than 20261123T112500Z (20261123T113000Z - 5 min.)"},
	} {
		err := h.CheckTime(signedAt.Add(c.later).In(time.FixedZone("elsewhere", 3600)))
		switch {
		case c.text == "" && err != nil:
			t.Errorf("%s later: %v", c.later, err)
		case c.text != "" && (!fault.Is(err, fault.StaleSignature) || fault.Of(err).Message != c.text):
			t.Errorf("%s later: %v, want %q", c.later, err, c.text)
		}
	}
}

// Within the skew the same request is good twice, as at AWS.
func TestReplayWithinSkew(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("POST", "http://127.0.0.1:7080/", nil)
	oracle(t, r, nil, "", signedAt)
	for range 2 {
		if err := verify(r, exampleSecret, nil); err != nil {
			t.Error(err)
		}
	}
}

// A Date header serves where there is no X-Amz-Date, if it is signed.
func TestDateHeader(t *testing.T) {
	t.Parallel()
	sign := func(names string) *http.Request {
		r := httptest.NewRequest("POST", "http://127.0.0.1:7080/", nil)
		r.Header.Set("Date", signedAt.Format(http.TimeFormat))
		c := Credential{exampleKeyID, "20261122", "us-east-1", "bedrock-agentcore"}
		payload := fmt.Sprintf("%x", sha256.Sum256(nil))
		canonical, _ := appendCanonicalRequest(nil, r, strings.Split(names, ";"), []byte(payload))
		var signature [64]byte
		signInto(&signature, c, canonical)
		r.Header.Set("Authorization", authorization(goodCredential, names, string(signature[:])))
		return r
	}
	if err := verify(sign("date;host"), exampleSecret, nil); err != nil {
		t.Error(err)
	}
	if err := verify(sign("host"), exampleSecret, nil); !fault.Is(err, fault.BadSignature) || !strings.Contains(fault.Of(err).Message, "'Date' must be a 'SignedHeader'") {
		t.Error(err)
	}
}

func signInto(signature *[64]byte, c Credential, canonical []byte) {
	sign(signature, DeriveKey(exampleSecret, c), c, signedAt, sha256.Sum256(canonical))
}

func TestUnsignedHeaders(t *testing.T) {
	t.Parallel()
	for name, allowed := range map[string]bool{
		"X-Amz-Anything":                              false,
		"x-amz-security-token":                        false,
		"X-Amz-Content-Sha256":                        false,
		"X-Amzn-Bedrock-AgentCore-Runtime-Session-Id": false,
		"X-Amzn-Bedrock-AgentCore-Runtime-User-Id":    false,
		"X-Amzn-Trace-Id":                             true,
		"X-Amz-Cf-Id":                                 true,
		"Traceparent":                                 true,
		"X-Forwarded-For":                             true,
		"X-Amz-Bedrock-AgentCore-Identity-WAT":        true, // and dropped
		"WorkloadAccessToken":                         true, // and dropped
	} {
		r := httptest.NewRequest("POST", "http://127.0.0.1:7080/", nil)
		oracle(t, r, nil, "", signedAt)
		r.Header.Set(name, "value")
		err := verify(r, exampleSecret, nil)
		if allowed && err != nil || !allowed && !fault.Is(err, fault.BadSignature) {
			t.Errorf("%s: %v", name, err)
		}
		if dropped := strings.Contains(name, "WAT") || strings.HasPrefix(name, "Workload"); dropped == (r.Header.Get(name) != "") && allowed {
			t.Errorf("%s: still there: %t", name, r.Header.Get(name) != "")
		}
	}
	// Signed, the token header stays.
	r := httptest.NewRequest("POST", "http://127.0.0.1:7080/", nil)
	r.Header.Set("X-Amz-Bedrock-AgentCore-Identity-WAT", "token")
	oracle(t, r, nil, "", signedAt)
	if err := verify(r, exampleSecret, nil); err != nil || r.Header.Get("X-Amz-Bedrock-AgentCore-Identity-WAT") != "token" {
		t.Errorf("a signed token header: %v, %q", err, r.Header)
	}
}

func TestHostMustBeSigned(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest("POST", "http://127.0.0.1:7080/", nil)
	r.Header.Set("X-Amz-Date", "20261122T113000Z")
	r.Header.Set("Authorization", authorization(goodCredential, "x-amz-date", goodSignature))
	if err := verify(r, exampleSecret, nil); !fault.Is(err, fault.BadSignature) || !strings.HasPrefix(fault.Of(err).Message, "'Host' or ':authority' must be a 'SignedHeader'") {
		t.Error(err)
	}
}

// Signed with something else than the body's hash, whatever the header says.
func TestContentHash(t *testing.T) {
	t.Parallel()
	body := []byte(`{"a":1}`)
	for value, good := range map[string]bool{
		fmt.Sprintf("%x", sha256.Sum256(body)): true,
		fmt.Sprintf("%x", sha256.Sum256(nil)):  false,
		"UNSIGNED-PAYLOAD":                     false,
		"STREAMING-AWS4-HMAC-SHA256-PAYLOAD":   false,
	} {
		r := httptest.NewRequest("POST", "http://127.0.0.1:7080/", strings.NewReader(string(body)))
		r.Header.Set("X-Amz-Content-Sha256", value)
		oracle(t, r, body, "", signedAt)
		if err := verify(r, exampleSecret, body); good != (err == nil) || err != nil && !fault.Is(err, fault.BadSignature) {
			t.Errorf("%s: %v", value, err)
		}
	}
}

func TestBrokenQuery(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"a=%", "a=%4", "%zz=a"} {
		r := httptest.NewRequest("GET", "http://127.0.0.1:7080/?"+query, nil)
		r.Header.Set("X-Amz-Date", "20261122T113000Z")
		r.Header.Set("Authorization", authorization(goodCredential, goodHeaders, goodSignature))
		if err := verify(r, exampleSecret, nil); !fault.Is(err, fault.BadSignature) {
			t.Errorf("%s: %v", query, err)
		}
		if err := Sign(r, Key{exampleKeyID, exampleSecret, secret.Text{}}, "us-east-1", "kms", sha256.Sum256(nil), signedAt); err == nil {
			t.Errorf("%s: signed", query)
		}
	}
}

func TestKeysAreNotPrinted(t *testing.T) {
	t.Parallel()
	key := DeriveKey(exampleSecret, Credential{exampleKeyID, "20261122", "us-east-1", "bedrock-agentcore"})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, text := range []string{fmt.Sprintf(verb, key), fmt.Sprintf(verb, Key{exampleKeyID, exampleSecret, secret.New("token")}), fmt.Sprintf(verb, struct{ K SigningKey }{key})} {
			if strings.Contains(text, "wJalr") || strings.Contains(text, "token") || !strings.Contains(text, "redacted") {
				t.Errorf("%s: %s", verb, text)
			}
		}
	}
}

// FuzzParse: whatever arrives, Parse and Verify do not panic, do not accept it,
// and do not repeat it.
func FuzzParse(f *testing.F) {
	good := authorization(goodCredential, goodHeaders, goodSignature)
	f.Add(good, "20261122T113000Z", "/a?b=c")
	f.Add(strings.ReplaceAll(good, ", ", ","), "Sun, 22 Nov 2026 11:30:00 GMT", "/%2F?X-Amz-Signature=")
	f.Add("AWS4-HMAC-SHA256 Credential=////aws4_request,SignedHeaders=;,Signature=", "", "*")
	f.Add("Bearer x", "20261122T113000Z", "//?%")
	f.Fuzz(func(t *testing.T, authorization, date, target string) {
		r := httptest.NewRequest("POST", "http://127.0.0.1:7080/", nil)
		r.RequestURI = target
		r.URL.RawQuery = target
		r.Header["Authorization"] = []string{authorization}
		r.Header["X-Amz-Date"] = []string{date}
		h, err := Parse(r)
		if err != nil {
			if fault.KindOf(err) == fault.Internal {
				t.Fatal(err)
			}
			return
		}
		if len(h.SignedHeaders) == 0 || h.AccessKeyID == "" || h.Time.IsZero() && h.Date != "00010101" {
			t.Fatalf("%+v", h)
		}
		if h.Verify(r, exampleSecret, sha256.Sum256(nil)) == nil {
			t.Fatal("a made-up signature verifies")
		}
	})
}
