// The published bedrock-agentcore package for TypeScript, unmodified: its wrappers, and its server.
// Prints what came of each scene; the Go test judges it. Whoever has to consent does so while
// onAuthUrl runs, so that the first poll, after 5 seconds, finds the token.

import { readFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { withAccessToken, withApiKey, withWAT } from 'bedrock-agentcore/identity';
import { BedrockAgentCoreApp } from 'bedrock-agentcore/runtime';
import {
  BedrockAgentCoreClient, CompleteResourceTokenAuthCommand, GetWorkloadAccessTokenForJWTCommand, GetWorkloadAccessTokenForUserIdCommand,
} from '@aws-sdk/client-bedrock-agentcore';
import { BedrockAgentCoreControlClient, CreateApiKeyCredentialProviderCommand } from '@aws-sdk/client-bedrock-agentcore-control';

const values = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const client = new BedrockAgentCoreClient({});

const post = async (url, body, headers = {}) => {
  const answer = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  return answer.json();
};

// A person opens the link; answers what the application's page is told.
const visit = async (link, decision = 'allow') => Object.fromEntries(new URL((await post(values.person, { link, decision })).arrival).searchParams);

const consent = (userIdentifier, states = []) => async (link) => {
  const page = await visit(link);
  states.push(page.state);
  await client.send(new CompleteResourceTokenAuthCommand({ sessionUri: page.session_id, userIdentifier }));
};

const federation = { providerName: values.provider, scopes: ['openid', 'profile'], authFlow: 'USER_FEDERATION', callbackUrl: values.return_url };

const tokenFor = async (userId) =>
  (await client.send(new GetWorkloadAccessTokenForUserIdCommand({ workloadName: values.workload, userId }))).workloadAccessToken;

const scenes = {
  async first_consent() {
    const { workloadAccessToken: workloadIdentityToken } = await client.send(
      new GetWorkloadAccessTokenForJWTCommand({ workloadName: values.workload, userToken: values.user_token }));
    const states = [];
    const tool = withAccessToken({
      ...federation, workloadIdentityToken, onAuthUrl: consent({ userToken: values.user_token }, states), customState: 'mine', customParameters: { access_type: 'offline' },
    })(async (question, token) => [question, token]);
    return { first: await tool('who?'), again: await tool('who?'), states };
  },

  async forced() {
    const workloadIdentityToken = await tokenFor('typescript-forced');
    const options = { ...federation, workloadIdentityToken, onAuthUrl: consent({ userId: 'typescript-forced' }) };
    const before = await withAccessToken(options)(async (token) => token)();
    return { before, after: await withAccessToken({ ...options, forceAuthentication: true })(async (token) => token)() };
  },

  // One person with two accounts at the provider: each has its token, and keeps it.
  async several_accounts() {
    const workloadIdentityToken = await tokenFor('typescript-accounts');
    const token = (customParameters) =>
      withAccessToken({ ...federation, workloadIdentityToken, onAuthUrl: consent({ userId: 'typescript-accounts' }), customParameters })(async (token) => token)();
    return { unnamed: await token({ prompt: 'consent' }), work: await token({ onbehalf_account: 'work' }), again: await token({ onbehalf_account: 'work' }) };
  },

  async denied() {
    const workloadIdentityToken = await tokenFor('typescript-denied');
    const started = performance.now();
    try {
      return await withAccessToken({ ...federation, workloadIdentityToken, onAuthUrl: (link) => visit(link, 'deny') })(async (token) => token)();
    } catch (problem) {
      return { error: problem.name, message: problem.message, seconds: (performance.now() - started) / 1000 };
    }
  },

  async machine_to_machine() {
    const workloadIdentityToken = await tokenFor('typescript-machine');
    const tool = withAccessToken({ providerName: values.provider, scopes: ['profile'], authFlow: 'M2M', workloadIdentityToken })(async (token) => token);
    return [await tool(), await tool()];
  },

  // The user's own token is exchanged; for a user who is only an id there is none.
  async on_behalf_of() {
    const { workloadAccessToken: workloadIdentityToken } = await client.send(
      new GetWorkloadAccessTokenForJWTCommand({ workloadName: values.workload, userToken: values.user_token }));
    const options = { providerName: values.exchange, scopes: ['profile'], authFlow: 'ON_BEHALF_OF_TOKEN_EXCHANGE' };
    const tool = withAccessToken({ ...options, workloadIdentityToken })(async (token) => token);
    const tokens = [await tool(), await tool()];
    try {
      await withAccessToken({ ...options, workloadIdentityToken: await tokenFor('typescript-nobody') })(async (token) => token)();
      return 'a user without a token was good enough';
    } catch (problem) {
      return { tokens, refusal: problem.name };
    }
  },

  async api_key() {
    const workloadIdentityToken = await tokenFor('typescript-key');
    const control = new BedrockAgentCoreControlClient({});
    await control.send(new CreateApiKeyCredentialProviderCommand({ name: 'typescript-key', apiKey: 'key-of-the-story' }));
    return { keys: await withApiKey({ providerName: 'typescript-key', workloadIdentityToken })(async (question, key) => [question, key])('who?') };
  },

  // The package's own server, invoked as a runtime invokes it.
  async hosted() {
    const onAuthUrl = consent({ userId: 'typescript-hosted' });
    const tool = withAccessToken({ ...federation, callbackUrl: undefined, onAuthUrl })(withWAT(async (access, wat) => [access, wat]));
    const app = new BedrockAgentCoreApp({
      invocationHandler: { process: async (payload) => { const [access, wat] = await tool(); return [access, wat === payload.token]; } },
      config: { logging: { enabled: false } },
    });
    app.run({ port: Number(values.port), host: '127.0.0.1' });
    const base = `http://127.0.0.1:${values.port}`;
    for (let i = 0; i < 200; i++) {
      if (await fetch(base + '/ping').then((answer) => answer.ok, () => false)) break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const token = await tokenFor('typescript-hosted');
    const answers = {};
    for (const name of ['WorkloadAccessToken', 'X-Amz-Bedrock-AgentCore-Identity-WAT']) {
      answers[name] = await post(base + '/invocations', { token },
        { [name]: token, OAuth2CallbackUrl: values.return_url, 'X-Amzn-Bedrock-AgentCore-Runtime-Session-Id': randomUUID() });
    }
    return answers;
  },

  async not_hosted() {
    try {
      return await withAccessToken(federation)(async (token) => token)();
    } catch (problem) {
      return problem.message;
    }
  },
};

const names = Object.keys(scenes);
const results = await Promise.all(names.map((name) => scenes[name]()));
process.stdout.write(JSON.stringify(Object.fromEntries(names.map((name, i) => [name, results[i]]))), () => process.exit(0)); // the server listens on
