import { readFileSync } from 'node:fs'
import type { Route, ServerContext } from './server.ts'

const FILES = [
  ['/', 'index.html', 'text/html; charset=utf-8'],
  ['/page.js', 'page.js', 'text/javascript; charset=utf-8'],
  ['/page.css', 'page.css', 'text/css; charset=utf-8'],
] as const

/** Nothing from another origin, nothing inline. */
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:"

/** The status page at `/`: three small files that live from the API and its event stream. */
export function pageRoutes(_context: ServerContext): Route[] {
  return FILES.map(([url, file, type]) => {
    const text = readFileSync(new URL(`./page/${file}`, import.meta.url), 'utf8')
    return {
      method: 'GET',
      url,
      summary: 'The status page',
      hidden: true,
      handler: async (_request, reply) =>
        reply.type(type).header('Content-Security-Policy', POLICY).header('Cache-Control', 'no-cache').send(text),
    } satisfies Route
  })
}
