// An agent that can do simple maths and tell the weather, on the published bedrock-agentcore
// package. It runs its own tool loop against the chat-completions API.
//
// The model's key is in no file and no variable: it comes from a credential provider, at the first call.
//
//	OPENAI_PROVIDER              openai (default) or azure
//	OPENAI_BASE_URL              of another server that speaks the chat-completions API
//	AZURE_OPENAI_ENDPOINT, AZURE_OPENAI_API_VERSION, AZURE_OPENAI_DEPLOYMENT
import { withApiKey } from 'bedrock-agentcore/identity'
import { BedrockAgentCoreApp } from 'bedrock-agentcore/runtime'
import { EnvHttpProxyAgent, setGlobalDispatcher } from 'undici'

setGlobalDispatcher(new EnvHttpProxyAgent()) // Node's fetch does not look at HTTPS_PROXY by itself

type ToolCall = { id: string; type: 'function'; function: { name: string; arguments: string } }
type Message = { role: 'system' | 'user' | 'assistant' | 'tool'; content: string | null; tool_calls?: ToolCall[]; tool_call_id?: string }

const system: Message = {
  role: 'system',
  content: 'You are a helpful assistant. You can do simple maths calculations, and you can tell the weather.',
}

// calculate reads an expression by itself: nothing that a model writes is run as code.
function calculate(expression: string): number {
  const tokens = expression.match(/\d+(\.\d+)?|[-+*/()]|\S/g) ?? []
  const sum = (): number => {
    let value = product()
    while (tokens[0] === '+' || tokens[0] === '-') value = tokens.shift() === '+' ? value + product() : value - product()
    return value
  }
  const product = (): number => {
    let value = factor()
    while (tokens[0] === '*' || tokens[0] === '/') value = tokens.shift() === '*' ? value * factor() : value / factor()
    return value
  }
  const factor = (): number => {
    const token = tokens.shift() ?? ''
    if (token === '-') return -factor()
    if (token === '(') {
      const value = sum()
      if (tokens.shift() !== ')') throw new Error('a parenthesis is not closed')
      return value
    }
    if (!/^\d/.test(token)) throw new Error('only numbers, +, -, *, / and parentheses')
    return Number(token)
  }
  const value = sum()
  if (tokens.length > 0 || !Number.isFinite(value)) throw new Error(`${expression} has no value`)
  return value
}

const tools: Record<string, { description: string; argument: string; call: (argument: string) => string }> = {
  calculator: {
    description: 'Calculates an arithmetic expression with +, -, *, / and parentheses.',
    argument: 'expression',
    call: (expression) => String(calculate(expression)),
  },
  weather: { description: 'Tells the weather.', argument: 'place', call: () => 'sunny' },
}

const offered = Object.entries(tools).map(([name, { description, argument }]) => ({
  type: 'function',
  function: { name, description, parameters: { type: 'object', properties: { [argument]: { type: 'string' } } } },
}))

function use(call: ToolCall): Message {
  let content: string
  try {
    const tool = tools[call.function.name]
    if (!tool) throw new Error(`there is no tool called ${call.function.name}`)
    content = tool.call(String(JSON.parse(call.function.arguments || '{}')[tool.argument] ?? ''))
  } catch (problem) {
    content = `error: ${(problem as Error).message}` // the model's to read
  }
  return { role: 'tool', tool_call_id: call.id, content }
}

// The key is fetched once, however many calls come first; a failure is not remembered.
let key: Promise<string> | undefined
const fetchKey = withApiKey({ providerName: 'openai-apikey-provider' })(async (apiKey: string) => apiKey)

async function complete(messages: Message[]): Promise<Message> {
  const apiKey = await (key ??= fetchKey().catch((problem: unknown) => {
    key = undefined
    throw problem
  }))
  const env = process.env
  const azure = env.OPENAI_PROVIDER?.toLowerCase() === 'azure'
  const model = (azure && env.AZURE_OPENAI_DEPLOYMENT) || 'gpt-4.1-mini'
  const url = azure
    ? `${env.AZURE_OPENAI_ENDPOINT}/openai/deployments/${model}/chat/completions?api-version=${env.AZURE_OPENAI_API_VERSION}`
    : `${env.OPENAI_BASE_URL ?? 'https://api.openai.com/v1'}/chat/completions`
  const answer = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(azure ? { 'api-key': apiKey } : { authorization: `Bearer ${apiKey}` }) },
    body: JSON.stringify({ model, messages: [system, ...messages], tools: offered, max_tokens: 32000, temperature: 0.7 }),
  })
  if (!answer.ok) throw new Error(`the model answered ${answer.status}`)
  return ((await answer.json()) as { choices: { message: Message }[] }).choices[0].message
}

const conversations = new Map<string, Message[]>() // of a session; a runtime gives each a process of its own, so there is one

async function converse(session: string, prompt: string): Promise<string> {
  const messages = [...(conversations.get(session) ?? []), { role: 'user', content: prompt } satisfies Message]
  for (let round = 0; round < 10; round++) {
    const said = await complete(messages)
    messages.push(said)
    if (!said.tool_calls?.length) {
      conversations.set(session, messages)
      return said.content ?? ''
    }
    messages.push(...said.tool_calls.map(use))
  }
  throw new Error('the model still asked for tools after 10 rounds')
}

new BedrockAgentCoreApp({
  invocationHandler: {
    process: async (payload, context) => {
      try {
        return await converse(context.sessionId, String((payload as { prompt?: string }).prompt))
      } catch (problem) {
        console.error((problem as Error).message) // to callers who take events, the package's server does not say it
        throw problem
      }
    },
  },
}).run({ port: Number(process.env.PORT ?? 8080) })
