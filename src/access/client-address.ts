import type { IncomingMessage } from 'node:http'
import proxyAddr from '@fastify/proxy-addr'
import { XQueueError } from '../task/errors.ts'

/** The address of a request's client: behind trusted proxies, the one that they report. */
export type ClientAddress = (request: IncomingMessage) => string | null

/**
 * @param trusted addresses and networks of proxies whose `X-Forwarded-For` is trusted; it is ignored from others
 * @throws XQueueError `invalid_config` with the invalid address
 */
export function clientAddress(trusted: readonly string[]): ClientAddress {
  if (trusted.length === 0) return ({ socket }) => socket.remoteAddress ?? null
  const trust = compile(trusted)
  return (request) => proxyAddr(request, trust) ?? null
}

function compile(trusted: readonly string[]) {
  try {
    return proxyAddr.compile([...trusted])
  } catch (error) {
    const detail = `--trusted-proxies ${trusted.join(',')}: ${(error as Error).message}`
    throw new XQueueError('invalid_config', `${detail}: use addresses or networks, such as 10.0.0.0/8`)
  }
}
