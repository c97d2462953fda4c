import { describe, expect, it } from 'vitest'
import {
  countsSession,
  isOwnOrigin,
  pendingLoginCookie,
  pendingLoginOf,
  sessionCookie,
  sessionOf,
} from '../../src/access/session-cookie.ts'

describe('the cookie of a session', () => {
  it.each([
    [false, '', 'xqueue_session=xqs_a; Path=/; HttpOnly; SameSite=Strict; Max-Age=60'],
    [true, '/queue', 'xqueue_session=xqs_a; Path=/queue/; HttpOnly; SameSite=Strict; Max-Age=60; Secure'],
  ])('with TLS %j and below %j is %s', (isSecure, basePath, cookie) => {
    expect(sessionCookie('xqs_a', 60, isSecure, basePath)).toBe(cookie)
    expect(sessionOf(cookie)).toBe('xqs_a')
  })

  it.each([
    [undefined, null],
    ['', null],
    ['other=1', null],
    ['xqueue_session=', null],
    ['not_xqueue_session=xqs_a', null],
    ['xqueue_session=a b', null],
    [`xqueue_session=${'a'.repeat(101)}`, null],
    [`xqueue_session=${'a'.repeat(100)}`, 'a'.repeat(100)],
    ['other=1; xqueue_session=xqs_a', 'xqs_a'],
    ['other=1;xqueue_session=xqs_a;more=2', 'xqs_a'],
  ])('in the header %j is %j', (header, token) => expect(sessionOf(header)).toBe(token))
})

describe('the cookie of a login at the identity provider', () => {
  it.each([
    [false, '', '; Path=/; HttpOnly; SameSite=Lax; Max-Age=600'],
    [true, '/queue', '; Path=/queue/; HttpOnly; SameSite=Lax; Max-Age=600; Secure'],
  ])('with TLS %j and below %j holds its text for ten minutes', (isSecure, basePath, end) => {
    const text = '{"state":"ü"}'
    const cookie = pendingLoginCookie(text, isSecure, basePath)
    expect(cookie.slice(cookie.indexOf(';'))).toBe(end)
    expect(pendingLoginOf(cookie)).toBe(text)
    expect(pendingLoginOf(`a=1; ${cookie}`)).toBe(text)
  })

  it('is removed by one that is empty', () => {
    const removed = pendingLoginCookie(null, false, '')
    expect(removed).toBe('xqueue_login=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0')
    expect([pendingLoginOf(removed), pendingLoginOf(undefined), pendingLoginOf('login=YQ')]).toEqual([null, null, null])
  })
})

describe('a request', () => {
  it.each([
    ['https://queue.example', 'queue.example', true],
    ['http://queue.example:7070', 'queue.example:7070', true],
    ['https://queue.example', 'queue.example:7070', false],
    ['https://other.example', 'queue.example', false],
    ['null', 'queue.example', false],
    ['', '', false],
    [undefined, 'queue.example', false],
    ['https://queue.example', undefined, false],
    [undefined, undefined, false],
  ])('from %j to %j is of an own page: %j', (origin, host, isOwn) => {
    expect(isOwnOrigin(origin, host)).toBe(isOwn)
    const site = { 'sec-fetch-site': 'cross-site' }
    if (origin !== undefined) expect(countsSession({ origin, host, ...site } as never)).toBe(isOwn)
  })

  it.each([
    [undefined, true],
    ['same-origin', true],
    ['none', true],
    ['same-site', false],
    ['cross-site', false],
  ])('without an origin, from %j, counts the session: %j', (site, counts) => {
    expect(countsSession({ host: 'queue.example', ...(site && { 'sec-fetch-site': site }) })).toBe(counts)
  })
})
