import { execFile } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Agent, EnvHttpProxyAgent, getGlobalDispatcher, setGlobalDispatcher } from 'undici'
import { afterEach, beforeAll, expect, it, vi } from 'vitest'
import { createClient } from '../../src/client/client.ts'
import { makeCertificate } from '../fixtures/certificate.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { freePort } from '../fixtures/ports.ts'
import { root } from '../fixtures/root.ts'

/** What `fetch` sends with each call, and `node:http` does not. */
const OF_FETCH = 'sec-fetch-mode'
const TASK = { id: 'one', status: 'success' }
let url: string
let seen: IncomingHttpHeaders[] = []

beforeAll(async () => {
  const server = createServer((request, response) => {
    seen.push(request.headers)
    if (request.url?.startsWith('/old')) {
      response.writeHead(307, { Location: request.url.replace('/old', '') }).end()
    } else if (request.url?.endsWith('/cut')) {
      response.writeHead(200, { 'Content-Length': 100 }).write('{')
      setImmediate(() => response.destroy())
    } else if (request.url?.endsWith('/page')) response.writeHead(502).end('<html>')
    else response.end(JSON.stringify(TASK))
  }).listen(0, '127.0.0.1')
  closeAfterwards(() => server.close())
  await once(server, 'listening')
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})

afterEach(() => {
  seen = []
  vi.unstubAllGlobals()
})

it('calls with node:http', async () => {
  await createClient(url, { key: 'secret' }).get('one')
  expect(seen).toMatchObject([{ authorization: 'Bearer secret' }])
  expect(seen[0]).not.toHaveProperty(OF_FETCH)
})

it('calls with the given fetch', async () => {
  const calls: string[] = []
  const own: typeof fetch = (address, options) => {
    calls.push(String(address))
    return fetch(address, options)
  }
  await createClient(url, { fetch: own }).get('one')
  expect(calls).toEqual([`${url}/api/v1/tasks/one`])
})

it('calls with a global fetch that the program has replaced', async () => {
  vi.stubGlobal('fetch', async () => Response.json({ ...TASK, id: 'of the stand-in' }))
  expect(await createClient(url).get('one')).toMatchObject({ id: 'of the stand-in' })
  expect(seen).toEqual([])
})

it('calls with fetch where its calls are traced, so that they appear in the trace', async () => {
  const trace = () => undefined
  subscribe('undici:request:create', trace)
  try {
    await createClient(url).get('one')
  } finally {
    unsubscribe('undici:request:create', trace)
  }
  expect(seen[0]).toHaveProperty(OF_FETCH)
})

it.each([
  ['a proxy', () => new EnvHttpProxyAgent()],
  ['certificates', () => new Agent({ connect: { ca: [] } })],
])('calls with fetch where the program has set a dispatcher, as for %s', async (_what, own) => {
  const original = getGlobalDispatcher()
  setGlobalDispatcher(own())
  await createClient(url)
    .get('one')
    .finally(() => setGlobalDispatcher(original))
  await createClient(url).get('one')
  expect(seen.map((headers) => OF_FETCH in headers)).toEqual([true, false])
})

it('calls with node:http also when the program calls with fetch', async () => {
  await fetch(url)
  await createClient(url).get('one')
  expect(seen.map((headers) => OF_FETCH in headers)).toEqual([true, false])
})

it('calls over TLS, with the certificates that Node.js was given', async () => {
  const { cert, key } = makeCertificate()
  const files = { cert: readFileSync(cert), key: readFileSync(key) }
  const server = createTlsServer(files, (_request, response) => response.end(JSON.stringify(TASK)))
  closeAfterwards(() => server.close())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const address = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  const unknown = { code: 'engine_unavailable', message: expect.stringContaining('self-signed certificate') }
  await expect(createClient(address).get('one')).rejects.toMatchObject(unknown)
  const script = `import { createClient } from ${JSON.stringify(join(root, 'src/client/client.ts'))}
console.log((await createClient('${address}').get('one')).id)`
  const env = { ...process.env, NODE_EXTRA_CA_CERTS: cert }
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], { env })
  expect(stdout).toBe('one\n')
})

it('follows redirections', async () => {
  expect(await createClient(`${url}/old`).get('one')).toMatchObject({ id: 'one' })
})

it.each([
  ['a connection that ends within the answer', () => `${url}/`, 'cut', /cannot be reached \(aborted\)/],
  ['an answer that is not JSON', () => `${url}/`, 'page', / answered 200 OK without JSON: check /],
  ['a name with several addresses', async () => `http://localhost:${await freePort()}`, 'x', /\(connect ECONNREFUSED /],
])('reports %s', async (_what, server, id, message) => {
  await expect(createClient(await server()).get(id)).rejects.toMatchObject({ code: 'engine_unavailable', message })
})

it.each(['not a url', 'localhost:8080', ''])('reports that "%s" is no URL of a server', async (address) => {
  const message = `"${address}" is not the URL of a server: use one such as http://127.0.0.1:8080`
  await expect(createClient(address).get('one')).rejects.toMatchObject({ code: 'invalid_config', message })
})
