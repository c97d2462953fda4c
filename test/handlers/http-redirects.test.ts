import type { RequestListener } from 'node:http'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { http } from '../../handlers/http.ts'
import { signatureOf, useTarget } from './http-target.ts'
import { effectOf, KIB, run } from './run-handler.ts'

beforeEach(() => {
  for (const name of ['SMTP_URL', 'OUTBOX', 'HTTP_ALLOW_PRIVATE', 'HTTP_SECRET', 'HTTP_SECRETS']) {
    vi.stubEnv(`XQUEUE_${name}`, undefined)
  }
})
afterEach(() => vi.unstubAllEnvs())

const target = useTarget()

describe('the http handler', () => {
  describe('follows redirects', () => {
    const countdown: RequestListener = (request, response) => {
      const left = Number(request.url!.slice(1))
      if (left > 0) response.writeHead(302, { Location: `/${left - 1}` })
      response.end('arrived')
    }

    it('up to five, and returns the final URL', async () => {
      target.answer = countdown
      expect(await run(http, { url: `${target.base}/5` })).toMatchObject({ url: `${target.base}/0`, body: 'arrived' })
    })

    it('but not six', async () => {
      target.answer = countdown
      const call = run(http, { url: `${target.base}/6` })
      await expect(call).rejects.toThrow('redirected more than 5 times')
      expect(await effectOf(call)).toBe('fails for good')
      expect(target.calls.map(({ url }) => url)).toEqual(['/6', '/5', '/4', '/3', '/2', '/1'])
    })

    it.each([
      [301, 'POST', 'GET'],
      [302, 'POST', 'GET'],
      [303, 'POST', 'GET'],
      [303, 'PUT', 'GET'],
      [303, 'DELETE', 'GET'],
    ] as const)('%i of a %s with %s and without the body', async (status, method, next) => {
      target.redirects(status, '/next')
      await run(http, { url: target.base, method, body: { a: 1 }, headers: { 'content-language': 'en', 'x-a': 'b' } })
      expect(target.calls[1]).toMatchObject({ method: next, url: '/next', body: '', headers: { 'x-a': 'b' } })
      expect(Object.keys(target.calls[1]!.headers).filter((name) => /^content-(type|language)$/.test(name))).toEqual([])
    })

    it.each([
      [301, 'PUT'],
      [302, 'PATCH'],
      [307, 'POST'],
      [308, 'POST'],
      [308, 'DELETE'],
    ] as const)('%i of a %s with the same method and body', async (status, method) => {
      target.redirects(status, '/next')
      await run(http, { url: target.base, method, body: { a: 1 } })
      expect(target.calls[1]).toMatchObject({ method, url: '/next', body: '{"a":1}' })
      expect(target.calls[1]!.headers['content-type']).toBe('application/json')
    })

    it('of HEAD with HEAD', async () => {
      target.redirects(303, '/next')
      await run(http, { url: target.base, method: 'HEAD' })
      expect(target.calls).toMatchObject([{ method: 'HEAD' }, { method: 'HEAD', url: '/next' }])
    })

    const secrets = { Authorization: 'Bearer hush', COOKIE: 'a=hush', 'Proxy-Authorization': 'Basic hush' }

    it('with its secrets to the same origin', async () => {
      target.redirects(307, '/next')
      await run(http, { url: target.base, headers: secrets })
      expect(target.calls[1]!.headers).toMatchObject({ authorization: 'Bearer hush', cookie: 'a=hush' })
    })

    it('without its secrets to another origin', async () => {
      vi.stubEnv('XQUEUE_HTTP_SECRET', 's3cret')
      target.redirects(307, `${target.other}/next`)
      await run(http, { url: target.base, headers: { ...secrets, 'x-a': 'b' }, body: 'x' })
      expect(target.calls[1]).toMatchObject({ url: '/next', body: 'x', headers: { 'x-a': 'b' } })
      expect(JSON.stringify(target.calls[1])).not.toContain('hush')
      expect(target.calls[1]!.headers['x-xqueue-signature']).toBeUndefined()
    })

    it('and does not send the secrets again when a third hop returns to the first origin', async () => {
      target.answer = (request, response) => {
        const location = { '/1': `${target.other}/2`, '/2': `${target.base}/3` }[request.url!]
        response.writeHead(location ? 307 : 200, location ? { Location: location } : {}).end()
      }
      await run(http, { url: `${target.base}/1`, headers: secrets })
      expect(target.calls.map(({ url }) => url)).toEqual(['/1', '/2', '/3'])
      expect(JSON.stringify(target.calls.slice(1))).not.toContain('hush')
    })

    it('to another origin with the host name of that origin', async () => {
      target.redirects(307, `${target.other}/next`)
      await run(http, { url: target.base })
      expect(target.calls.map(({ headers }) => headers.host)).toEqual([
        new URL(target.base).host,
        new URL(target.other).host,
      ])
    })

    it.each(['Host', 'Transfer-Encoding', 'Connection', 'content-length'])(
      'but drops the header %s of the submitter',
      async (name) => {
        await expect(run(http, { url: target.base, headers: { [name]: 'x' } })).rejects.toThrow(
          `headers.${name.toLowerCase()} cannot be set by a task`,
        )
        expect(target.calls).toEqual([])
      },
    )

    it('with a signature of the body that is sent', async () => {
      vi.stubEnv('XQUEUE_HTTP_SECRET', 's3cret')
      target.redirects(303, '/next')
      await run(http, { url: target.base, body: 'x' })
      expect(target.calls.map(({ body }) => body)).toEqual(['x', ''])
      expect(target.calls.map(({ headers }) => headers['x-xqueue-signature'])).toEqual(
        target.calls.map((call) => signatureOf(call, 's3cret')),
      )
    })

    it.each(['ftp://example.com/', 'file:///etc/passwd'])('but not to %s', async (location) => {
      target.redirects(302, location)
      expect(await effectOf(run(http, { url: target.base }))).toBe('fails for good')
    })

    it('but not to an invalid URL', async () => {
      target.redirects(302, 'http://[')
      expect(await effectOf(run(http, { url: target.base }))).toBe('fails for good')
    })

    it('but not without a Location', async () => {
      target.answers(302)
      expect(await effectOf(run(http, { url: target.base }))).toBe('fails for good')
    })

    it('past a body that never ends', async () => {
      target.answer = (_request, response) => {
        if (target.calls.length > 1) return response.end('arrived')
        response.writeHead(302, { Location: '/next' })
        const fill = () => {
          while (response.writable && response.write('x'.repeat(KIB)));
        }
        return response.on('drain', fill) && fill()
      }
      expect(await run(http, { url: target.base })).toMatchObject({ body: 'arrived' })
    })
  })

  describe('sends credentials of the URL', () => {
    const withUser = (user: string) => target.base.replace('//', `//${user}@`)
    const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`

    it.each([
      ['ann:secret', 'ann:secret'],
      ['ann', 'ann:'],
      ['gr%C3%BC%C3%9Fe:p%40ss%3A', 'grüße:p@ss:'],
    ])('%s as Basic authentication, and never shows them', async (user, sent) => {
      const result = await run(http, { url: `${withUser(user)}/a` })
      expect(target.calls[0]!.headers.authorization).toBe(basic(sent))
      expect(result.url).toBe(`${target.base}/a`)
    })

    it('unless the headers have their own', async () => {
      const headers = { Authorization: 'Bearer token' }
      const result = await run(http, { url: withUser('ann:secret'), headers })
      expect([target.calls[0]!.headers.authorization, result.url]).toEqual(['Bearer token', `${target.base}/`])
    })

    it('to no other origin', async () => {
      target.redirects(302, `${target.other}/b`)
      await run(http, { url: withUser('ann:secret') })
      expect(target.calls.map(({ headers }) => headers.authorization)).toEqual([basic('ann:secret'), undefined])
    })

    it('and refuses a user name that Basic authentication cannot represent', async () => {
      expect(await effectOf(run(http, { url: withUser('a%3Ab:c') }))).toBe('fails for good')
      expect(target.calls).toEqual([])
    })

    it.each([`not a url //ann:secret@host`, `http://ann:secret@[bad`])('but not in errors: %s', async (url) => {
      await expect(run(http, { url })).rejects.toThrow(/^(?!.*secret)/s)
    })
  })
})
