import { describe, expect, it } from 'vitest'
import {
  ANYONE,
  type Interests,
  may,
  notAllowed,
  notSignedIn,
  type Principal,
  type RouteScope,
  sightOf,
} from '../../src/access/principal.ts'
import { signSubscription, topicsOf, verifySubscription } from '../../src/access/subscription.ts'
import { SCOPES, type Scope } from '../../src/task/api-key.ts'

const withScopes = (...scopes: Scope[]): Principal => ({ ...ANYONE, name: 'shop', scopes })
const subscriber = (isView?: boolean): Principal => ({
  ...withScopes(),
  interests: { types: ['t'], ...(isView === undefined ? {} : { isView }) },
})
const ROUTES: readonly RouteScope[] = [...SCOPES, 'listen', 'open']

describe('a caller', () => {
  it.each<[string, Principal | null, RouteScope[]]>([
    ['nobody', null, ['open']],
    ['a key without scopes', withScopes(), ['open']],
    ['a key that submits', withScopes('submit'), ['submit', 'open']],
    ['a key that works', withScopes('work'), ['work', 'open']],
    // Routes that need `read` answer with less.
    ['a key that views', withScopes('view'), ['view', 'read', 'listen', 'open']],
    ['a key that reads', withScopes('read'), ['view', 'read', 'listen', 'open']],
    ['an operator', withScopes('admin'), [...ROUTES]],
    ['a subscriber', subscriber(), ['listen', 'open']],
  ])('that is %s may %j', (_, principal, scopes) => {
    const allowed = ROUTES.filter((scope) => may(principal, scope))
    expect(allowed.sort()).toEqual(scopes.sort())
  })

  it('sees contents with `read`, or with the token of a caller that does', () => {
    const sees = [withScopes('view'), withScopes('read'), withScopes('admin'), subscriber(), subscriber(true)]
    expect(sees.map((principal) => sightOf(principal).isFull)).toEqual([false, true, true, true, false])
    expect(sees.map((principal) => sightOf({ ...principal, bounds: { types: ['t'], groups: null } }).bounds)).toEqual(
      sees.map(() => ({ types: ['t'], groups: null })),
    )
  })

  it.each<[Principal, RouteScope, string, string, string]>([
    [withScopes('read', 'work'), 'admin', 'admin', 'admin', 'has read, work'],
    [withScopes('read'), 'submit', 'submit', 'submit or admin', 'has read'],
    [withScopes('submit'), 'read', 'read', 'view or read or admin', 'has submit'],
    [withScopes(), 'listen', 'read', 'view or read or admin', 'has no scope'],
  ])('%# without a scope is told which ones suffice', (principal, scope, required, sufficient, has) => {
    expect(notAllowed(principal, scope)).toMatchObject({
      code: 'forbidden',
      message: `this call needs the scope ${sufficient}, but shop (${principal.id}) ${has}: use another key`,
      details: {
        required_scope: required,
        scopes: principal.scopes,
        challenge: `Bearer realm="xqueue", error="insufficient_scope", scope="${required}"`,
      },
    })
    expect(notSignedIn().details).toEqual({ challenge: 'Bearer realm="xqueue"' })
  })
})

describe('a subscription token', () => {
  const secret = 's'.repeat(32)
  const expiresAt = (Math.floor(Date.now() / 1_000) + 3_600) * 1_000
  const by = { ...withScopes('read'), id: 'key-1', keyId: 'key-1' }
  const made = async (interests: Interests, more: Partial<Principal> = {}) =>
    signSubscription({ interests, topics: topicsOf(interests, 'x'), expiresAt }, { ...by, ...more }, secret)

  it.each<[Interests, Partial<Principal>, string[]]>([
    [
      { taskIds: ['a', 'b'], isView: false },
      {},
      ['x/tasks/a', 'x/tasks/a/progress', 'x/tasks/b', 'x/tasks/b/progress'],
    ],
    [{ types: ['t'], isView: true }, { bounds: { types: ['t'], groups: null } }, ['x/events/t/#']],
    [{ types: [], isView: false }, {}, []],
  ])('of %j with %j is what its caller becomes', async (interests, more, topics) => {
    const before = Date.now()
    const token = await made(interests, more)
    const claims = JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString())
    expect(claims.topics).toEqual(topics)
    expect(claims.acl).toEqual([
      ...topics.map((topic) => ({ permission: 'allow', action: 'subscribe', topic: `eq ${topic}` })),
      { permission: 'deny', action: 'all', topic: '#' },
    ])
    const { issuedAt, ...principal } = await verifySubscription(token, secret)
    expect(principal).toEqual({
      id: 'key-1',
      name: 'a subscriber of key-1',
      scopes: [],
      rate: null,
      keyId: 'key-1',
      expiresAt,
      interests,
      bounds: more.bounds ?? null,
    })
    expect(issuedAt).toBeGreaterThanOrEqual(before)
  })

  it('of another queue or after its end is refused', async () => {
    const token = await made({ types: ['t'] })
    const remedy = 'get a new one with POST /api/v1/subscriptions'
    const refused = (why: string) => ({ code: 'unauthorized', message: `the subscription token ${why}: ${remedy}` })
    await expect(verifySubscription(token, 'o'.repeat(32))).rejects.toMatchObject(
      refused('was not issued by this queue'),
    )
    const ended = await signSubscription({ interests: { types: [] }, topics: [], expiresAt: 1_000 }, by, secret)
    await expect(verifySubscription(ended, secret)).rejects.toMatchObject(refused('has expired'))
  })
})
