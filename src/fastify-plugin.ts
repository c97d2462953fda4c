import type { IncomingMessage, ServerResponse } from 'node:http'
import { type ServerOptions, startXQueue } from './embed.ts'
import type { Log } from './worker/handler.ts'

/** The part of a Fastify instance that the plugin uses. */
export interface FastifyHost {
  prefix: string
  log: unknown
  addHook(name: 'preClose', hook: () => Promise<void>): unknown
  removeAllContentTypeParsers(): unknown
  addContentTypeParser(
    type: string,
    options: object,
    parser: (request: never, payload: unknown, done: (error: Error | null) => void) => void,
  ): unknown
  all(url: string, handler: (request: { raw: IncomingMessage }, reply: FastifyReply) => void): unknown
}

interface FastifyReply {
  raw: ServerResponse
  hijack(): unknown
}

/**
 * A Fastify plugin with server and worker, below its prefix:
 *
 *     app.register(fastifyXQueue, { prefix: '/queue', handlers, engine: 'redis://localhost' })
 *
 * Hooks of the application run before, so they can check who calls. It stops with the application.
 */
export async function fastifyXQueue(
  app: FastifyHost,
  { prefix: _, ...options }: Omit<ServerOptions, 'listen' | 'basePath'> & { prefix?: string },
): Promise<void> {
  const basePath = app.prefix === '' ? {} : { basePath: app.prefix }
  const xqueue = await startXQueue({ logger: app.log as Log, ...options, ...basePath, listen: false })
  app.addHook('preClose', () => xqueue.stop())
  // XQueue reads the bodies itself.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', {}, (_request, _payload, done) => done(null))
  for (const url of ['/', '/*']) {
    app.all(url, ({ raw }, reply) => {
      reply.hijack()
      xqueue.handler(raw, reply.raw)
    })
  }
}
