import type { Access } from '../access/access.ts'
import type { ApiKey } from '../task/api-key.ts'
import { SCOPES } from '../task/api-key.ts'
import { XQueueError } from '../task/errors.ts'
import { Type } from '../task/json-schema.ts'
import { isoTime } from '../task/task-json.ts'
import { listOf, nullable, orNull, time, timeOrNull, titled } from './fields.ts'
import type { Route, ServerContext } from './route.ts'
import { RateSchema } from './type-json.ts'

const KeyParams = Type.Object({ id: Type.String({ minLength: 1, maxLength: 100 }) })

const Key = titled(
  'ApiKey',
  Type.Object({
    id: Type.String(),
    kind: Type.Enum(['key', 'session'], { title: 'ApiKeyKind' }),
    opened_with: orNull('string', { description: 'Session: id of its key; null for a token of an issuer' }),
    name: Type.String(),
    scopes: Type.Array(Type.Enum([...SCOPES], { title: 'Scope' })),
    rate: nullable(RateSchema, 'Maximum rate of calls; null: no limit'),
    created_at: time('Time of creation'),
    expires_at: timeOrNull('Time of expiry'),
    tokens_valid_from: timeOrNull('Subscription tokens created before this time are revoked'),
  }),
)

/** /api/v1/keys: the keys and their sessions. The CLI creates keys directly on the store. */
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
      answers: { 200: listOf('keys', Key, 'ApiKeyList') },
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
      answers: { 200: Key },
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
      answers: { 200: Key },
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
