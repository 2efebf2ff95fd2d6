-- gateway: what an agent may call, and how.
--
-- A gateway owns one workload identity, named by the gateway's id, and has
-- targets; a target's operations are tools. The version of a gateway grows with
-- each change of it or of one of its targets: the serving side keeps gateways
-- in memory and asks for nothing but this number whether they still hold.

CREATE TABLE gateways (
	id            TEXT PRIMARY KEY,       -- slug of the name and ten random characters; unique over all accounts, the MCP path has nothing else
	account       TEXT NOT NULL,
	name          TEXT NOT NULL,
	workload_id   TEXT NOT NULL REFERENCES workload_identities (id),
	settings      TEXT NOT NULL,          -- JSON: the last Create or Update as it was asked for
	tags          TEXT NOT NULL,          -- JSON object
	version       BIGINT NOT NULL,
	created       BIGINT NOT NULL,
	updated       BIGINT NOT NULL,
	UNIQUE (account, name)
);

-- A gateway with targets is not deleted: the reference has no ON DELETE.
CREATE TABLE gateway_targets (
	gateway_id    TEXT NOT NULL REFERENCES gateways (id),
	id            TEXT NOT NULL,
	account       TEXT NOT NULL,
	name          TEXT NOT NULL,          -- the first part of its tools' names
	kind          TEXT NOT NULL,          -- TargetType of the API
	settings      BYTES NOT NULL,         -- sealed JSON: the last Create or Update; customParameters may hold secrets
	compiled      BYTES NOT NULL,         -- what the kind made of it; the kind alone reads it
	return_url    TEXT NOT NULL,          -- defaultReturnUrl of a target that needs the user's consent, else ''
	version       BIGINT NOT NULL,
	created       BIGINT NOT NULL,
	updated       BIGINT NOT NULL,
	PRIMARY KEY (gateway_id, id),
	UNIQUE (gateway_id, name)
);

-- Client tokens of creates: the same token with the same request gives the
-- first result again, for a day or until the thing is deleted.
CREATE TABLE gateway_client_tokens (
	account       TEXT NOT NULL,
	operation     TEXT NOT NULL,          -- CreateGateway, or CreateGatewayTarget and the gateway's id
	token         TEXT NOT NULL,
	request       BYTES NOT NULL,         -- SHA-256 of the request without its token
	gateway_id    TEXT NOT NULL REFERENCES gateways (id) ON DELETE CASCADE,
	target_id     TEXT NOT NULL,          -- '' of a gateway's
	created       BIGINT NOT NULL,
	PRIMARY KEY (account, operation, token)
);
CREATE INDEX gateway_client_tokens_by_gateway ON gateway_client_tokens (gateway_id, target_id);
CREATE INDEX gateway_client_tokens_by_age ON gateway_client_tokens (created);
