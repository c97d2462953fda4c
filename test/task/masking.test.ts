import { expect, it } from 'vitest'
import { withoutTokens } from '../../src/task/masking.ts'

const KEY = `xq_${'aB3-'.repeat(10)}xyz`
const SESSION = KEY.replace('xq_', 'xqs_')
const ID = '0190f5a2-7b3c-7def-8abc-0123456789ab'
const LEASE = '1'.repeat(30)
const HEAD = 'eyJhbGciOiJIUzI1NiJ9'

it.each([
  ['a key', `with ${KEY}, twice ${KEY}`, 'with [token], twice [token]'],
  ['a session', SESSION, '[token]'],
  ['a key behind a name', `my-${KEY}`, 'my-[token]'],
  ['a lease token, whose task stays', `/leases/${ID}.${LEASE}/complete`, `/leases/${ID}.[token]/complete`],
  ['a JWT', `Bearer ${HEAD}.e30.c2lnbmF0dXJl!`, 'Bearer [token]!'],
  ['a JWT behind a name', `name.${HEAD}.e30.c2lnbmF0dXJl`, 'name.[token]'],
  ['a JWT with the shortest head', 'eyJ01234567.e30.c2ln', '[token]'],
])('masks %s', (_, text, masked) => {
  expect(withoutTokens(text)).toBe(masked)
})

it.each([
  ['a short word that begins like a key', `xq_${'a'.repeat(19)}`],
  ['a word that contains the beginning of a key', `abxq_${'a'.repeat(30)}`],
  ['a number in a name', `task.${'1'.repeat(29)}`],
  ['digits alone', '1'.repeat(40)],
  ['two parts of which the first begins like a JWT', `${HEAD}.e30`],
  ['a name of three parts', 'eyJ0123456.handlers.example'],
  ['a long name of parts', `some.${'long'.repeat(10)}.name.of.a.module`],
])('leaves %s', (_, text) => {
  expect(withoutTokens(text)).toBe(text)
  expect(withoutTokens(`${KEY} ${text}`)).toBe(`[token] ${text}`)
})
