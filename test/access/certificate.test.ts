import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { connect, createServer } from 'node:tls'
import { pino } from 'pino'
import { afterEach, expect, it, vi } from 'vitest'
import { Certificate } from '../../src/access/certificate.ts'
import { makeCertificate } from '../fixtures/certificate.ts'
import { startServer } from '../fixtures/server.ts'

/** The fingerprint of the certificate that a TLS port shows to a new connection. */
function shownAt(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
    socket.once('error', reject)
    socket.once('secureConnect', () => {
      resolve(socket.getPeerX509Certificate()!.fingerprint256)
      socket.destroy()
    })
  })
}

it('serves a client that offers no later version than HTTP/1.0', async () => {
  const files = makeCertificate()
  const served = await startServer({ 'tls-cert': files.cert, 'tls-key': files.key })
  const port = Number(new URL(served.url).port)
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ALPNProtocols: ['http/1.0'] })
  socket.write('GET /api/v1/live HTTP/1.0\r\nHost: localhost\r\n\r\n')
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 200 OK/)
  await served.stop()
})

const fingerprint = (file: string) => new X509Certificate(readFileSync(file)).fingerprint256

it('a renewed certificate is used on both ports without a restart; one that does not match its key is reported and not used', async () => {
  const [files, renewed, other] = [makeCertificate(), makeCertificate(), makeCertificate()]
  const served = await startServer({ 'tls-cert': files.cert, 'tls-key': files.key })
  const { mqtt } = JSON.parse(served.log.find((line) => line.includes('mqtts://'))!) as { mqtt: string }
  const ports = [Number(new URL(served.url).port), Number(new URL(mqtt).port)]
  const shown = () => Promise.all(ports.map(shownAt))
  const first = fingerprint(files.cert)
  expect(await shown()).toEqual([first, first])

  writeFileSync(files.cert, readFileSync(other.cert)) // Its key is still the old one.
  await vi.waitFor(() => expect(served.log.join('')).toContain('the old certificate remains in use'), 30_000)
  expect(await shown()).toEqual([first, first])

  copyFileSync(renewed.cert, files.cert)
  copyFileSync(renewed.key, files.key)
  const second = fingerprint(renewed.cert)
  await vi.waitFor(async () => expect(await shown()).toEqual([second, second]), { timeout: 30_000, interval: 100 })
  await served.stop()
})

afterEach(() => {
  vi.useRealTimers()
})

it('is read again every ten seconds: each server that is open gets a new pair, and an error is reported once', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  const [files, renewed] = [makeCertificate(), makeCertificate()]
  const [first, second] = [readFileSync(files.cert), readFileSync(renewed.cert)]
  const lines: { msg: string }[] = []
  const certificate = new Certificate(
    files,
    pino({ base: null }, { write: (line) => void lines.push(JSON.parse(line)) }),
  )
  const servers = [createServer(certificate.pair), createServer(certificate.pair)]
  const renewals = servers.map((server) => vi.spyOn(server, 'setSecureContext'))
  for (const server of servers) certificate.follow(server)
  for (const server of servers) await once(server.listen(0, '127.0.0.1'), 'listening')
  const look = () => vi.advanceTimersByTime(10_000)
  look()
  // The key follows its certificate a moment later.
  copyFileSync(renewed.cert, files.cert)
  vi.advanceTimersByTime(9_999)
  expect([lines, renewals.map(({ mock }) => mock.calls.length)]).toEqual([[], [0, 0]])
  vi.advanceTimersByTime(1)
  look()
  const remains = expect.stringMatching(/^the old certificate remains in use: .* are no matching PEM pair: /)
  expect(lines).toEqual([expect.objectContaining({ level: 50, msg: remains })])
  expect(certificate.pair.cert).toEqual(first)
  servers[1]!.close()
  await once(servers[1]!, 'close')
  copyFileSync(renewed.key, files.key)
  look()
  expect(lines.slice(1)).toEqual([
    expect.objectContaining({ level: 30, file: files.cert, msg: 'the certificate was renewed' }),
  ])
  expect([certificate.pair.cert, renewals.map(({ mock }) => mock.calls.length)]).toEqual([second, [1, 0]])
  expect(await shownAt((servers[0]!.address() as AddressInfo).port)).toBe(fingerprint(renewed.cert))
  // The same error again, after all was well, is reported again.
  writeFileSync(files.cert, first)
  look()
  look()
  expect(lines.slice(2)).toEqual([expect.objectContaining({ msg: remains })])
  certificate.close()
  expect(vi.getTimerCount()).toBe(0)
  servers[0]!.close()
})

it.each(['cert', 'key'] as const)('whose %s cannot be read is refused', (name) => {
  const files = { ...makeCertificate(), [name]: '/none.pem' }
  const message = expect.stringMatching(`^--tls-${name} cannot be read: ENOENT`)
  expect(() => new Certificate(files, pino({ level: 'silent' }))).toThrow(
    expect.objectContaining({ code: 'invalid_config', message }),
  )
})
