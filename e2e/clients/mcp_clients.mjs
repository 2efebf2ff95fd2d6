// Both official MCP clients for TypeScript at a gateway: version 1 (@modelcontextprotocol/sdk),
// which speaks up to 2025-11-25, and version 2 (@modelcontextprotocol/client), which speaks 2026-07-28 as well.
// Prints what they saw; the Go test judges it.

import { readFileSync } from 'node:fs';
import { Client as Client1 } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport as Transport1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import * as auth1 from '@modelcontextprotocol/sdk/client/auth.js';
import * as v2 from '@modelcontextprotocol/client';

const values = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const tool = { name: 'people___get_profile', arguments: { personFields: 'names' } };
const identity = { name: 'story', version: '1.0.0' };

let requests = 0; // of whatever transport is in use
const counting = (url, init) => { requests++; return fetch(url, init); };
const bearer = (token) => ({ fetch: counting, ...(token ? { requestInit: { headers: { authorization: `Bearer ${token}` } } } : {}) });

// The clients, each with the versions that it can be made to speak.
const kinds = [
  ...['2025-03-26', '2025-06-18', '2025-11-25'].map((version) => ({
    client: 'sdk', version, gateway: version, connect: async (gateway, token) => {
      const client = new Client1(identity, { capabilities: { elicitation: { form: {}, url: {} } } });
      const transport = new Transport1(new URL(gateway), bearer(token));
      await client.connect(transport);
      return { client, agreed: transport.protocolVersion, call: () => client.callTool(tool) };
    },
  })),
  ...['2025-03-26', '2025-06-18', '2025-11-25'].map((version) => ({
    client: 'client, legacy', version, gateway: version, connect: async (gateway, token) => connect2(gateway, token, {}),
  })),
  { client: 'client, pinned', version: '2026-07-28', gateway: 'all', connect: (gateway, token) => connect2(gateway, token, { versionNegotiation: { mode: { pin: '2026-07-28' } } }) },
  { client: 'client, auto', version: '2026-07-28', gateway: 'all', connect: (gateway, token) => connect2(gateway, token, { versionNegotiation: { mode: 'auto' } }) },
  { client: 'client, auto', version: '2025-11-25', gateway: '2025-11-25', connect: (gateway, token) => connect2(gateway, token, { versionNegotiation: { mode: 'auto' } }) },
  { client: 'client, without elicitation', version: '2026-07-28', gateway: 'all',
    connect: (gateway, token) => connect2(gateway, token, { capabilities: {}, versionNegotiation: { mode: 'auto' } }) },
];

async function connect2(gateway, token, options, elicit) {
  const client = new v2.Client(identity, { capabilities: { elicitation: { form: {}, url: {} } }, ...options });
  if (elicit) client.setRequestHandler('elicitation/create', elicit);
  const transport = new v2.StreamableHTTPClientTransport(new URL(gateway), bearer(token));
  await client.connect(transport);
  return { client, agreed: client.getNegotiatedProtocolVersion(), call: () => client.callTool(tool, elicit ? {} : { allowInputRequired: true }) };
}

// outcome is what came of a call, whichever way it came.
async function outcome(call) {
  try {
    const result = await call();
    if (result.resultType === 'input_required') {
      const asked = Object.values(result.inputRequests)[0];
      return { kind: 'input_required', method: asked.method, mode: asked.params.mode, link: asked.params.url, state: typeof result.requestState };
    }
    return { kind: 'result', isError: result.isError ?? false, text: result.content.map((part) => part.text).join('\n') };
  } catch (problem) {
    return {
      kind: 'error', name: problem.constructor.name, code: problem.code, message: problem.message,
      link: problem.elicitations?.[0]?.url ?? problem.data?.elicitations?.[0]?.url, required: problem.data?.requiredCapabilities, cause: problem.cause?.message,
    };
  }
}

async function post(url, body) {
  const answer = await fetch(url, { method: 'POST', body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

// Without a token: what the client says, and what its own discovery makes of the challenge.
async function unauthorized(client, connect, discovery) {
  const gateway = values.gateways.all;
  const refusal = await outcome(connect);
  const challenge = await fetch(gateway, {
    method: 'POST', headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list', params: {} }),
  });
  const { resourceMetadataUrl, scope } = discovery.extractWWWAuthenticateParams(challenge);
  const resource = await discovery.discoverOAuthProtectedResourceMetadata(gateway, { resourceMetadataUrl });
  const byPath = await discovery.discoverOAuthProtectedResourceMetadata(gateway); // for clients that do not look at the challenge
  const server = await discovery.discoverAuthorizationServerMetadata(resource.authorization_servers[0]);
  return {
    client, status: challenge.status, refusal, scope, metadata: resourceMetadataUrl?.href, resource: resource.resource, byPath: byPath.resource,
    servers: resource.authorization_servers, authorize: server.authorization_endpoint,
  };
}

// A client that knows nothing but the gateway's URL signs its person in, all by itself.
async function signIn(make) {
  let link;
  const saved = {};
  const provider = {
    redirectUrl: values.return_url,
    clientMetadata: { client_name: 'story', redirect_uris: [values.return_url], token_endpoint_auth_method: 'none', grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'] },
    clientInformation: () => saved.client, saveClientInformation: (client) => { saved.client = client; },
    tokens: () => saved.tokens, saveTokens: (tokens) => { saved.tokens = tokens; },
    codeVerifier: () => saved.verifier, saveCodeVerifier: (verifier) => { saved.verifier = verifier; },
    state: () => 'state-of-the-story', redirectToAuthorization: (url) => { link = url.href; },
  };
  const first = make(provider);
  const refused = await outcome(() => first.client.connect(first.transport));
  if (!link) return { refused, signedIn: false };
  const arrival = new URL((await post(values.visit, { link })).arrival);
  await first.finish(first.transport, arrival);
  const second = make(provider);
  await second.client.connect(second.transport);
  const { tools } = await second.client.listTools();
  await second.client.close();
  return { refused, signedIn: true, scope: new URL(link).searchParams.get('scope'), resource: new URL(link).searchParams.get('resource'), tools: tools.map((t) => t.name) };
}

const report = { runs: [] };
for (const kind of kinds) {
  const connected = await kind.connect(values.gateways[kind.gateway], values.ada);
  const { tools } = await connected.client.listTools();
  report.runs.push({ client: kind.client, version: kind.version, agreed: connected.agreed, server: connected.client.getServerVersion()?.name, tools: tools.map((t) => t.name), before: await outcome(connected.call), connected });
}
const links = report.runs.map((run) => run.before.link ?? /http\S+/.exec(run.before.text ?? run.before.message)?.[0]);
for (const link of new Set(links)) { // one for each gateway, because each has a workload identity of its own
  await post(values.consent, { link, person: 'ada' });
}
report.links = new Set(links).size;
for (const run of report.runs) {
  run.after = await outcome(run.connected.call);
  await run.connected.client.close();
  delete run.connected;
}

// Stock clients that fulfil an input_required by themselves: one that says yes at once, and one whose person goes through first.
const automatic = async (elicit) => {
  const shown = [];
  const connected = await connect2(values.gateways.all, values.grace, { versionNegotiation: { mode: 'auto' } }, async (request) => { shown.push(request.params.url); return elicit(request); });
  requests = 0;
  const result = await outcome(connected.call);
  await connected.client.close();
  return { result, shown: shown.length, links: new Set(shown).size, requests };
};
report.impatient = await automatic(() => ({ action: 'accept' }));
report.declining = await automatic(() => ({ action: 'decline' }));
report.patient = await automatic(async (request) => { await post(values.consent, { link: request.params.url, person: 'grace' }); return { action: 'accept' }; });

report.unauthorized = [
  await unauthorized('sdk', () => kinds[2].connect(values.gateways.all), auth1),
  await unauthorized('client', () => connect2(values.gateways.all, undefined, { versionNegotiation: { mode: 'auto' } }), v2),
];
report.signIn = {
  sdk: await signIn((authProvider) => ({
    client: new Client1(identity), transport: new Transport1(new URL(values.gateways.scopes), { authProvider }),
    finish: (transport, arrival) => transport.finishAuth(arrival.searchParams.get('code')),
  })),
  client: await signIn((authProvider) => ({
    client: new v2.Client(identity, { versionNegotiation: { mode: 'auto' } }), transport: new v2.StreamableHTTPClientTransport(new URL(values.gateways.scopes), { authProvider }),
    finish: (transport, arrival) => transport.finishAuth(arrival.searchParams),
  })),
};
process.stdout.write(JSON.stringify(report));
