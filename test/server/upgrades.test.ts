import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { request as overTcp } from 'node:http'
import { request as overTls } from 'node:https'
import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { WebSocket } from 'ws'
import { makeCertificate } from '../fixtures/certificate.ts'
import { pathOf } from '../fixtures/installed.ts'
import { type Program, startProgram } from '../fixtures/program.ts'

/** A request may offer another protocol: unless that is MQTT's WebSocket, it is a request like any other. */

const run = promisify(execFile)
const H2C = { Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AAMAAABkAAQAoAAAAAIAAAAA' }
const handlers = join(import.meta.dirname, 'upgrades-handlers.ts')

const servers: Record<string, Program> = {}
let tlsUrl: string

beforeAll(async () => {
  const { cert, key } = makeCertificate()
  servers.plain = await startProgram({ handlers })
  servers.quiet = await startProgram({ handlers, flags: ['--mqtt', 'off'] })
  servers.tls = await startProgram({ handlers, flags: ['--tls-cert', cert, '--tls-key', key] })
  tlsUrl = servers.tls.url.replace('http:', 'https:')
})
afterAll(() => Promise.all(Object.values(servers).map((server) => server.stop())))

const urlOf = (name: string) => (name === 'tls' ? tlsUrl : servers[name]!.url)

async function ask(url: string, method: string, headers: Record<string, string>, chunks: string[] = []) {
  const send = url.startsWith('https:') ? overTls : overTcp
  const request = send(url, { method, headers, rejectUnauthorized: false } as object)
  const answered = once(request, 'response')
  const upgraded = once(request, 'upgrade').then(() => Promise.reject(new Error('upgraded')))
  for (const chunk of chunks) {
    request.write(chunk)
    await new Promise((resolve) => setImmediate(resolve))
  }
  request.end()
  const [answer] = await Promise.race([answered, upgraded])
  return { status: answer.statusCode, type: answer.headers['content-type'], body: JSON.parse(await text(answer)) }
}

describe.each(['plain', 'quiet', 'tls'])('at the server "%s"', (name) => {
  it.each(['h2c', 'TLS/1.0', 'websocket', 'foo, h2c'])('a request that offers "%s" is answered', async (offer) => {
    const answer = await ask(`${urlOf(name)}/api/v1/handlers`, 'GET', { Connection: 'Upgrade', Upgrade: offer })
    expect(answer).toMatchObject({ status: 200, body: { handlers: ['kept'] } })
  })

  it('a body arrives completely, with its length or in chunks', async () => {
    const body = JSON.stringify({ type: 'kept', payload: 'x'.repeat(300_000) })
    const sized = { ...H2C, 'Content-Type': 'application/json', 'Content-Length': String(body.length) }
    const chunked = { ...H2C, 'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked' }
    for (const headers of [sized, chunked]) {
      const chunks = body.match(/.{1,20000}/g)!
      const answer = await ask(`${urlOf(name)}/api/v1/tasks`, 'POST', headers, chunks)
      expect(answer.status).toBe(201)
      expect(answer.body.payload).toHaveLength(300_000)
    }
  })

  it('an unknown path is answered with a problem, also for a WebSocket', async () => {
    const headers = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13' }
    const answer = await ask(`${urlOf(name)}/else`, 'GET', headers)
    expect(answer).toMatchObject({ status: 404, type: expect.stringContaining('problem+json') })
  })
})

it('a connection continues after a request that offers another protocol', async () => {
  const { hostname, port } = new URL(servers.plain!.url)
  const socket = connect(Number(port), hostname)
  let received = ''
  socket.on('data', (chunk) => {
    received += chunk
  })
  const offer = Object.entries(H2C).map(([header, value]) => `${header}: ${value}\r\n`)
  for (let turn = 0; turn < 3; turn++) {
    const body = JSON.stringify({ type: 'kept', payload: turn })
    const fixed = `Host: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n`
    socket.write(`POST /api/v1/tasks HTTP/1.1\r\n${fixed}${offer.join('')}\r\n${body}`)
    await vi.waitFor(() => expect(received).toMatch(new RegExp(`HTTP/1.1 201 [^]*"payload":${turn},`)))
    received = ''
  }
  socket.destroy()
})

it('MQTT over WebSocket works', async () => {
  for (const [url, options] of [
    [servers.plain!.url, {}],
    [tlsUrl, { rejectUnauthorized: false }],
  ] as const) {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/mqtt`, 'mqtt', options)
    await once(socket, 'open')
    socket.terminate()
  }
})

it.runIf(pathOf('curl'))('curl --http2 submits and reads', async () => {
  const curl = (...args: string[]) => run('curl', ['--silent', '--show-error', '--fail', '--http2', ...args])
  for (const url of [servers.plain!.url, tlsUrl]) {
    const json = ['--insecure', '--header', 'Content-Type: application/json', '--data', '{"type":"kept","payload":7}']
    const { stdout } = await curl(...json, `${url}/api/v1/tasks`)
    expect(JSON.parse(stdout)).toMatchObject({ type: 'kept', payload: 7 })
  }
})

it.runIf(pathOf('javac'))("Java's HttpClient submits one after the other", async () => {
  const program = join(import.meta.dirname, 'JavaClient.java')
  const { stdout } = await run('java', [program, servers.plain!.url, '1', '200000'], { maxBuffer: 10_000_000 })
  const answers = stdout.trim().split('\n')
  expect(answers.map((line) => line.slice(0, 4))).toEqual(['201 ', '201 '])
  expect(answers.map((line) => JSON.parse(line.slice(4)).payload.length)).toEqual([1, 200_000])
})
