import { spawn } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { vi } from 'vitest'
import { makeCertificate } from './certificate.ts'
import { pathOf } from './installed.ts'
import { freePort } from './ports.ts'
import { endAtExit, removeAtExit } from './processes.ts'

/** A real nginx with TLS on the loopback address. @param locations what stands in its `server` block */
export async function startNginx(locations: string): Promise<{ url: string; stop(): void }> {
  const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-nginx-')))
  const port = await freePort()
  const { cert, key } = makeCertificate()
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${folder}/${name};`)
    .join(' ')
  const config = `
    daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log;
    events {}
    http {
      access_log off; ${temporary}
      map $http_upgrade $connection_upgrade { default upgrade; '' close; }
      server {
        listen 127.0.0.1:${port} ssl; ssl_certificate ${cert}; ssl_certificate_key ${key};
        ${locations}
      }
    }`
  writeFileSync(join(folder, 'nginx.conf'), config)
  const args = ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', join(folder, 'error.log')]
  const server = endAtExit(spawn(pathOf('nginx')!, args, { stdio: ['ignore', 'inherit', 'inherit'] }))
  await vi.waitFor(
    () =>
      new Promise<void>((resolve, reject) => {
        const socket = connect(port, '127.0.0.1', () => resolve(socket.end() && undefined))
        socket.once('error', reject)
      }),
    { timeout: 30_000 },
  )
  return { url: `https://127.0.0.1:${port}`, stop: () => server.kill() }
}
