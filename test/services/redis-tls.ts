import { execFileSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from './ports.ts'
import { removeAtExit } from './processes.ts'
import { type RunningRedis, startRedis } from './redis.ts'

export interface TlsRedis {
  /** Without TLS, to look after it. */
  redis: RunningRedis
  tlsPort: number
  /** For the URL: the authority that its certificate is of, and a certificate that it knows. */
  parameters: string
}

/** A redis-server that speaks TLS, asks for a certificate, and has one for 127.0.0.1. */
export async function startTlsRedis(...flags: string[]): Promise<TlsRedis> {
  const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-tls-')))
  const file = (name: string) => join(folder, name)
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })
  const key = (name: string) => ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', name]
  openssl('req', '-x509', ...key('ca.key'), '-out', 'ca.pem', '-days', '2', '-subj', '/CN=tests')
  const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-days', '2', '-addext', 'subjectAltName=IP:127.0.0.1']
  openssl('req', '-x509', ...key('redis.key'), '-out', 'redis.pem', '-subj', '/CN=redis', ...signed)
  const tlsPort = await freePort()
  const certificates = ['--tls-ca-cert-file', file('ca.pem'), '--tls-cert-file', file('redis.pem')]
  const tls = ['--tls-port', String(tlsPort), ...certificates, '--tls-key-file', file('redis.key')]
  const redis = await startRedis(...tls, ...flags)
  return { redis, tlsPort, parameters: `ca=${file('ca.pem')}&cert=${file('redis.pem')}&key=${file('redis.key')}` }
}
