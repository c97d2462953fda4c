import { existsSync, globSync, readFileSync } from 'node:fs'
import { extname, join } from 'node:path'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Route, ServerContext } from './route.ts'

/** Output folder of the dashboard build, beside the source and in the package. */
const BUILT = join(import.meta.dirname, '../../dashboard/dist/')
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
}
/** Nothing from another origin, nothing inline, no frames. */
const POLICY = [
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'",
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
].join('; ')
const NOT_BUILT =
  '<!doctype html><title>XQueue</title><p>The dashboard has not been built: run <code>npm run dashboard</code>.'

/** The dashboard at `/`: a few precompressed files. */
export function pageRoutes({ basePath }: ServerContext): Route[] {
  const files = existsSync(BUILT) ? globSync('**/*.{html,js,css,svg}', { cwd: BUILT }) : []
  const answers = files.map((file) => [file === 'index.html' ? '/' : `/${file}`, answerOf(file, basePath)] as const)
  if (answers.length === 0) {
    answers.push(['/', async (_request, reply) => reply.type(TYPES['.html']!).send(NOT_BUILT)])
  }
  return answers.map(
    ([url, handler]): Route => ({ method: 'GET', url, scope: 'open', summary: 'The dashboard', hidden: true, handler }),
  )
}

function answerOf(file: string, basePath: string): Route['handler'] {
  const { plain, forms } = file === 'index.html' && basePath !== '' ? mountedPage(basePath) : built(file)
  // Names of assets contain a hash of their content.
  const caching = file.startsWith('assets/') ? 'public, max-age=31536000, immutable' : 'no-cache'
  return async (request: FastifyRequest, reply: FastifyReply) => {
    const accepted = String(request.headers['accept-encoding'] ?? '')
    const [encoding, content] = forms.find(([name, body]) => body && accepted.includes(name)) ?? [null, plain]
    reply.type(TYPES[extname(file)]!).header('Cache-Control', caching).header('Content-Security-Policy', POLICY)
    reply.header('Vary', 'Accept-Encoding')
    if (encoding) reply.header('Content-Encoding', encoding)
    return reply.send(content)
  }
}

/** A file of the dashboard, or null if it has not been built. */
export function dashboardFile(name: string): Buffer | null {
  return existsSync(BUILT + name) ? readFileSync(BUILT + name) : null
}

function built(file: string) {
  const forms = [
    ['br', dashboardFile(`${file}.br`)],
    ['gzip', dashboardFile(`${file}.gz`)],
  ] as const
  return { plain: readFileSync(BUILT + file), forms }
}

/** Refers to its files by absolute paths, so it also works at the path without the slash, where Next.js keeps it. */
function mountedPage(basePath: string) {
  const plain = readFileSync(`${BUILT}index.html`, 'utf8').replaceAll('"./', `"${basePath}/`)
  const forms = [
    ['br', brotliCompressSync(plain)],
    ['gzip', gzipSync(plain)],
  ] as const
  return { plain: Buffer.from(plain), forms }
}
