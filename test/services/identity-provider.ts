import { createServer, type Server } from 'node:http'
import { Provider } from 'oidc-provider'

export interface RunningProvider {
  issuer: string
  stop(): Promise<void>
}

/**
 * A real OpenID Connect provider on the loopback address. It takes any password of any user.
 * @param users what the claims of each user hold beside the name
 */
export async function startProvider(
  port: number,
  redirectUrl: string,
  users: Readonly<Record<string, object>>,
): Promise<RunningProvider> {
  const issuer = `http://127.0.0.1:${port}`
  const provider = new Provider(issuer, {
    clients: [{ client_id: 'xqueue', client_secret: 'a secret of the client', redirect_uris: [redirectUrl] }],
    pkce: { required: () => true },
    claims: { openid: ['sub'], profile: ['preferred_username', 'roles', 'xqueue_types', 'xqueue_groups'] },
    conformIdTokenClaims: false,
    findAccount: (_context, id) => ({
      accountId: id,
      claims: async () => ({ sub: id, preferred_username: id, ...users[id] }),
    }),
    features: { devInteractions: { enabled: true } },
    cookies: { keys: ['cookies of the provider'] },
  })
  const server: Server = createServer(provider.callback())
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  return {
    issuer,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
