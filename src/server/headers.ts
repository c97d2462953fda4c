import cors from '@fastify/cors'
import type { FastifyInstance } from 'fastify'

/** Restrictions for browsers on every answer. A page that needs more sets its own. */
const ANY = {
  'x-content-type-options': 'nosniff',
  'cross-origin-resource-policy': 'same-origin',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
}
/** The type of answers that are written as text. */
export const JSON_TYPE = 'application/json; charset=utf-8'
/** Answers of the API must not be cached. */
export const OF_API = { ...ANY, 'cache-control': 'no-store' }
/** Headers for documents only, omitted on API calls to save bytes. */
const OF_PAGES = {
  ...ANY,
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
}
const HSTS = 'max-age=31536000'
const PREFLIGHT_S = 600

/** Security headers on every answer, and CORS for the named sites (default: none). */
export async function addHeaders(server: FastifyInstance, origins: readonly string[], hasTls: boolean): Promise<void> {
  const more = hasTls ? { 'strict-transport-security': HSTS } : {}
  const [ofApi, ofPages] = [
    { ...OF_API, ...more },
    { ...OF_PAGES, ...more },
  ]
  server.addHook('onRequest', (request, reply, done) => {
    reply.headers(request.url.startsWith('/api/') ? ofApi : ofPages)
    done()
  })
  if (origins.length === 0) return
  await server.register(cors, {
    origin: [...origins],
    methods: ['GET', 'POST', 'PATCH', 'DELETE'],
    allowedHeaders: [
      ...['Authorization', 'Content-Type', 'Idempotency-Key', 'Last-Event-ID', 'Prefer', 'traceparent', 'tracestate'],
    ],
    exposedHeaders: ['Last-Event-ID', 'Location', 'Preference-Applied', 'Retry-After', 'WWW-Authenticate'],
    // Other sites need a key or a token; the cookie is for this server's own pages.
    credentials: false,
    maxAge: PREFLIGHT_S,
  })
}
