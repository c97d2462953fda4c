import { execFileSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { removeAtExit } from './processes.ts'

/** A certificate for 127.0.0.1 that vouches for itself, and its key: PEM files. */
export function makeCertificate(): { cert: string; key: string } {
  const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-certificate-')))
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
  const ofKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key]
  const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2']
  execFileSync('openssl', ['req', '-x509', ...ofKey, '-out', cert, ...subject], { stdio: 'pipe' })
  return { cert, key }
}
