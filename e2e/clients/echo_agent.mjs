// The agent of contract_story_test.go on the published TypeScript package.
import { setTimeout as pause } from 'node:timers/promises'
import { BedrockAgentCoreApp } from 'bedrock-agentcore/runtime'

// Lets what waits go on: a stream to its next event, a task to its end. A call with
// "next" says so, when its caller has seen what there was to see.
let following = 0

async function awaitNext() {
  for (const began = Date.now(); following === 0; await pause(10)) {
    if (Date.now() - began > 120_000) throw new Error('nobody asked for what comes next')
  }
  following--
}

async function* events() {
  for (const number of [1, 2, 3]) {
    if (number > 1) await awaitNext()
    yield { number }
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
            await awaitNext()
          })()
          return '"begun"'
        }
        case 'next':
          following++
          return '"next"'
      }
    },
  },
  websocketHandler: async (socket, context) => {
    socket.on('message', (text) => socket.send(context.sessionId + ' ' + text))
  },
  config: { logging: { enabled: false } },
})

app.run({ port: Number(process.argv[2]), host: '127.0.0.1' })
