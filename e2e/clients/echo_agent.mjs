// The agent of contract_story_test.go on the published TypeScript package.
import { setTimeout as pause } from 'node:timers/promises'
import { BedrockAgentCoreApp } from 'bedrock-agentcore/runtime'

async function* events() {
  for (const number of [1, 2, 3]) {
    yield { number }
    await pause(300)
  }
}

async function* brokenEvents() {
  yield { number: 1 }
  throw new Error('no luck')
}

const app = new BedrockAgentCoreApp({
  invocationHandler: {
    process: async (payload, context) => {
      switch (payload.do) {
        case 'echo':
          return {
            text: payload.text,
            session: context.sessionId,
            request: context.requestId,
            token: context.workloadAccessToken,
            callback: context.oauth2CallbackUrl,
            custom: context.headers['x-amzn-bedrock-agentcore-runtime-custom-team'],
          }
        case 'fail':
          throw new Error('no luck')
        case 'stream':
          return events()
        case 'break':
          return brokenEvents()
        case 'task': {
          app.asyncTask(async function work() {
            await pause(1000)
          })()
          return '"begun"'
        }
      }
    },
  },
  websocketHandler: async (socket, context) => {
    socket.on('message', (text) => socket.send(context.sessionId + ' ' + text))
  },
  config: { logging: { enabled: false } },
})

app.run({ port: Number(process.argv[2]), host: '127.0.0.1' })
