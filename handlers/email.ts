import { Socket } from 'node:net'
import { join, resolve } from 'node:path'
import { createTransport } from 'nodemailer'
import { type Static, Type } from 'typebox'
import { writePrivateFile } from '../src/store/private-files.ts'
import { DoNotRetry } from '../src/task/retry.ts'
import type { Handler } from '../src/worker/handler.ts'
import { standard } from './schema.ts'

const address = Type.String({ minLength: 3, maxLength: 2_000, pattern: '@', description: 'a@example.com, or several' })
const payload = Type.Object(
  {
    to: address,
    from: Type.Optional(address),
    cc: Type.Optional(address),
    bcc: Type.Optional(address),
    reply_to: Type.Optional(address),
    subject: Type.Optional(Type.String({ maxLength: 998, description: 'Default: (no subject)' })),
    text: Type.Optional(Type.String()),
    body: Type.Optional(Type.String({ description: 'Alias of text' })),
    html: Type.Optional(Type.String()),
  },
  { additionalProperties: false },
)

type Email = Static<typeof payload>

/**
 * Sends mail through the SMTP server of XQUEUE_SMTP_URL. Without one, writes the complete message into the folder
 * XQUEUE_OUTBOX and says so. The Message-ID is made from the task's id, so a mail that is sent twice after a crash can
 * be recognised.
 */
export const email: Handler<Email, { sent: boolean; message_id: string; response?: string; file?: string }> = {
  concurrency: 5,
  processTimeout: '2m',
  payload: standard(payload),
  run: async (task, { signal, log }) => {
    signal.throwIfAborted()
    const { reply_to: replyTo, body, text = body, html, ...fields } = task.payload
    const headers = { from: 'XQueue <xqueue@localhost>', subject: '(no subject)', ...fields }
    const message = {
      ...inOneLine({ ...headers, ...(replyTo ? { replyTo } : {}) }),
      messageId: `<${task.id}@xqueue>`,
      ...(text === undefined ? {} : { text: withLineFeeds(text) }),
      ...(html === undefined ? {} : { html: withLineFeeds(html) }),
    }
    const smtpUrl = process.env.XQUEUE_SMTP_URL
    if (smtpUrl) return send(smtpUrl, message, signal)
    const file = await writeToOutbox(task.id, message)
    log.warn({ file }, 'no SMTP server is set (smtp-url): the message was written to the outbox')
    return { sent: false, message_id: message.messageId, file }
  },
}

/**
 * Nodemailer folds a long header at any white space and keeps the space. A line that begins with a space other than a
 * blank (such as a line separator) would be parsed as a separate header.
 */
function inOneLine<Fields extends Record<string, string>>(fields: Fields): Fields {
  const clean = ([name, text]: [string, string]) => [name, text.replace(/[^\S\r\n ]/g, ' ')]
  return Object.fromEntries(Object.entries(fields).map(clean)) as Fields
}

/** Nodemailer converts each line feed to CRLF and keeps a lone carriage return, which RFC 5322 forbids. */
function withLineFeeds(text: string): string {
  return text.replace(/\r\n?/g, '\n')
}

async function send(url: string, message: object & { messageId: string }, signal: AbortSignal) {
  // With our own socket, an abort closes the connection at any time.
  const socket = new Socket()
  const transport = createTransport({ url, socket } as object)
  const stop = () => socket.destroy(signal.reason)
  signal.addEventListener('abort', stop, { once: true })
  try {
    const { response } = (await transport.sendMail(message)) as { response: string }
    return { sent: true, message_id: message.messageId, response }
  } catch (error) {
    signal.throwIfAborted()
    // 5xx is a permanent refusal (RFC 5321, 4.2.1), so a retry would be refused as well.
    const { responseCode = 0 } = error as { responseCode?: number }
    if (responseCode >= 500) throw new DoNotRetry((error as Error).message, { cause: error })
    throw error
  } finally {
    signal.removeEventListener('abort', stop)
    transport.close()
  }
}

async function writeToOutbox(id: string, message: object): Promise<string> {
  const folder = resolve(process.env.XQUEUE_OUTBOX ?? './outbox')
  const composed = await createTransport({ streamTransport: true, buffer: true, newline: 'windows' }).sendMail(message)
  const file = join(folder, `${id}.eml`)
  await writePrivateFile(file, composed.message as Buffer)
  return file
}
