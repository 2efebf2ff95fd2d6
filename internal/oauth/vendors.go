package oauth

// vendors is the table. Its rows are read only. Issuer is the vendor's own where
// it publishes metadata, else the origin of its authorization endpoint.
var vendors = rows(
	Vendor{
		Name:           customVendor,
		Title:          "OAuth 2.0 provider",
		Source:         "https://www.rfc-editor.org/rfc/rfc6749",
		ScopeSeparator: " ",
	},
	Vendor{
		Name:         "GoogleOauth2",
		Title:        "Google",
		Source:       "https://developers.google.com/identity/protocols/oauth2/web-server",
		DiscoveryURL: "https://accounts.google.com/.well-known/openid-configuration",
		Metadata: Metadata{
			Issuer:                   "https://accounts.google.com",
			AuthorizationEndpoint:    "https://accounts.google.com/o/oauth2/v2/auth",
			TokenEndpoint:            "https://oauth2.googleapis.com/token",
			JWKSURI:                  "https://www.googleapis.com/oauth2/v3/certs",
			RevocationEndpoint:       "https://oauth2.googleapis.com/revoke",
			ScopesSupported:          []string{"openid", "email", "profile"},
			ResponseTypes:            []string{"code", "token", "id_token", "code token", "code id_token", "token id_token", "code token id_token", "none"},
			TokenEndpointAuthMethods: []string{"client_secret_post", "client_secret_basic"},
			CodeChallengeMethods:     []string{"plain", "S256"},
		},
		ScopeSeparator: " ",
		AuthMethod:     AuthSecretPost,
		// Without prompt=consent only the first consent of a person brings a refresh token:
		// the second workload of the same client would go without.
		AuthorizationParameters: map[string]string{"access_type": "offline", "prompt": "consent"},
	},
	Vendor{
		Name:   "GithubOauth2",
		Title:  "GitHub",
		Source: "https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps",
		Metadata: Metadata{
			Issuer:                "https://github.com/login/oauth",
			AuthorizationEndpoint: "https://github.com/login/oauth/authorize",
			TokenEndpoint:         "https://github.com/login/oauth/access_token",
			CodeChallengeMethods:  []string{"S256"},
		},
		ScopeSeparator: " ",
		AuthMethod:     AuthSecretPost,
		Quirks: Quirks{
			ScopeSeparator: ",", // of answers; requests have spaces
			GoneCodes:      []string{"bad_refresh_token", "bad_verification_code"},
		},
	},
	Vendor{
		Name:   "SlackOauth2",
		Title:  "Slack",
		Source: "https://docs.slack.dev/reference/methods/oauth.v2.access",
		Metadata: Metadata{
			Issuer:                "https://slack.com",
			AuthorizationEndpoint: "https://slack.com/oauth/v2/authorize",
			TokenEndpoint:         "https://slack.com/api/oauth.v2.access",
		},
		ScopeSeparator: ",",
		AuthMethod:     AuthSecretBasic, // "if possible, avoid sending client_id and client_secret as parameters"
		Quirks: Quirks{
			WithoutPKCE:     true, // Slack takes PKCE for the mark of a public client: with a secret beside it, internal_error
			OKMember:        true,
			NestedUserToken: true, // where user_scope alone was asked for
			ScopeSeparator:  ",",
			GoneCodes:       []string{"invalid_refresh_token", "token_revoked", "token_expired", "invalid_code", "code_already_used"},
			PassingCodes:    []string{"internal_error", "fatal_error", "service_unavailable", "request_timeout", "ratelimited", "team_added_to_org"},
		},
	},
	Vendor{
		Name:   "SalesforceOauth2",
		Title:  "Salesforce",
		Source: "https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_endpoints.htm",
		Metadata: Metadata{
			Issuer:                "https://login.salesforce.com",
			AuthorizationEndpoint: "https://login.salesforce.com/services/oauth2/authorize",
			TokenEndpoint:         "https://login.salesforce.com/services/oauth2/token",
			RevocationEndpoint:    "https://login.salesforce.com/services/oauth2/revoke",
			CodeChallengeMethods:  []string{"S256"},
		},
		ScopeSeparator: " ",
		RefreshScope:   "refresh_token",
		AuthMethod:     AuthSecretPost,
	},
	Vendor{
		Name:   "MicrosoftOauth2",
		Title:  "Microsoft",
		Source: "https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-on-behalf-of-flow",
		Metadata: Metadata{
			Issuer:                "https://login.microsoftonline.com/{tenantid}/v2.0",
			AuthorizationEndpoint: "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize",
			TokenEndpoint:         "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
			CodeChallengeMethods:  []string{"S256"},
		},
		DefaultTenant:  "common",
		ScopeSeparator: " ",
		RefreshScope:   "offline_access",
		AuthMethod:     AuthSecretPost,
		OnBehalfOf:     OnBehalfOf{GrantType: GrantJWTBearer, Parameters: map[string]string{"requested_token_use": "on_behalf_of"}},
	},
	Vendor{
		Name:   "AtlassianOauth2",
		Title:  "Atlassian",
		Source: "https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/",
		Metadata: Metadata{
			Issuer:                "https://auth.atlassian.com",
			AuthorizationEndpoint: "https://auth.atlassian.com/authorize",
			TokenEndpoint:         "https://auth.atlassian.com/oauth/token",
		},
		ScopeSeparator:          " ",
		RefreshScope:            "offline_access",
		AuthMethod:              AuthSecretPost,
		Audiences:               []string{"api.atlassian.com"},
		AuthorizationParameters: map[string]string{"prompt": "consent"},
		Quirks:                  Quirks{GoneCodes: []string{"refresh_token is invalid", "Unknown or invalid refresh token."}},
	},
	Vendor{
		Name:   "LinkedinOauth2",
		Title:  "LinkedIn",
		Source: "https://learn.microsoft.com/en-us/linkedin/shared/authentication/authorization-code-flow",
		Metadata: Metadata{
			Issuer:                "https://www.linkedin.com/oauth",
			AuthorizationEndpoint: "https://www.linkedin.com/oauth/v2/authorization",
			TokenEndpoint:         "https://www.linkedin.com/oauth/v2/accessToken",
		},
		ScopeSeparator: " ",
		AuthMethod:     AuthSecretPost,
		Quirks: Quirks{
			WithoutPKCE:    true, // a code_verifier of a confidential client is answered with invalid_client
			ScopeSeparator: ",",
		},
	},
	Vendor{
		Name:   "XOauth2",
		Title:  "X",
		Source: "https://docs.x.com/fundamentals/authentication/oauth-2-0/user-access-token",
		Metadata: Metadata{
			Issuer:                "https://x.com",
			AuthorizationEndpoint: "https://x.com/i/oauth2/authorize",
			TokenEndpoint:         "https://api.x.com/2/oauth2/token",
			RevocationEndpoint:    "https://api.x.com/2/oauth2/revoke",
			CodeChallengeMethods:  []string{"S256", "plain"},
		},
		ScopeSeparator: " ",
		RefreshScope:   "offline.access",
		AuthMethod:     AuthSecretBasic,
		Quirks:         Quirks{GoneCodes: []string{"Value passed for the token was invalid."}},
	},
	Vendor{
		Name:   "FacebookOauth2",
		Title:  "Facebook",
		Source: "https://developers.facebook.com/documentation/facebook-login/guides/advanced/manual-flow",
		Metadata: Metadata{
			Issuer:                "https://www.facebook.com",
			AuthorizationEndpoint: "https://www.facebook.com/dialog/oauth",
			// Documented with GET; it takes POST as well, which keeps code and secret out of URLs.
			TokenEndpoint: "https://graph.facebook.com/oauth/access_token",
		},
		ScopeSeparator: ",",
		AuthMethod:     AuthSecretPost,
		Quirks: Quirks{
			WithoutPKCE:    true, // the dialog forgets the challenge, and the verifier is refused for lack of one
			WithoutRefresh: true,
		},
	},
	Vendor{
		Name:   "YandexOauth2",
		Title:  "Yandex",
		Source: "https://yandex.com/dev/id/doc/en/tokens/refresh-client",
		Metadata: Metadata{
			Issuer:                "https://oauth.yandex.com",
			AuthorizationEndpoint: "https://oauth.yandex.com/authorize",
			TokenEndpoint:         "https://oauth.yandex.com/token",
			RevocationEndpoint:    "https://oauth.yandex.com/revoke_token",
			CodeChallengeMethods:  []string{"plain", "S256"},
		},
		ScopeSeparator: " ",
		AuthMethod:     AuthSecretBasic,
		Revokes:        HintAccessToken,
		Quirks:         Quirks{RevokedParameter: "access_token"},
	},
	Vendor{
		Name:   "RedditOauth2",
		Title:  "Reddit",
		Source: "https://github.com/reddit-archive/reddit/wiki/OAuth2",
		Metadata: Metadata{
			Issuer:                "https://www.reddit.com",
			AuthorizationEndpoint: "https://www.reddit.com/api/v1/authorize",
			TokenEndpoint:         "https://www.reddit.com/api/v1/access_token",
			RevocationEndpoint:    "https://www.reddit.com/api/v1/revoke_token",
		},
		ScopeSeparator:          " ",
		AuthMethod:              AuthSecretBasic,
		AuthorizationParameters: map[string]string{"duration": "permanent"},
		Quirks: Quirks{
			Headers:   map[string]string{"User-Agent": "server:onbehalf:v1"}, // generic ones are throttled to nothing
			GoneCodes: []string{"Bad Request", "invalid_request"},            // all that is said of a refresh token that is gone
		},
	},
	Vendor{
		Name:   "ZoomOauth2",
		Title:  "Zoom",
		Source: "https://developers.zoom.us/docs/rooms/oauth/",
		Metadata: Metadata{
			Issuer:                "https://zoom.us",
			AuthorizationEndpoint: "https://zoom.us/oauth/authorize",
			TokenEndpoint:         "https://zoom.us/oauth/token",
			RevocationEndpoint:    "https://zoom.us/oauth/revoke",
			CodeChallengeMethods:  []string{"plain", "S256"},
		},
		ScopeSeparator: " ",
		AuthMethod:     AuthSecretBasic,
		Revokes:        HintAccessToken,
		Quirks: Quirks{
			AccountGrant: "account_credentials", // of Server-to-Server apps: https://developers.zoom.us/docs/rooms/s2s-oauth/
			GoneCodes:    []string{"Invalid Token!"},
		},
	},
	Vendor{
		Name:   "TwitchOauth2",
		Title:  "Twitch",
		Source: "https://dev.twitch.tv/docs/authentication/getting-tokens-oauth/",
		Metadata: Metadata{
			Issuer:                "https://id.twitch.tv/oauth2",
			AuthorizationEndpoint: "https://id.twitch.tv/oauth2/authorize",
			TokenEndpoint:         "https://id.twitch.tv/oauth2/token",
			RevocationEndpoint:    "https://id.twitch.tv/oauth2/revoke",
		},
		ScopeSeparator: " ",
		AuthMethod:     AuthSecretPost,
		Revokes:        HintAccessToken,
		Quirks:         Quirks{GoneCodes: []string{"Invalid refresh token", "Invalid token"}},
	},
	Vendor{
		Name:   "SpotifyOauth2",
		Title:  "Spotify",
		Source: "https://developer.spotify.com/documentation/web-api/tutorials/code-flow",
		Metadata: Metadata{
			Issuer:                "https://accounts.spotify.com",
			AuthorizationEndpoint: "https://accounts.spotify.com/authorize",
			TokenEndpoint:         "https://accounts.spotify.com/api/token",
			CodeChallengeMethods:  []string{"S256"},
		},
		ScopeSeparator: " ",
		AuthMethod:     AuthSecretBasic,
	},
	Vendor{
		Name:   "DropboxOauth2",
		Title:  "Dropbox",
		Source: "https://dropbox.tech/developers/using-oauth-2-0-with-offline-access",
		Metadata: Metadata{
			Issuer:                "https://www.dropbox.com",
			AuthorizationEndpoint: "https://www.dropbox.com/oauth2/authorize",
			TokenEndpoint:         "https://api.dropboxapi.com/oauth2/token",
			CodeChallengeMethods:  []string{"plain", "S256"},
		},
		ScopeSeparator:          " ",
		AuthMethod:              AuthSecretPost,
		AuthorizationParameters: map[string]string{"token_access_type": "offline"},
	},
	Vendor{
		Name:   "NotionOauth2",
		Title:  "Notion",
		Source: "https://developers.notion.com/reference/create-a-token",
		Metadata: Metadata{
			Issuer:                "https://api.notion.com",
			AuthorizationEndpoint: "https://api.notion.com/v1/oauth/authorize",
			TokenEndpoint:         "https://api.notion.com/v1/oauth/token",
			RevocationEndpoint:    "https://api.notion.com/v1/oauth/revoke",
		},
		ScopeSeparator:          " ",
		AuthMethod:              AuthSecretBasic,
		AuthorizationParameters: map[string]string{"owner": "user"},
		Revokes:                 HintAccessToken,
		Quirks: Quirks{
			JSONBody: true,
			Headers:  map[string]string{"Notion-Version": "2022-06-28"},
		},
	},
	Vendor{
		Name:   "HubspotOauth2",
		Title:  "HubSpot",
		Source: "https://developers.hubspot.com/docs/api-reference/2026-03/authentication/oauth-tokens/refresh-oauth-token",
		Metadata: Metadata{
			Issuer:                "https://app.hubspot.com",
			AuthorizationEndpoint: "https://app.hubspot.com/oauth/authorize",
			TokenEndpoint:         "https://api.hubapi.com/oauth/2026-03/token", // oauth/v1 ends in February 2027
			RevocationEndpoint:    "https://api.hubapi.com/oauth/2026-03/token/revoke",
			CodeChallengeMethods:  []string{"S256"},
		},
		ScopeSeparator: " ",
		AuthMethod:     AuthSecretPost,
		Revokes:        HintRefreshToken,
		Quirks:         Quirks{GoneCodes: []string{"BAD_REFRESH_TOKEN"}},
	},

	tenanted("OktaOauth2", "Okta", "offline_access", "https://developer.okta.com/docs/api/openapi/okta-oauth/oauth/tag/CustomAS"),
	tenanted("OneLoginOauth2", "OneLogin", "offline_access", "https://developers.onelogin.com/openid-connect/api/validate-token"),
	tenanted("PingOneOauth2", "PingOne", "offline_access", "https://developer.pingidentity.com/pingone-api/auth/openid-connect-oauth-2/token-intro.html"),
	tenanted("CyberArkOauth2", "CyberArk", "offline_access", "https://docs.aws.amazon.com/bedrock-agentcore/latest/devguide/identity-idp-cyberark.html"),
	tenanted("FusionAuthOauth2", "FusionAuth", "offline_access", "https://fusionauth.io/docs/lifecycle/authenticate-users/oauth/endpoints"),
	auth0(),
	tenanted("CognitoOauth2", "Amazon Cognito", "", "https://docs.aws.amazon.com/cognito/latest/developerguide/revocation-endpoint.html"),
)

// tenanted is a row of a vendor that runs a server for each customer: the
// configuration has its endpoints, and its metadata says how clients prove themselves.
func tenanted(name, title, refreshScope, source string) Vendor {
	return Vendor{Name: name, Title: title, Source: source, Tenanted: true, ScopeSeparator: " ", RefreshScope: refreshScope}
}

// auth0 lets a client use the one method it was made with, which is the body unless somebody changed it.
func auth0() Vendor {
	v := tenanted("Auth0Oauth2", "Auth0", "offline_access", "https://auth0.com/docs/secure/tokens/access-tokens/get-access-tokens")
	v.AuthMethod = AuthSecretPost
	return v
}

func rows(list ...Vendor) map[string]Vendor {
	table := make(map[string]Vendor, len(list))
	for _, v := range list {
		table[v.Name] = v
	}
	return table
}
