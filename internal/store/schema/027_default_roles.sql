-- policy, continued: what the role onbehalf-default of an existing account may do.
-- New accounts get the same document from policy.DefaultRoleDocument.

INSERT INTO principal_policies (account, principal, name, document, created, updated)
	SELECT account, 'arn:aws:iam::' || account || ':role/onbehalf-default', 'onbehalf-default',
		'{"Version":"2012-10-17","Statement":[{"Sid":"OwnWorkloadIdentity","Effect":"Allow","Action":["bedrock-agentcore:GetWorkloadAccessToken","bedrock-agentcore:GetWorkloadAccessTokenForJWT","bedrock-agentcore:GetWorkloadAccessTokenForUserId","bedrock-agentcore:GetResourceOauth2Token","bedrock-agentcore:GetResourceApiKey"],"Resource":["arn:aws:bedrock-agentcore:*:*:workload-identity-directory/*","arn:aws:bedrock-agentcore:*:*:token-vault/*"]}]}',
		created, created
	FROM accounts;
