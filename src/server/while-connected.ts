import type { Writable } from 'node:stream'
import type { FastifyRequest } from 'fastify'
import type { ServerContext } from './route.ts'

/**
 * Makes a long call. Its signal aborts when the connection closes, when the caller's access ends, and when the server
 * closes.
 */
export async function whileConnected<T>(
  { principal }: FastifyRequest,
  connection: Writable,
  { access, closing }: Pick<ServerContext, 'access' | 'closing'>,
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const gone = new AbortController()
  const leave = () => gone.abort()
  connection.once('close', leave)
  closing.addEventListener('abort', leave, { once: true })
  if (connection.destroyed || closing.aborted) leave()
  const left = access?.lapses(principal!, leave)
  try {
    return await call(gone.signal)
  } finally {
    connection.off('close', leave)
    closing.removeEventListener('abort', leave)
    left?.()
  }
}
