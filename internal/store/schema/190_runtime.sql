-- runtime: agents that are hosted here.
--
-- A runtime owns one workload identity, named by the runtime's id. Each version
-- is a full configuration that never changes; an endpoint is a name for one of
-- them, and every runtime has the endpoint DEFAULT, which follows the newest.

CREATE TABLE agent_runtimes (
	id            TEXT PRIMARY KEY,       -- the name and ten random characters
	account       TEXT NOT NULL,
	name          TEXT NOT NULL,
	workload_id   TEXT NOT NULL REFERENCES workload_identities (id),
	latest        BIGINT NOT NULL,        -- the newest version's number, also when that one is deleted
	tags          TEXT NOT NULL,          -- JSON object
	created       BIGINT NOT NULL,
	UNIQUE (account, name)
);

CREATE TABLE agent_runtime_versions (
	runtime_id    TEXT NOT NULL REFERENCES agent_runtimes (id) ON DELETE CASCADE,
	version       BIGINT NOT NULL,
	account       TEXT NOT NULL,
	settings      BYTES NOT NULL,         -- sealed JSON: the Create or Update; environmentVariables hold secrets
	code          TEXT NOT NULL,          -- SHA-256 of the code's archive, '' where there is none
	status        TEXT NOT NULL,          -- READY | CREATE_FAILED | UPDATE_FAILED
	failure       TEXT NOT NULL,          -- why, for people
	created       BIGINT NOT NULL,
	PRIMARY KEY (runtime_id, version)
);
CREATE INDEX agent_runtime_versions_by_code ON agent_runtime_versions (account, code);

CREATE TABLE agent_runtime_endpoints (
	runtime_id    TEXT NOT NULL REFERENCES agent_runtimes (id) ON DELETE CASCADE,
	name          TEXT NOT NULL,
	account       TEXT NOT NULL,
	id            TEXT NOT NULL,
	version       BIGINT NOT NULL,        -- that it serves
	description   TEXT,
	tags          TEXT NOT NULL,          -- JSON object
	created       BIGINT NOT NULL,
	updated       BIGINT NOT NULL,
	PRIMARY KEY (runtime_id, name)
);

-- Archives of code, by what is in them: the same archive is kept once for an account.
CREATE TABLE agent_code (
	account       TEXT NOT NULL,
	sha256        TEXT NOT NULL,          -- hexadecimal
	size          BIGINT NOT NULL,        -- bytes; 0 while its parts come or go
	created       BIGINT NOT NULL,        -- put, put again, or let go by a version: what is not used for a day goes
	PRIMARY KEY (account, sha256)
);

CREATE TABLE agent_code_parts (
	account       TEXT NOT NULL,
	sha256        TEXT NOT NULL,
	part          BIGINT NOT NULL,        -- 0, 1, …
	content       BYTES NOT NULL,         -- not sealed: programs, as a registry keeps them
	PRIMARY KEY (account, sha256, part),
	FOREIGN KEY (account, sha256) REFERENCES agent_code (account, sha256) ON DELETE CASCADE
);

-- Client tokens: the same token with the same request gives the first result again.
CREATE TABLE agent_runtime_client_tokens (
	account       TEXT NOT NULL,
	operation     TEXT NOT NULL,          -- with the runtime's id, where there is one
	token         TEXT NOT NULL,
	request       BYTES NOT NULL,         -- keyed MAC over the request without its token: it holds secrets
	runtime_id    TEXT REFERENCES agent_runtimes (id) ON DELETE CASCADE, -- NULL of a deletion, which is remembered
	result        TEXT NOT NULL,          -- the version, or the endpoint's name
	created       BIGINT NOT NULL,
	PRIMARY KEY (account, operation, token)
);
CREATE INDEX agent_runtime_client_tokens_by_age ON agent_runtime_client_tokens (created);

-- Sessions that have an agent running, or had one: who opened them, and where it runs.
CREATE TABLE agent_sessions (
	runtime_id    TEXT NOT NULL REFERENCES agent_runtimes (id) ON DELETE CASCADE,
	session       TEXT NOT NULL,          -- runtimeSessionId, as the caller named it
	account       TEXT NOT NULL,
	endpoint      TEXT NOT NULL,
	version       BIGINT NOT NULL,
	principal     TEXT NOT NULL,          -- ARN, or the person in one line: the session is theirs
	user_line     TEXT NOT NULL,          -- the person acted for
	node          TEXT NOT NULL,          -- the platform's process that runs it
	created       BIGINT NOT NULL,
	last_used     BIGINT NOT NULL,        -- to within ten seconds
	PRIMARY KEY (runtime_id, session)
);
CREATE INDEX agent_sessions_by_node ON agent_sessions (node);
