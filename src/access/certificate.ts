import { readFileSync } from 'node:fs'
import { createSecureContext, type Server } from 'node:tls'
import type { Logger } from 'pino'
import { XQueueError } from '../task/errors.ts'

/** A certificate and its private key, as PEM. */
interface Pair {
  cert: Buffer
  key: Buffer
}

/** Certificates are renewed days before they expire, so occasional checks are enough. */
const LOOK_MS = 10_000

/**
 * The certificate of a process's TLS ports. It reads the files again every 10 s and gives a new pair to each server, so
 * that a renewal needs no restart. It compares contents and watches no file, because an orchestrator replaces a mounted
 * secret through links. An invalid pair is reported once and not used; open connections keep the old one.
 */
export class Certificate {
  readonly #files: { cert: string; key: string }
  readonly #logger: Logger
  readonly #servers = new Set<Server>()
  readonly #timer: NodeJS.Timeout
  #pair: Pair
  #reported = ''

  /** @throws XQueueError `invalid_config` with the invalid file */
  constructor(files: { cert: string; key: string }, logger: Logger, lookMs: number = LOOK_MS) {
    this.#files = files
    this.#logger = logger
    this.#pair = readPair(files)
    this.#timer = setInterval(() => this.#look(), lookMs).unref()
  }

  /** Options to create a server. */
  get pair(): Pair {
    return this.#pair
  }

  /** Renews the certificate of this server until it closes. */
  follow(server: Server): void {
    this.#servers.add(server)
    server.once('close', () => this.#servers.delete(server))
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    try {
      const pair = readPair(this.#files)
      this.#reported = ''
      if (pair.cert.equals(this.#pair.cert) && pair.key.equals(this.#pair.key)) return
      this.#pair = pair
      for (const server of this.#servers) server.setSecureContext(pair)
      this.#logger.info({ file: this.#files.cert }, 'the certificate was renewed')
    } catch (error) {
      const { message } = error as Error
      if (message !== this.#reported) this.#logger.error(`the old certificate remains in use: ${message}`)
      this.#reported = message
    }
  }
}

function readPair(files: { cert: string; key: string }): Pair {
  const read = (name: 'cert' | 'key') => {
    try {
      return readFileSync(files[name])
    } catch (error) {
      throw new XQueueError('invalid_config', `--tls-${name} cannot be read: ${(error as Error).message}`)
    }
  }
  const pair = { cert: read('cert'), key: read('key') }
  try {
    createSecureContext(pair)
    return pair
  } catch (error) {
    const detail = `${files.cert} and ${files.key} are no matching PEM pair: ${(error as Error).message}`
    throw new XQueueError('invalid_config', detail)
  }
}
