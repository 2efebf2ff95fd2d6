// Package client calls what Onbehalf has and Amazon Bedrock AgentCore lacks: who
// has granted what to which workload, and how to take it back; where an agent's
// code is kept, which of its sessions run, and what they print. For everything
// else there is the AWS SDK.
//
//	aws.Config ─ New ─▶ Client.ListGrants(ctx, &ListGrantsInput{…})
//	    JSON ─▶ SigV4 with the config's credentials ─▶ POST /onbehalf/ListGrants ─▶ ListGrantsOutput, or a typed error
//
// It is made after the AWS SDK's service packages and behaves like them: the same
// configuration, credentials, retries, correction of a wrong clock, and errors
// (smithy.APIError; errors.As finds *ResourceNotFoundException). The endpoint is
// AWS_ENDPOINT_URL_ONBEHALF, or else AWS_ENDPOINT_URL_BEDROCK_AGENTCORE, as
// `onbehalf env` prints them.
//
// Operations, inputs, outputs, errors and paginators are generated from the
// model that `onbehalf model` prints.
//
// Invariant: nothing here knows more than the wire does; whoever does without
// this package loses only convenience.
package client
