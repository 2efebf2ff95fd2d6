package audit

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Canaries: what must never come out of Mask.
const (
	canaryJWT    = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl-X_9"
	canaryOpaque = "canary0Opaque-~.value_77"
	canaryAWS    = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYCANARYKEY0"
	canaryURN    = "urn:ietf:params:oauth:request_uri:canary0Opaque_77"
)

func TestMaskHides(t *testing.T) {
	t.Parallel()
	const c = canaryOpaque
	for name, text := range map[string]string{
		"a JWT alone":                      canaryJWT,
		"a JWT in a sentence":              "the token " + canaryJWT + ", which expired",
		"a JWT in a path":                  "/x/" + canaryJWT + "/y",
		"a JWT cut off":                    "token eyJhbGciOiJSUzI1NiJ9" + canaryOpaque,
		"a bearer header":                  "Authorization: Bearer " + c,
		"a bearer header in lower case":    "authorization: bearer " + c,
		"a bearer header, encoded":         "authorization=Bearer%20" + c,
		"a bearer header as Go prints it":  "map[Authorization:[Bearer " + c + "] Accept:[*/*]]",
		"basic credentials":                "Authorization: Basic Y2FuYXJ5Y2FuYXJ5" + c,
		"an authorize URL":                 "http://127.0.0.1:7080/identities/oauth2/authorize?request_uri=" + c,
		"an authorize URL, encoded URN":    "GET /identities/oauth2/authorize?request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3A" + c + "&x=y",
		"a URN":                            "session urn:ietf:params:oauth:request_uri:" + c,
		"a URN, encoded":                   "session urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3A" + c,
		"a URN, encoded twice":             "session urn%253Aietf%253Aparams%253Aoauth%253Arequest_uri%253A" + c,
		"a callback URL":                   "/identities/oauth2/callback/x?code=" + c + "&iss=https://idp.example",
		"the second parameter":             "/callback?iss=x&code=" + c,
		"state":                            "/callback?state=" + c,
		"session_id":                       "http://localhost:9090/oauth2/callback?session_id=" + c,
		"an escaped ampersand":             `{"url":"http://x/cb?iss=1\u0026code=` + c + `\u0026z=1"}`,
		"a URL within a URL":               "/login?next=%2Fauthorize%3Frequest_uri%3D" + c,
		"the second within a URL":          "/login?next=%2Fcb%3Fa%3Db%26code%3D" + c,
		"encoded twice within a URL":       "/login?next=%252Fcb%253Fa%253Db%2526code%253D" + c,
		"a form":                           "grant_type=authorization_code&code=" + c + "&code_verifier=" + c,
		"a form with a secret":             "client_id=a&client_secret=" + c,
		"JSON":                             `{"access_token":"` + c + `","token_type":"Bearer"}`,
		"JSON with blanks":                 `{ "refresh_token" : "` + c + `" }`,
		"JSON on lines":                    "{\n\t\"id_token\": \"" + c + "\"\n}",
		"JSON in JSON":                     `{"body":"{\"access_token\":\"` + c + `\"}"}`,
		"JSON in JSON in JSON":             `{"a":"{\"b\":\"{\\\"access_token\\\":\\\"` + c + `\\\"}\"}"}`,
		"JSON with an escaped quote":       `{"client_secret":"ab\"` + c + `"}`,
		"JSON cut off":                     `{"access_token":"` + c,
		"JSON in a URL":                    "?x=%7B%22access_token%22%3A%22" + c + "%22%7D",
		"AWS's JSON":                       `{"clientSecret":"` + c + `"}`,
		"a longer name":                    `{"googleClientSecret":"` + c + `"}`,
		"a session URI":                    `{"sessionUri":"` + c + `"}`,
		"a workload access token":          `{"workloadAccessToken":"` + c + `"}`,
		"a header":                         "WorkloadAccessToken: " + c,
		"the unsigned header of SDKs":      "X-Amz-Bedrock-AgentCore-Identity-WAT: " + c,
		"an AWS session token":             "X-Amz-Security-Token: " + c,
		"a struct as Go prints it":         "{AccessToken:" + c + " Expires:1}",
		"url.Values as Go prints them":     "map[client_secret:[" + c + "] grant_type:[x]]",
		"a quoted Go string":               `&{AccessToken:"` + c + `"}`,
		"single quotes":                    "client_secret='" + c + "'",
		"an API key":                       "apiKey=" + c,
		"YAML":                             "client_secret: " + c,
		"an AWS secret key":                "the key " + canaryAWS + " is wrong",
		"an AWS secret key by name":        "aws_secret_access_key = " + canaryAWS,
		"an AWS secret key alone":          canaryAWS,
		"a cookie":                         "Cookie: a=" + c + "; b=" + c,
		"a cookie that is set":             "Set-Cookie: onbehalf=" + c + "; HttpOnly",
		"a database URL":                   "postgres://onbehalf:" + c + "@db:5432/onbehalf",
		"a URL's user information":         `Get "https://ada:` + c + `@example.com/": refused`,
		"a private key":                    "-----BEGIN PRIVATE KEY-----\n" + c + "\n-----END PRIVATE KEY-----",
		"a private key cut off":            "-----BEGIN EC PRIVATE KEY-----\n" + c,
		"an error of net/http":             `Post "https://idp.example/token?code=` + c + `": EOF`,
		"a secret behind another":          "code=404 client_secret=" + c,
		"a secret behind a redacted one":   "client_secret=[redacted]&access_token=" + c,
		"a request line after a newline":   `boom\nstate=` + c,
		"capitals":                         "REQUEST_URI=" + c + " ACCESS_TOKEN=" + c,
		"several":                          "a " + canaryJWT + " b Bearer " + c + " c code=" + c + " d " + canaryAWS,
		"one of a secret's name in itself": "access_token=access_token=" + c,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Mask(text)
			for _, canary := range []string{canaryJWT, canaryOpaque, canaryAWS, canaryURN, canaryOpaque[8:], canaryAWS[20:]} {
				if strings.Contains(got, canary) {
					t.Fatalf("Mask(%q)\n  = %q, which shows %q", text, got, canary)
				}
			}
			if !strings.Contains(got, masked) {
				t.Errorf("Mask(%q) = %q: nothing says that something was taken out", text, got)
			}
		})
	}
}

// TestMaskKeeps holds the other side: a log that hides everything helps nobody.
func TestMaskKeeps(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"",
		"listening on http://127.0.0.1:7080",
		"the request was refused with code=404",
		"the bearer token is missing",
		"Basic authentication is not supported",
		`Bearer realm="onbehalf", error="invalid_token"`,
		`{"code":"ValidationException","state":"ACTIVE"}`,
		"code: 404, state: running",
		"grant_type=authorization_code&response_type=code&scope=openid",
		"arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default/oauth2credentialprovider/google",
		"arn:aws:iam::000000000000:role/service-role/AmazonBedrockAgentCoreGatewayDefaultRole1",
		"da39a3ee5e6b4b0d3255bfef95601890afd80709",                                                                // SHA-1 in hex
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",                                        // SHA-256 in hex
		"audit head writer=20261122T110400.000Z-ABCDEFGHIJ sequence=4711 mac=" + strings.Repeat("0f", 32),         // what Run logs
		"x-amzn-RequestId: 4b6a4c1e-7a3f-4a0e-9c5b-0d1e2f3a4b5c",                                                  //
		"method=POST path=/identities/GetWorkloadAccessTokenForJWT status=200",                                    // 40 bytes long
		"/home/Ada/go/src/Onbehalf/internal/audit/",                                                               //
		"the state machine's status code is 3",                                                                    //
		"access_token is missing",                                                                                 //
		"client_secret_basic",                                                                                     //
		"AKIAIOSFODNN7EXAMPLE",                                                                                    // an id, not a secret
		"jwt:https://idp.example#ada",                                                                             //
		"https://example.com:8443/a@b",                                                                            //
		"client_secret=" + masked + " Bearer " + masked + " {\"access_token\":\"" + masked + "\"} code=" + masked, // masked once is enough
	} {
		if got := Mask(text); got != text {
			t.Errorf("Mask(%q)\n  = %q, want it untouched", text, got)
		}
	}
}

func TestMaskKeepsWhatIsAround(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"GET /cb?code=abcdef&iss=https://idp.example HTTP/1.1":             "GET /cb?code=[redacted]&iss=https://idp.example HTTP/1.1",
		`{"access_token":"abc","expires_in":3600}`:                         `{"access_token":"[redacted]","expires_in":3600}`,
		`{"a":"{\"access_token\":\"abc\",\"expires_in\":3600}"}`:           `{"a":"{\"access_token\":\"[redacted]\",\"expires_in\":3600}"}`,
		"Authorization: Bearer abcdef, Accept: */*":                        "Authorization: Bearer [redacted], Accept: */*",
		"/authorize?request_uri=urn%3Aietf%3Ax&client_id=a":                "/authorize?request_uri=[redacted]&client_id=a",
		"urn:ietf:params:oauth:request_uri:abc ended":                      "urn:ietf:params:oauth:request_uri:[redacted] ended",
		"postgres://ada:hunter2@db:5432/x":                                 "postgres://ada:[redacted]@db:5432/x",
		"map[client_secret:[abc] x:[y]]":                                   "map[client_secret:[[redacted]] x:[y]]",
		"-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY----- done": "[redacted]-----END PRIVATE KEY----- done",
	} {
		if got := Mask(text); got != want {
			t.Errorf("Mask(%q)\n  = %q\nwant %q", text, got, want)
		}
	}
}

func FuzzMask(f *testing.F) {
	for _, seed := range []string{
		"", "=", ":", "%3D", "%25253d", "code=", "code=\\", "code=\"", "\\\"code\\\":\\\"", "eyJ", "Bearer", "Bearer ", "basic+", "://", "http://a:b@c",
		"-----BEGIN PRIVATE KEY-----", "access_token=[redacted]", "client_secret=%22%22%22", "\\u0026code=1", "é=code=é", strings.Repeat("aA1/", 10),
		"access_token=" + canaryOpaque, `{"id_token":"` + canaryJWT + `"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := Mask(text)
		if utf8.ValidString(text) && !utf8.ValidString(got) {
			t.Errorf("Mask(%q) = %q is not UTF-8 any more", text, got)
		}
		// Whatever stands before it, a secret that is plainly marked is found.
		for _, marked := range []string{" access_token=" + canaryOpaque, "\nBearer " + canaryOpaque, " " + canaryJWT} {
			if got := Mask(text + marked); strings.Contains(got, canaryOpaque) || strings.Contains(got, canaryJWT) {
				t.Errorf("Mask(%q) = %q shows the canary", text+marked, got)
			}
		}
	})
}

func BenchmarkMask(b *testing.B) {
	for name, text := range map[string]string{
		"message": "the provider's token endpoint answered late",
		"arn":     "arn:aws:bedrock-agentcore:us-east-1:000000000000:token-vault/default/oauth2credentialprovider/google",
		"secret":  "GET /identities/oauth2/callback/x?code=" + canaryOpaque + "&state=" + canaryOpaque,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				Mask(text)
			}
		})
	}
}
