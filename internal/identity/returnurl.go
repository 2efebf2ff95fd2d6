package identity

import (
	"net/url"
	"strings"

	"github.com/onbehalf/onbehalf/internal/fault"
)

// checkReturnURLs refuses, on top of the model's pattern, what a browser must
// not be sent to: addresses that run as script or open local content, and web
// addresses without a host. Schemes of applications ("myapp:done") are fine, and
// so is http, which AWS allows and local development needs. Whoever is on the way
// of one to another machine reads a session_id, and can complete nothing with it:
// that takes a key of the account, or the person's own sign-in. So it is not refused.
func checkReturnURLs(urls []string) error {
	if len(urls) > returnURLLimit {
		return fault.InvalidField("allowedResourceOauth2ReturnUrls", "At most %d allowedResourceOauth2ReturnUrls can be registered.", returnURLLimit)
	}
	for _, raw := range urls {
		parsed, err := url.Parse(raw)
		if err != nil || strings.ContainsAny(raw, "\\\"<>\x00") || strings.ContainsFunc(raw, isControl) {
			return refusedURL(raw, "it is not a URL")
		}
		switch strings.ToLower(parsed.Scheme) {
		case "":
			return refusedURL(raw, "it has no scheme")
		case "javascript", "data", "vbscript", "blob", "file", "about", "view-source":
			return refusedURL(raw, "a browser may not be sent to this scheme")
		case "http", "https":
			if parsed.Hostname() == "" {
				return refusedURL(raw, "it has no host")
			}
			if parsed.User != nil {
				return refusedURL(raw, "it carries a user name")
			}
		}
	}
	return nil
}

// returnURLLimit bounds the list, which is read with each consent. AWS documents
// no bound; a gateway's list is the union of its targets'.
const returnURLLimit = 200

func refusedURL(raw, why string) error {
	return fault.InvalidField("allowedResourceOauth2ReturnUrls", "Value '%s' at 'allowedResourceOauth2ReturnUrls' is not allowed: %s.", raw, why)
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }
