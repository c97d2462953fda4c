import { createHmac } from 'node:crypto'

/** What is signed: a request as it goes out. */
export interface Signed {
  /** The id of the task: the same for every attempt, so that a receiver recognises a repetition. */
  id: string
  method: string
  url: URL
  body: string
}

/** Headers that only a signature may set. */
export const SIGNATURE_HEADERS = /^(x-xqueue-|webhook-)/

const BASE64_SECRET = /^whsec_([A-Za-z0-9+/]+={0,2})$/

/**
 * The headers of a signed request, none without a secret for its destination. Two signatures with one secret:
 *
 * - `X-XQueue-Signature: v2=<hex>` over `<timestamp>\n<method>\n<URL>\n<body>`, so that a request cannot be replayed to
 *   another address or with another method;
 * - `Webhook-Signature: v1,<base64>` over `<id>.<timestamp>.<body>`, for receivers that use a library of the Standard
 *   Webhooks specification (https://www.standardwebhooks.com), which covers neither.
 */
export function signatureOf({ id, method, url, body }: Signed, nowMs: number): Record<string, string> {
  const secret = secretOf(url)
  if (secret === null) return {}
  const timestamp = String(Math.floor(nowMs / 1_000))
  const hmac = (text: string) => createHmac('sha256', secret).update(text)
  const address = `${url.origin}${url.pathname}${url.search}`
  return {
    'x-xqueue-timestamp': timestamp,
    'x-xqueue-signature': `v2=${hmac(`${timestamp}\n${method}\n${address}\n${body}`).digest('hex')}`,
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'webhook-signature': `v1,${hmac(`${id}.${timestamp}.${body}`).digest('base64')}`,
  }
}

/**
 * The secret for a destination: that of its origin in XQUEUE_HTTP_SECRETS (`https://a.example=SECRET`, with spaces
 * between), else XQUEUE_HTTP_SECRET. One that begins with `whsec_` is base64, any other is taken as it is.
 */
function secretOf({ origin }: URL): Buffer | null {
  const own = (process.env.XQUEUE_HTTP_SECRETS ?? '')
    .split(/\s+/)
    .find((entry) => entry.startsWith(`${origin}=`))
    ?.slice(origin.length + 1)
  const secret = own || process.env.XQUEUE_HTTP_SECRET
  if (!secret) return null
  const base64 = BASE64_SECRET.exec(secret)?.[1]
  return base64 === undefined ? Buffer.from(secret) : Buffer.from(base64, 'base64')
}
