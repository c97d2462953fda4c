import { describe, expect, it } from 'vitest'
import { boundsIn, scopesIn } from '../../src/access/claims.ts'
import type { Scope } from '../../src/task/api-key.ts'

describe('the scopes of claims', () => {
  const roles = new Map<string, Scope[]>([
    ['ops', ['admin']],
    ['dev', ['read', 'submit']],
    ['read', ['view']],
  ])

  it.each<[object, string, boolean, Scope[]]>([
    [{ scope: 'openid read xqueue:submit' }, 'scope', false, ['read', 'submit']],
    [{ scope: ['read', 'read', 'xqueue:read', 7] }, 'scope', false, ['read']],
    [{ scope: 'xqueue:xqueue:read xqueue' }, 'scope', false, []],
    [{ scope: null }, 'scope', false, []],
    [{}, 'scope', false, []],
    [{ roles: ['dev', 'read', 'work'] }, 'roles', true, ['read', 'submit', 'view', 'work']],
    [{ realm: { roles: ['ops'] } }, 'realm.roles', true, ['admin']],
    [{ realm: 'ops' }, 'realm.roles', true, []],
    [{ realm: null }, 'realm.roles', true, []],
    // A claim with the exact name comes first.
    [{ 'https://x.example/roles': 'ops' }, 'https://x.example/roles', true, ['admin']],
    [{ 'a.b': 'read', a: { b: 'ops' } }, 'a.b', false, ['read']],
    [Object.create({ scope: 'admin' }), 'scope', false, []],
    [{ a: Object.create({ b: 'admin' }) }, 'a.b', false, []],
  ])('%j in %s, with roles %j, are %j', (claims, path, hasRoles, scopes) => {
    expect(scopesIn(claims, path, hasRoles ? roles : undefined)).toEqual(scopes)
  })
})

describe('the bounds of claims', () => {
  it('are those of the lists, and none without both', () => {
    expect(boundsIn({})).toBeNull()
    expect(boundsIn({ xqueue_types: ['a.*'] })).toEqual({ types: ['a.*'], groups: null })
    expect(boundsIn({ xqueue_groups: ['g'] })).toEqual({ types: null, groups: ['g'] })
  })

  it.each<[object, string]>([
    [{ xqueue_types: 'a' }, `the token's claim "xqueue_types" must be a list of names`],
    [{ xqueue_groups: [7] }, `the token's claim "xqueue_groups" must be a list of names`],
    [{ xqueue_types: null }, `the token's claim "xqueue_types" must be a list of names`],
    [{ xqueue_types: [] }, `the token's claim xqueue_types has 0 names: use 1 to 100`],
  ])('%j are refused', (claims, message) => {
    expect(() => boundsIn(claims)).toThrow(expect.objectContaining({ code: 'unauthorized', message }))
  })
})
