import { X509Certificate } from 'node:crypto'
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:tls'
import { expect, it, vi } from 'vitest'
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
