// The AWS SDK for JavaScript: the steps of operations.json.

import { readFileSync } from 'node:fs';
import * as control from '@aws-sdk/client-bedrock-agentcore-control';
import * as data from '@aws-sdk/client-bedrock-agentcore';

const services = {
  control: { module: control, Client: control.BedrockAgentCoreControlClient },
  data: { module: data, Client: data.BedrockAgentCoreClient },
};

const hour = 3_600_000;
const mischief = {
  'wrong secret': { secretAccessKey: 'x'.repeat(40) },
  'unknown key': { accessKeyId: 'AKIAUNKNOWNUNKNOWN00' },
  'session token': { sessionToken: "somebody else's" },
};
const clocks = { 'slow clock': -hour, 'fast clock': hour, 'slow clock, corrected': -hour };

// spoil runs on the request as it leaves, after it was signed.
const spoil = {
  unsigned: (request) => delete request.headers.authorization,
  'altered body': (request) => {
    request.body = request.body.replace('agent-1', 'agent-2');
  },
};

const clients = { control: new services.control.Client({ maxAttempts: 1 }), data: new services.data.Client({ maxAttempts: 1 }) };

async function clientFor(service, as) {
  if (!as) return clients[service];
  const own = await clients[service].config.credentials();
  const keys = { accessKeyId: own.accessKeyId, secretAccessKey: own.secretAccessKey };
  const client = new services[service].Client({
    maxAttempts: as === 'slow clock, corrected' ? 2 : 1,
    credentials: { ...keys, ...mischief[as] },
    systemClockOffset: clocks[as] ?? 0,
  });
  if (spoil[as]) {
    client.middlewareStack.add((next) => (args) => { spoil[as](args.request); return next(args); }, { step: 'deserialize', priority: 'low', name: 'spoil' });
  }
  return client;
}

// plain marks the times that the SDK parsed.
function plain(value) {
  if (value instanceof Date) return { $time: value.toISOString() };
  if (Array.isArray(value)) return value.map(plain);
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).filter(([name, v]) => name !== '$metadata' && v !== undefined).map(([name, v]) => [name, plain(v)]));
  }
  return value;
}

async function call(service, operation, input, pages, as) {
  const { module } = services[service];
  if (!module[`${operation}Command`]) return { skipped: true }; // newer than this release
  const client = await clientFor(service, as);
  try {
    if (pages) {
      const found = [];
      for await (const page of module[`paginate${operation}`]({ client, pageSize: 1 }, input)) found.push(page);
      const items = found.flatMap((page) => page[pages.items].map((item) => item[pages.key]));
      return { status: found[0].$metadata.httpStatusCode, requestId: found[0].$metadata.requestId, pages: found.length, items, output: plain(found[0]) };
    }
    const output = await client.send(new module[`${operation}Command`](input));
    return { status: output.$metadata.httpStatusCode, requestId: output.$metadata.requestId, output: plain(output) };
  } catch (problem) {
    if (!problem.$metadata) throw problem;
    return {
      status: problem.$metadata.httpStatusCode, requestId: problem.$metadata.requestId, error: problem.name, message: problem.message,
      modelled: Boolean(module[problem.name]) && problem instanceof module[problem.name], reason: problem.reason, fields: (problem.fieldList ?? []).map((field) => field.name),
    };
  }
}

function filled(value, values) {
  if (typeof value === 'string') return value.replace(/\$\{(\w+)\}/g, (_, name) => values[name]);
  if (Array.isArray(value)) return value.map((v) => filled(v, values));
  if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([name, v]) => [name, filled(v, values)]));
  return value;
}

const { steps } = JSON.parse(readFileSync(new URL('operations.json', import.meta.url), 'utf8'));
const values = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const results = [];
for (const [number, step] of steps.entries()) {
  try {
    if (step.person) {
      const answer = await fetch(values.person, { method: 'POST', body: JSON.stringify(filled(step.person, values)) });
      if (!answer.ok) throw new Error(`the person could not go through: ${answer.status}`);
      values.came_back = await answer.text();
      results.push({});
      continue;
    }
    const result = await call(step.service, step.operation, filled(step.input ?? {}, values), step.pages, step.as);
    for (const [name, member] of Object.entries(step.save ?? {})) values[name] = result.output[member];
    results.push(result);
  } catch (problem) { // what is left cannot go on: say where it ended
    results.push({ broken: `step ${number}: ${problem.name}: ${problem.message}` });
    break;
  }
}
process.stdout.write(JSON.stringify({ results, values }));
