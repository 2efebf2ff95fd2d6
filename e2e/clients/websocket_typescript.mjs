// Opens an agent's websocket with what the published TypeScript package signs.
//
// Arguments: the platform's URL, the runtime's ARN, the session's id. The result is
// printed as JSON: what the agent answered, by way of signing. Of a platform that is
// not on a protocol's own port the package leaves the port out, in what it signs and
// in the presigned URL: there it is put back.

import { RuntimeClient } from 'bedrock-agentcore/runtime'
import WebSocket from 'ws'

const [platform, runtimeArn, sessionId] = process.argv.slice(2)
process.env.BEDROCK_AGENTCORE_DATA_PLANE_ENDPOINT = platform
const client = new RuntimeClient({ region: 'us-east-1' })

function talk(address, headers) {
  const url = new URL(address.replace(/^(wss|https|http):/, 'ws:'))
  url.port = new URL(platform).port
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, { headers })
    socket.on('open', () => socket.send('hello'))
    socket.on('message', data => { resolve(data.toString()); socket.close() })
    socket.on('error', reject)
    socket.on('unexpected-response', (_, response) => reject(new Error(`status ${response.statusCode}`)))
  })
}

const signed = await client.generateWsConnection({ runtimeArn, sessionId, endpointName: 'DEFAULT' })
console.log(JSON.stringify({
  presigned: await talk(await client.generatePresignedUrl({ runtimeArn, sessionId, endpointName: 'DEFAULT', expires: 60 })),
  headers: await talk(signed.url, signed.headers),
}))
