import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { SMTPServer, type SMTPServerOptions } from 'smtp-server'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { email } from '../../handlers/email.ts'
import { DoNotRetry } from '../../src/task/retry.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { closedPort, effectOf, ID, portOf, run } from './run-handler.ts'

beforeEach(() => {
  for (const name of ['SMTP_URL', 'OUTBOX', 'HTTP_ALLOW_PRIVATE', 'HTTP_SECRET', 'HTTP_SECRETS']) {
    vi.stubEnv(`XQUEUE_${name}`, undefined)
  }
})
afterEach(() => vi.unstubAllEnvs())

describe('the email handler', () => {
  const message = { to: 'ann@example.com', from: 'Bob <bob@example.com>', subject: 'Hello', text: 'It works.' }
  let folder: string
  let smtp: SMTPServer | undefined

  beforeEach(() => {
    folder = temporaryFolder()
    vi.stubEnv('XQUEUE_OUTBOX', join(folder, 'outbox'))
  })
  afterEach(async () => {
    const server = smtp
    smtp = undefined
    if (server) await new Promise<void>((closed) => server.close(closed))
  })

  describe('with an SMTP server', () => {
    let mails: { from: string; to: string[]; text: string }[]

    async function serve(options: SMTPServerOptions = {}, login = ''): Promise<void> {
      mails = []
      smtp = new SMTPServer({
        authOptional: true,
        disabledCommands: ['STARTTLS'],
        closeTimeout: 0,
        async onData(stream, { envelope }, done) {
          let text = ''
          for await (const chunk of stream) text += chunk
          const from = envelope.mailFrom ? envelope.mailFrom.address : ''
          mails.push({ from, to: envelope.rcptTo.map(({ address }) => address), text })
          done()
        },
        ...options,
      })
      smtp.on('error', () => undefined) // A client that hangs up in the middle is part of the tests.
      await once(smtp.listen(0, '127.0.0.1'), 'listening')
      vi.stubEnv('XQUEUE_SMTP_URL', `smtp://${login}127.0.0.1:${portOf(smtp.server)}`)
    }
    const reply = (responseCode: number) => Object.assign(new Error('no'), { responseCode })

    it('delivers, and returns the answer of the server', async () => {
      await serve()
      const result = await run(email, message)
      expect(result).toEqual({ sent: true, message_id: `<${ID}@xqueue>`, response: expect.stringMatching(/^250 /) })
      expect(mails).toMatchObject([{ from: 'bob@example.com', to: ['ann@example.com'] }])
      expect(mails[0]!.text).toContain(`Message-ID: <${ID}@xqueue>\r\n`)
      expect(mails[0]!.text).toContain('\r\n\r\nIt works.')
    })

    it('delivers to all recipients, and hides the blind copies from all of them', async () => {
      await serve()
      await run(email, { ...message, to: 'a@x.y, b@x.y', cc: 'C <c@x.y>', bcc: 'd@x.y', reply_to: 'e@x.y' })
      expect(mails[0]!.to).toEqual(['a@x.y', 'b@x.y', 'c@x.y', 'd@x.y'])
      expect(mails[0]!.text).toContain('Reply-To: e@x.y\r\n')
      expect(mails[0]!.text).not.toContain('d@x.y')
    })

    it('fails for good when the recipient is refused with 550', async () => {
      await serve({ onRcptTo: (_address, _session, done) => done(reply(550)) })
      await expect(run(email, message)).rejects.toThrow(/550/)
      expect(await effectOf(run(email, message))).toBe('fails for good')
    })

    it('is retried when the recipient is deferred with 451', async () => {
      await serve({ onRcptTo: (_address, _session, done) => done(reply(451)) })
      await expect(run(email, message)).rejects.toThrow(/451/)
      expect(await effectOf(run(email, message))).toBe('is retried')
    })

    it('is retried when one recipient is refused and the other deferred', async () => {
      await serve({ onRcptTo: ({ address }, _session, done) => done(reply(address === 'a@x.y' ? 451 : 550)) })
      expect(await effectOf(run(email, { ...message, to: 'a@x.y, b@x.y' }))).toBe('is retried')
    })

    it.each([
      [554, 'fails for good'],
      [452, 'is retried'],
    ])('handles %i for the message itself: %s', async (code, expected) => {
      await serve({
        onData: (stream, _session, done) => {
          stream.resume().on('end', () => done(reply(code)))
        },
      })
      expect(await effectOf(run(email, message))).toBe(expected)
    })

    it('fails for good when its password is refused', async () => {
      const onAuth: SMTPServerOptions['onAuth'] = (_auth, _session, done) => done(reply(535))
      await serve({ onAuth, allowInsecureAuth: true }, 'bob:wrong@')
      await expect(run(email, message)).rejects.toThrow(DoNotRetry)
    })

    it('is retried when the connection is refused', async () => {
      vi.stubEnv('XQUEUE_SMTP_URL', `smtp://127.0.0.1:${await closedPort()}`)
      expect(await effectOf(run(email, message))).toBe('is retried')
    })

    it('is retried when the server is too busy to greet', async () => {
      await serve({ onConnect: (_session, done) => done(reply(421)) })
      expect(await effectOf(run(email, message))).toBe('is retried')
    })

    it('stops when it is aborted, and hangs up', async () => {
      const controller = new AbortController()
      const closed = Promise.withResolvers<void>()
      await serve({
        onRcptTo: () => controller.abort(new Error('stop')), // and never answers
        onClose: () => closed.resolve(),
      })
      expect(await effectOf(run(email, message, { signal: controller.signal }))).toBe('is retried')
      await closed.promise
      expect(mails).toEqual([])
    })

    it('sends nothing if it was aborted before', async () => {
      await serve()
      expect(await effectOf(run(email, message, { signal: AbortSignal.abort() }))).toBe('is retried')
      expect(mails).toEqual([])
    })
  })

  describe('without an SMTP server', () => {
    const outbox = async (payload: Parameters<typeof email.run>[0]['payload']) => {
      const { file } = await run(email, payload)
      return readFileSync(file!, 'utf8')
    }
    /** Name and value of each header, long ones unfolded (RFC 5322, 2.2.3). */
    const headersOf = (mail: string) => {
      const lines = mail
        .slice(0, mail.indexOf('\r\n\r\n'))
        .replaceAll(/\r\n(?=[ \t])/g, '')
        .split('\r\n')
      return new Map(
        lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trimStart()]),
      )
    }

    it('writes the message into the outbox under the task’s id, and reports that it was not sent', async () => {
      const file = join(folder, 'outbox', `${ID}.eml`)
      expect(await run(email, message)).toEqual({ sent: false, message_id: `<${ID}@xqueue>`, file })
      expect(readdirSync(join(folder, 'outbox'))).toEqual([`${ID}.eml`])
    })

    it('writes a complete message', async () => {
      const mail = await outbox({ ...message, cc: 'c@x.y', bcc: 'd@x.y', reply_to: 'e@x.y' })
      const headers = headersOf(mail)
      expect(Object.fromEntries(headers)).toMatchObject({
        From: 'Bob <bob@example.com>',
        To: 'ann@example.com',
        Cc: 'c@x.y',
        Bcc: 'd@x.y',
        'Reply-To': 'e@x.y',
        Subject: 'Hello',
        'Message-ID': `<${ID}@xqueue>`,
        'MIME-Version': '1.0',
      })
      expect(headers.get('Date')).toMatch(/^\w{3}, \d\d? \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}$/)
      expect(mail.slice(mail.indexOf('\r\n\r\n') + 4)).toBe('It works.\r\n')
    })

    it('adds a sender if the task has none', async () => {
      const { from: _, ...rest } = message
      expect(headersOf(await outbox(rest)).get('From')).toBe('XQueue <xqueue@localhost>')
    })

    it('sends text and HTML as alternatives', async () => {
      const mail = await outbox({ ...message, html: '<b>It works.</b>' })
      expect(headersOf(mail).get('Content-Type')).toMatch(/^multipart\/alternative;/)
      expect(mail).toContain('<b>It works.</b>')
    })

    it('replaces the message of an earlier attempt', async () => {
      await outbox(message)
      expect(await outbox({ ...message, text: 'Again.' })).toMatch(/\r\n\r\nAgain\.\r\n$/)
      expect(readdirSync(join(folder, 'outbox'))).toHaveLength(1)
    })

    it.each(['a\nb', 'a\r\nb', 'a\rb', 'a\n\r\n\rb\n', 'grüße\rü\n'])(
      'ends each line of %j with CRLF',
      async (text) => {
        const mail = await outbox({ ...message, text, html: text })
        expect(mail.replaceAll('\r\n', '')).not.toMatch(/[\r\n]/)
        expect(mail).toMatch(/\r\n$/)
      },
    )

    it('writes lines of a length that every server accepts, for any text', async () => {
      const text = fc.string({ unit: 'grapheme', maxLength: 3_000 })
      await fc.assert(
        fc.asyncProperty(text, text, async (body, subject) => {
          const mail = await outbox({ ...message, text: body, subject })
          // biome-ignore lint/suspicious/noControlCharactersInRegex: RFC 5322, 2.1: US-ASCII, lines of at most 998
          expect(mail).toMatch(/^[\x00-\x7f]*$/)
          expect(Math.max(...mail.split('\r\n').map((line) => line.length))).toBeLessThanOrEqual(998)
        }),
        { numRuns: 50 },
      )
    })

    it('adds no header for a line break in a subject', async () => {
      const mail = await outbox({ ...message, subject: 'a\r\nBcc: x@y.z\r\n\r\nbody' })
      expect([...headersOf(mail).keys()]).not.toContain('Bcc')
      expect(headersOf(mail).get('Subject')).toBe('a Bcc: x@y.z  body')
    })

    it('folds headers only at ordinary spaces', async () => {
      const evil = 'Bcc: x@y.z\r\nX-Evil: 1'
      const mail = await outbox({ ...message, reply_to: `#   #"#  \r\n${evil} <a@b.c        #\u2028${evil}>` })
      expect(mail).toContain('Bcc: x')
      expect(mail).not.toMatch(/\n[^\S \r\n]/)
    })

    it('adds no header for the text of any field', async () => {
      const plain = [...headersOf(await outbox({ ...message, cc: 'c@x.y', reply_to: 'e@x.y' })).keys()]
      const breaks = fc.constantFrom('\r\n', '\n', '\r', '\r\n\r\n', '\u2028', '\u0085', '\0', '\v', '>', '"', ',', ';')
      const attack = fc.tuple(fc.string(), breaks, breaks).map(([text, a, b]) => `${text}${a}Bcc: x@y.z${b}X-Evil: 1`)
      await fc.assert(
        fc.asyncProperty(attack, attack, attack, async (name, domain, subject) => {
          const address = `${name} <a@b.c${domain}>`
          const mail = await outbox({ ...message, to: address, from: address, cc: address, reply_to: address, subject })
          expect(plain).toEqual(
            expect.arrayContaining([...headersOf(mail).keys()].filter((key) => !/^Content/.test(key))),
          )
        }),
      )
    })
  })
})
