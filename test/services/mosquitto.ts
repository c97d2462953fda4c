import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { vi } from 'vitest'
import { pathOf } from './installed.ts'

/** A real broker on ports of its own, with TCP and WebSocket, that can be stopped and started again. */
export class Mosquitto {
  readonly #folder = mkdtempSync(join(tmpdir(), 'xqueue-mosquitto-'))
  #child: ChildProcess | undefined
  port = 0
  webSocketPort = 0
  tlsPort = 0
  /** Signs the certificate of the TLS listener. */
  readonly authority = join(this.#folder, 'cert.pem')

  get url(): string {
    return `mqtt://127.0.0.1:${this.port}`
  }

  /** @param more further lines of its configuration; `login` lets in only that user, with that password */
  async start({ more = [], login }: { more?: string[]; login?: [user: string, password: string] } = {}): Promise<void> {
    this.port = await freePort()
    this.webSocketPort = await freePort()
    this.tlsPort = await freePort()
    this.#makeCertificate()
    const passwords = join(this.#folder, 'passwords')
    if (login) {
      spawnSync(join(pathOf('mosquitto_sub')!, '..', 'mosquitto_passwd'), ['-c', '-b', passwords, ...login])
    }
    const lines = [
      login ? `allow_anonymous false\npassword_file ${passwords}` : 'allow_anonymous true',
      'max_queued_messages 0',
      ...(process.getuid?.() === 0 ? ['user root'] : []),
      ...more,
      `listener ${this.port} 127.0.0.1`,
      `listener ${this.webSocketPort} 127.0.0.1\nprotocol websockets`,
      `listener ${this.tlsPort} 127.0.0.1\ncertfile ${this.authority}\nkeyfile ${this.#key}`,
    ]
    writeFileSync(join(this.#folder, 'mosquitto.conf'), `${lines.join('\n')}\n`)
    await this.startAgain()
  }

  /** Writes who may read and publish what; returns the file, which counts from the next start on. */
  rules(text: string): string {
    const file = join(this.#folder, 'rules')
    writeFileSync(file, `${text}\n`, { mode: 0o600 })
    return file
  }

  get #key(): string {
    return join(this.#folder, 'key.pem')
  }

  #makeCertificate(): void {
    if (existsSync(this.authority)) return
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
    const files = ['-keyout', this.#key, '-out', this.authority]
    spawnSync(pathOf('openssl')!, ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...subject, ...files])
  }

  async startAgain(): Promise<void> {
    this.#child = spawn(pathOf('mosquitto')!, ['-c', join(this.#folder, 'mosquitto.conf')], { stdio: 'ignore' })
    await vi.waitFor(() => answers(this.port), { timeout: 20_000 })
  }

  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (!this.#child || this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill(signal)
    await once(this.#child, 'exit')
  }

  async remove(): Promise<void> {
    await this.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

async function answers(port: number): Promise<void> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect').finally(() => socket.destroy())
}
