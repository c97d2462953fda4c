import { Type } from 'typebox'
import type { Access } from '../access/access.ts'
import type { ApiKey } from '../task/api-key.ts'
import { XQueueError } from '../task/errors.ts'
import { isoTime } from '../task/task-json.ts'
import { ANSWERS } from './answers.ts'
import type { Route, ServerContext } from './route.ts'

const KeyParams = Type.Object({ id: Type.String({ minLength: 1, maxLength: 100 }) })

/** /api/v1/keys: the keys and their sessions. The CLI creates keys directly on the engine. */
export function keyRoutes({ access }: ServerContext): Route[] {
  const guarded = (): Access => {
    if (access) return access
    throw new XQueueError('access_control_off', 'access control is off, so there are no keys: start with --auth')
  }
  const known = async (request: { params: unknown }): Promise<ApiKey> => {
    const { id } = request.params as { id: string }
    const key = await guarded().key(id)
    if (!key) throw new XQueueError('not_found', `key or session ${JSON.stringify(id)} not found: see /api/v1/keys`)
    return key
  }
  return [
    {
      method: 'GET',
      url: '/api/v1/keys',
      scope: 'admin',
      whole: true,
      summary: 'List the keys and their sessions',
      answers: ANSWERS.keys,
      refusals: ['access_control_off'],
      handler: async () => {
        const keys = (await guarded().keys()).map(keyJson)
        return { keys, count: keys.length }
      },
    },
    {
      method: 'DELETE',
      url: '/api/v1/keys/:id',
      scope: 'admin',
      whole: true,
      summary: 'Revoke a key with all its sessions and tokens, or one session',
      params: KeyParams,
      answers: ANSWERS.key,
      refusals: ['not_found', 'access_control_off'],
      handler: async (request) => {
        const key = await known(request)
        await guarded().revoke(key)
        return keyJson(key)
      },
    },
    {
      method: 'DELETE',
      url: '/api/v1/keys/:id/tokens',
      scope: 'admin',
      whole: true,
      summary: 'Revoke the subscription tokens that a key and its sessions have created until now',
      params: KeyParams,
      answers: ANSWERS.key,
      refusals: ['not_found', 'access_control_off'],
      handler: async (request) => {
        const key = await known(request)
        await guarded().revokeTokens(key)
        return keyJson((await guarded().key(key.id)) ?? key)
      },
    },
  ]
}

/** All fields except the hash. */
function keyJson({ id, name, scopes, rate, createdAt, expiresAt, tokensFrom, session }: ApiKey) {
  return {
    id,
    kind: session ? 'session' : 'key',
    opened_with: session?.of ?? null,
    name,
    scopes,
    rate: rate && { max: rate.max, per: rate.perMs / 1_000 },
    created_at: isoTime(createdAt),
    expires_at: isoTime(expiresAt),
    tokens_valid_from: isoTime(tokensFrom ?? null),
  }
}
