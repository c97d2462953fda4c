import cors from '@fastify/cors'
import type { FastifyInstance } from 'fastify'

/** What no browser may do with an answer, whatever is in it. A page that needs more says so itself. */
const HEADERS = {
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
}
const HSTS = 'max-age=31536000'
const PREFLIGHT_S = 600

/** Security headers on every answer, and the other sites whose pages may call: none, unless they are named. */
export async function addHeaders(server: FastifyInstance, origins: readonly string[], hasTls: boolean): Promise<void> {
  const headers = { ...HEADERS, ...(hasTls ? { 'Strict-Transport-Security': HSTS } : {}) }
  server.addHook('onRequest', (request, reply, done) => {
    reply.headers(headers)
    // What the API answers is of this moment, and of this caller.
    if (request.url.startsWith('/api/')) reply.header('Cache-Control', 'no-store')
    done()
  })
  if (origins.length === 0) return
  await server.register(cors, {
    origin: [...origins],
    methods: ['GET', 'POST', 'DELETE'],
    allowedHeaders: ['Authorization', 'Content-Type', 'Idempotency-Key', 'Last-Event-ID'],
    exposedHeaders: ['Location', 'Retry-After', 'WWW-Authenticate'],
    // Another site brings a key or a token; the cookie is for this server's own page.
    credentials: false,
    maxAge: PREFLIGHT_S,
  })
}
