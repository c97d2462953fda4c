import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { refuseExposure } from '../../src/access/exposure.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { main } from '../fixtures/root.ts'
import { startServer } from '../fixtures/server.ts'

let folder: string
beforeAll(() => {
  folder = temporaryFolder()
  writeFileSync(join(folder, 'no.pem'), 'no certificate')
})

it.each(['0.0.0.0', '::', '192.0.2.1', '::ffff:192.0.2.1'])(
  'does not listen on %s without access control',
  async (host) => {
    await expect(refuseExposure(host, false, false)).rejects.toThrow('is reachable from other machines')
    await refuseExposure(host, true, false)
    await refuseExposure(host, false, true)
  },
)

it.each(['127.0.0.1', '127.9.9.9', '::1', 'localhost', '::ffff:127.0.0.1'])('listens on %s', async (host) => {
  await refuseExposure(host, false, false)
})

it.each([
  [['--host', '0.0.0.0'], /--auth keys, listen on 127\.0\.0\.1, or.*--insecure/],
  [['--auth', 'on'], /one of off, keys, jwt, keys\+jwt/],
  [['--auth', 'jwt'], /needs --jwt-jwks/],
  [['--auth', 'jwt', '--jwt-jwks', 'https://x/jwks', '--jwt-issuer', 'x'], /needs --jwt-audience/],
  [['--jwt-jwks', 'http://elsewhere.example/jwks'], /must be an https URL/],
  [['--oidc-issuer', 'https://x', '--auth', 'keys'], /needs --oidc-client-id/],
  [['--oidc-issuer', 'https://x', '--oidc-client-id', 'x'], /needs access control/],
  [['--oidc-issuer', 'http://elsewhere.example'], /must be an https URL/],
  [
    ['--oidc-issuer', 'https://x', '--oidc-client-id', 'x', '--auth', 'keys', '--oidc-roles', 'ops=boss'],
    /"boss" is not a scope/,
  ],
  [['--payload-strict'], /needs --payload-keys/],
  [['--tls-cert', 'no.pem'], /--tls-cert needs --tls-key/],
  [['--tls-cert', 'none.pem', '--tls-key', 'no.pem'], /--tls-cert cannot be read/],
  [['--tls-cert', 'no.pem', '--tls-key', 'no.pem'], /are no matching PEM pair/],
  [['--token-secret', 'short'], /32 characters/],
  [['--cors-origins', '*'], /such as https:\/\/app\.example/],
  [['--redact', 'password'], /begin the path with one of payload/],
])('does not start with %j, and gives the reason', (flags, message) => {
  const args = [main, 'serve', '--port', '0', '--mqtt', 'off', '--engine', 'sqlite::memory:', ...flags]
  const { stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8', cwd: folder, timeout: 30_000 })
  expect([status, stderr]).toEqual([2, expect.stringMatching(message)])
  expect(stderr).not.toContain('    at ')
})

it('starts on all addresses with access control or with --insecure', async () => {
  for (const flags of [{ auth: 'keys' }, { auth: 'off', insecure: 'true' }]) {
    const guarded = await startServer({ host: '0.0.0.0', ...flags })
    await guarded.stop()
  }
})

it('shows no secret in the settings', () => {
  const secret = 's'.repeat(40)
  const args = [main, 'config', '--token-secret', secret, '--insecure']
  const { stdout } = spawnSync(process.execPath, args, { encoding: 'utf8', cwd: folder })
  expect(stdout).toMatch(/token-secret +\(set\)/)
  expect(stdout).toMatch(/insecure +true +--insecure/)
  expect(stdout).not.toContain(secret)
})
