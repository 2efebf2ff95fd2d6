package policy

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

// ClaimValues are the condition keys of a JWT that a request carries. Nothing is
// verified here: the act that was permitted by them verifies the token and does
// nothing where it is not good, so a claim that was made up permits nothing.
func ClaimValues(token string) map[string][]string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	content, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return nil
	}
	var claims map[string]any
	if err := json.Unmarshal(content, &claims); err != nil {
		return nil
	}
	values := map[string][]string{}
	for _, name := range []string{"iss", "sub", "aud", "client_id", "scope"} {
		if found := claimTexts(claims[name], name == "scope"); len(found) > 0 {
			values[KeyJWTClaim+name] = found
		}
	}
	return values
}

// claimTexts is a claim's text, or its texts. Scopes are words of one text.
func claimTexts(claim any, words bool) (out []string) {
	switch claim := claim.(type) {
	case string:
		if words {
			return strings.Fields(claim)
		}
		return []string{claim}
	case []any:
		for _, one := range claim {
			if text, is := one.(string); is {
				out = append(out, text)
			}
		}
	}
	return out
}
