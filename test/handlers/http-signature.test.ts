import { Webhook } from 'standardwebhooks'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { http } from '../../handlers/http.ts'
import { snippetsOf } from '../fixtures/snippets.ts'
import { signatureOf, useTarget } from './http-target.ts'
import { ID, run } from './run-handler.ts'

beforeEach(() => {
  for (const name of ['SMTP_URL', 'OUTBOX', 'HTTP_ALLOW_PRIVATE', 'HTTP_SECRET', 'HTTP_SECRETS']) {
    vi.stubEnv(`XQUEUE_${name}`, undefined)
  }
})
afterEach(() => vi.unstubAllEnvs())

const target = useTarget()

describe('the http handler', () => {
  describe('signs', () => {
    it.each([['text'], [{ a: 'ü' }], [undefined]])('the body %j together with the time', async (body) => {
      vi.stubEnv('XQUEUE_HTTP_SECRET', 's3cret')
      await run(http, { url: target.base, ...(body === undefined ? {} : { body }) })
      const [call] = target.calls
      expect(call!.headers['x-xqueue-timestamp']).toMatch(/^\d{10,}$/)
      expect(call!.headers['x-xqueue-signature']).toBe(signatureOf(call!, 's3cret'))
    })

    it('and replaces a signature in the payload', async () => {
      vi.stubEnv('XQUEUE_HTTP_SECRET', 's3cret')
      await run(http, { url: target.base, headers: { 'X-XQueue-Signature': 'forged', 'X-XQueue-Timestamp': '1' } })
      expect(target.calls[0]!.headers['x-xqueue-timestamp']).not.toBe('1')
      expect(target.calls[0]!.headers['x-xqueue-signature']).toBe(signatureOf(target.calls[0]!, 's3cret'))
    })

    it('the method and the URL, so that it matches no other', async () => {
      vi.stubEnv('XQUEUE_HTTP_SECRET', 's3cret')
      await run(http, { url: `${target.base}/a?b=c`, method: 'PUT', body: 'x' })
      const [call] = target.calls
      const { 'x-xqueue-signature': signature } = call!.headers
      expect(signature).toBe(signatureOf(call!, 's3cret'))
      for (const other of [{ method: 'POST' }, { url: '/a' }, { url: '/a?b=c.' }, { body: 'y' }]) {
        expect(signatureOf({ ...call!, ...other }, 's3cret')).not.toBe(signature)
      }
    })

    it.each(['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'a custom secret'])(
      'as Standard Webhooks specifies, so that its library accepts it: %s',
      async (secret) => {
        vi.stubEnv('XQUEUE_HTTP_SECRET', secret)
        await run(http, { url: target.base, body: { a: 'ü' }, headers: { 'Webhook-Signature': 'v1,forged' } })
        const { headers, body } = target.calls[0]!
        const receiver = new Webhook(secret, secret.startsWith('whsec_') ? {} : { format: 'raw' })
        expect(receiver.verify(body, headers as Record<string, string>)).toEqual({ a: 'ü' })
        expect(headers['webhook-id']).toBe(ID)
        expect(() => receiver.verify(`${body} `, headers as Record<string, string>)).toThrow()
      },
    )

    it('so that the receiver in docs/security.md accepts it, and nothing else', async () => {
      const { code } = snippetsOf('docs/security.md').find(({ code }) => code.includes('isFromXQueue'))!
      const { isFromXQueue } = await import(`data:text/javascript,${encodeURIComponent(code)}`)
      vi.stubEnv('XQUEUE_HTTP_SECRET', 's3cret')
      await run(http, { url: `${target.base}/a?b=c`, body: { a: 'ü' } })
      const { method, url, headers, body } = target.calls[0]!
      const full = `http://${headers.host}${url}`
      expect(isFromXQueue('s3cret', method, full, headers, body)).toBe(true)
      expect(isFromXQueue('another', method, full, headers, body)).toBe(false)
      expect(isFromXQueue('s3cret', 'PUT', full, headers, body)).toBe(false)
      expect(isFromXQueue('s3cret', method, `${full}&d=e`, headers, body)).toBe(false)
      expect(isFromXQueue('s3cret', method, full, { ...headers, 'x-xqueue-timestamp': '1' }, body)).toBe(false)
      expect(isFromXQueue('s3cret', method, full, {}, body)).toBe(false)
    })

    it('with the secret of the destination if it has one', async () => {
      vi.stubEnv('XQUEUE_HTTP_SECRET', 'for all others')
      vi.stubEnv('XQUEUE_HTTP_SECRETS', `${target.base}=of-this-one\nhttps://target.other.example=of-another`)
      await run(http, { url: `${target.base}/x` })
      await run(http, { url: target.other })
      expect(target.calls.map(({ headers }) => headers['x-xqueue-signature'])).toEqual([
        signatureOf(target.calls[0]!, 'of-this-one'),
        signatureOf(target.calls[1]!, 'for all others'),
      ])
    })

    it('nothing without a secret', async () => {
      await run(http, { url: target.base, body: 'x' })
      expect(Object.keys(target.calls[0]!.headers).filter((name) => /signature|timestamp/.test(name))).toEqual([])
    })
  })
})
