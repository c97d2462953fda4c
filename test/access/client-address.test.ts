import { once } from 'node:events'
import { createServer, get, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { clientAddress } from '../../src/access/client-address.ts'

let server: Server
let requests: IncomingMessage[]
beforeAll(async () => {
  requests = []
  server = createServer((request, response) => {
    requests.push(request)
    response.end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
})
afterAll(() => {
  server.close()
})

/** A request from 127.0.0.1 with this header. */
async function requestWith(forwarded: string | null): Promise<IncomingMessage> {
  const { port } = server.address() as AddressInfo
  const headers = forwarded === null ? {} : { 'X-Forwarded-For': forwarded }
  const [answer] = await once(get({ port, host: '127.0.0.1', headers }), 'response')
  answer.resume()
  await once(answer, 'end')
  return requests.at(-1)!
}

it.each<[string[], string | null, string]>([
  [[], null, '127.0.0.1'],
  [[], '192.0.2.7', '127.0.0.1'],
  [['10.0.0.0/8'], '192.0.2.7', '127.0.0.1'],
  [['127.0.0.1'], null, '127.0.0.1'],
  [['127.0.0.1'], '192.0.2.7', '192.0.2.7'],
  [['127.0.0.0/8', '10.0.0.0/8'], '192.0.2.7, 10.0.0.1', '192.0.2.7'],
  // What a client says of itself is behind the first address that is not trusted.
  [['127.0.0.1'], '203.0.113.1, 192.0.2.7', '192.0.2.7'],
])('with the trusted proxies %j, a request forwarded for %j is from %s', async (trusted, forwarded, address) => {
  expect(clientAddress(trusted)(await requestWith(forwarded))).toBe(address)
})

it('is unknown for a connection that has ended', () => {
  expect(clientAddress([])({ socket: {} } as IncomingMessage)).toBeNull()
})

it('refuses proxies that are no addresses', () => {
  expect(() => clientAddress(['127.0.0.1', 'proxy'])).toThrow(
    expect.objectContaining({
      code: 'invalid_config',
      message: expect.stringMatching(
        /^--trusted-proxies 127\.0\.0\.1,proxy: .*: use addresses or networks, such as 10/,
      ),
    }),
  )
})
