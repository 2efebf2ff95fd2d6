// Package agent is for programs that act on somebody's behalf: it gets the
// access token or the API key that a function needs, hands it to the function,
// and keeps it out of everything that is printed.
//
//	var listMail = agent.RequireAccessToken(agent.AccessTokenOptions{
//		Provider:  "google",
//		Scopes:    []string{"https://www.googleapis.com/auth/gmail.readonly"},
//		Flow:      agent.UserFederation,
//		OnAuthURL: showToUser,
//	}, func(ctx context.Context, query string, token agent.Secret) ([]Mail, error) { … })
//
// It does what the decorators of the Python package bedrock-agentcore do, over
// the official AWS SDK for Go, so it works against Onbehalf and against Amazon
// Bedrock AgentCore alike: the standard configuration chain finds credentials
// and region, and AWS_ENDPOINT_URL_BEDROCK_AGENTCORE and
// AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL say where the platform is.
//
//	context ── else .agentcore.json ──▶ workload token: which agent, for which user
//	                                          │
//	           GetResourceApiKey ◀────────────┴────────────▶ GetResourceOauth2Token
//	                  │                                        │            │
//	                  ▼                                        ▼            ▼
//	               API key                               access token   link ─▶ OnAuthURL
//	                  │                                        ▲            │
//	                  └───────────▶ your function ◀────────────┴── poll ◀───┘
//
// # Who is asking
//
// Every call is made by a workload (the agent) and, for UserFederation and
// OnBehalfOf, for a user. Both are inside the workload token. The runtime that
// hosts the agent puts it into the context of each request ([WithWorkloadToken]);
// a web application of your own does the same with what
// GetWorkloadAccessTokenForJWT answers. Without one, on a developer's machine,
// the agent is given an identity that is remembered in .agentcore.json, the file
// that the Python package uses.
//
// # To be hosted
//
// [App] serves the contract that a runtime expects of an agent (/invocations,
// /ping, /ws), and hands each call's function a context in which all of the above works:
//
//	func main() {
//		app := agent.New().Entrypoint(func(ctx context.Context, in Prompt) (string, error) { … })
//		if err := app.Run(); err != nil {
//			log.Fatal(err)
//		}
//	}
//
// # Invariant
//
// A token, a key or a consent link leaves this package through a function
// argument, a return value or [Secret.Reveal]. It is in no error, in no log line
// and in no text that fmt, encoding/json or log/slog make of a value of this package.
package agent
