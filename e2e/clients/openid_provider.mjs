// The OpenID provider of npm's oidc-provider, with its own sign-in and consent
// pages, on the port named first. Further words turn things on: "par" requires
// pushed authorization requests.
import Provider from 'oidc-provider'

const [port, ...wants] = process.argv.slice(2)
const issuer = `http://127.0.0.1:${port}`

const provider = new Provider(issuer, {
  claims: { openid: ['sub'], profile: ['name'] },
  scopes: ['openid', 'offline_access', 'profile'],
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, name: `Person ${id}` }) }),
  ttl: { AccessToken: 3600, ClientCredentials: 3600, RefreshToken: 3600, Grant: 3600, Session: 3600, Interaction: 600, IdToken: 3600 },
  rotateRefreshToken: true,
  pkce: { required: () => true },
  clientDefaults: { grant_types: ['authorization_code'] },
  features: {
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    registration: { enabled: true, initialAccessToken: false },
    pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: wants.includes('par') },
  },
})
provider.listen(Number(port), '127.0.0.1', () => console.log(`ready at ${issuer}`))
